//! What a failure means to the user at the seat: one sentence or two for each, with what to do.

use jsonpipe::{Answer, Exit, Pipe};
use screen::{Explanation, Language, Words};
use serde::Deserialize;

use crate::report::Reason;

/// The section `login` of a session's document, as far as it is read here.
#[derive(Deserialize)]
struct Login {
    authenticated: bool,
    reason: Option<Reason>,
}

/// The section `guest` of vm-passthrough.
#[derive(Deserialize)]
struct Guest {
    ended: Option<Ended>,
}

/// How the guest ended.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ended {
    Shutdown,
    Stopped,
    Died,
}

/// Why a session did not go as its user wanted.
#[derive(Clone, Copy)]
enum Cause {
    /// The network refused him.
    Refused(Reason),
    /// He was let in, and his guest did not start.
    NotStarted,
    /// His guest died.
    Died,
    /// All else has only a status, and no document.
    Status(Exit),
}

/// Writes the section `explanation` about a session that ended with `status`.
pub fn explain(pipe: &Pipe, status: u8) -> anyhow::Result<Answer> {
    let mut document = pipe
        .owning("explanation")
        .document("the document of a session")?;
    let cause = cause(document.read("login")?, document.read("guest")?, status);
    document.set("explanation", &explanation(cause, Language::of_process())?)?;
    Ok(Answer::yes(document))
}

fn cause(login: Option<Login>, guest: Option<Guest>, status: u8) -> Option<Cause> {
    // With a guest that ended, the status is of what came after it, or of a signal that a technician
    // sent.
    match guest.and_then(|guest| guest.ended) {
        Some(Ended::Shutdown | Ended::Stopped) => return None,
        Some(Ended::Died) => return Some(Cause::Died),
        None => {}
    }
    match (Exit::of_number(status), login) {
        (Exit::Done, _) => None,
        (Exit::No, Some(login)) if login.authenticated => Some(Cause::NotStarted),
        (Exit::No, Some(login)) => Some(match login.reason {
            Some(reason) => Cause::Refused(reason),
            None => Cause::Status(Exit::Software),
        }),
        (exit, _) => Some(Cause::Status(exit)),
    }
}

fn explanation(cause: Option<Cause>, language: Language) -> anyhow::Result<Explanation> {
    let Some(cause) = cause else {
        return Ok(Explanation::default());
    };
    let (words, name) = match cause {
        Cause::Refused(reason) => (
            of_reason(reason),
            serde_json::to_string(&reason)?.replace('"', ""),
        ),
        Cause::NotStarted => (
            words(
                "This computer could not start the system. Use another computer, and call a technician.",
                "Este computador não conseguiu iniciar o sistema. Use outro e chame um técnico.",
            ),
            "not_started".to_owned(),
        ),
        Cause::Died => (
            words(
                "The system stopped unexpectedly. What it had written is kept: log in again.",
                "O sistema parou inesperadamente. O que ele gravou está guardado: entre de novo.",
            ),
            "died".to_owned(),
        ),
        Cause::Status(exit) => (of_status(exit), format!("status {}", exit as u8)),
    };
    Ok(Explanation {
        text: Some(words.of(language).to_owned()),
        cause: Some(name),
    })
}

const fn words(english: &'static str, portuguese: &'static str) -> Words {
    Words {
        english,
        portuguese,
    }
}

fn of_reason(reason: Reason) -> Words {
    match reason {
        Reason::BadUserName => words(
            "Type your whole user name, as in name@institution, in plain letters.",
            "Digite o nome de usuário inteiro, como em nome@instituição, em letras simples.",
        ),
        Reason::UnknownRealm => words(
            "This computer does not know the institution after the @. Check its spelling.",
            "Este computador não conhece a instituição depois do @. Confira como está escrita.",
        ),
        Reason::NotAllowed => words(
            "This user may not use this computer. Ask the staff of the lab.",
            "Este usuário não pode usar este computador. Pergunte à equipe do laboratório.",
        ),
        Reason::Rejected => words(
            "Your institution refused the user name or the password. Type them again.",
            "Sua instituição recusou o usuário ou a senha. Digite-os de novo.",
        ),
        Reason::ServerNotTrusted | Reason::ServerWrongName => words(
            "The server that answered is not your institution's. Your password was not sent. Call a technician.",
            "O servidor que respondeu não é o da sua instituição. Sua senha não foi enviada. Chame um técnico.",
        ),
        Reason::ServerExpired => words(
            "Your institution's certificate has expired, or this computer's clock is wrong. Call a technician.",
            "O certificado da sua instituição venceu, ou o relógio deste computador está errado. Chame um técnico.",
        ),
        Reason::NoAgreement => words(
            "This computer and your institution found no common way to log in. Call a technician.",
            "Este computador e sua instituição não têm um modo comum de entrada. Chame um técnico.",
        ),
        Reason::RealmRejected => words(
            "The network does not know the institution after the @. Check its spelling; if it is right, call a technician.",
            "A rede não conhece a instituição depois do @. Confira como está escrita; se estiver certa, chame um técnico.",
        ),
        Reason::ServerSilent => words(
            "Your institution cannot be reached at the moment. Try again in a few minutes.",
            "Sua instituição não pode ser contatada no momento. Tente de novo em alguns minutos.",
        ),
        Reason::No8021x => words(
            "The network does not ask this computer who you are. Use another computer, and call a technician.",
            "A rede não pergunta a este computador quem você é. Use outro computador e chame um técnico.",
        ),
        Reason::NoCarrier => words(
            "There is no network. Plug the network cable in, or use another computer.",
            "Não há rede. Ligue o cabo de rede ou use outro computador.",
        ),
    }
}

fn of_status(exit: Exit) -> Words {
    match exit {
        // There is an explanation only for what is not done.
        Exit::Done | Exit::Usage | Exit::Software => words(
            "A program of this computer failed. Try again; if it fails again, call a technician.",
            "Um programa deste computador falhou. Tente de novo; se falhar outra vez, chame um técnico.",
        ),
        Exit::No => words(
            "This computer could not end the session before yours. Use another one, and call a technician.",
            "Este computador não conseguiu encerrar a sessão anterior. Use outro e chame um técnico.",
        ),
        Exit::Data | Exit::Config => words(
            "This computer, or the system you chose, is set up wrongly. Use another computer, and call a technician.",
            "Este computador, ou o sistema escolhido, está mal configurado. Use outro computador e chame um técnico.",
        ),
        Exit::NoInput => words(
            "This computer does not have what you chose. Choose another system, or an earlier state of your own files.",
            "Este computador não tem o que você escolheu. Escolha outro sistema ou um estado que seus arquivos têm.",
        ),
        Exit::Unavailable => words(
            "A program that this computer needs is not running. Use another computer, and call a technician.",
            "Um programa de que este computador precisa não está ativo. Use outro computador e chame um técnico.",
        ),
        Exit::CantCreate => words(
            "This computer's disk has no room left. Use another computer, and call a technician.",
            "Não há mais espaço no disco deste computador. Use outro computador e chame um técnico.",
        ),
        Exit::Io => words(
            "This computer's disk could not be read or written. Use another computer, and call a technician.",
            "O disco deste computador não pôde ser lido ou gravado. Use outro computador e chame um técnico.",
        ),
        Exit::TemporaryFailure => words(
            "This computer is busy. Try again in a minute.",
            "Este computador está ocupado. Tente de novo em um minuto.",
        ),
        Exit::NoPermission => words(
            "This computer's programs lack a right that they need. Use another computer, and call a technician.",
            "Falta um direito aos programas deste computador. Use outro computador e chame um técnico.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonpipe::Document;

    fn explained(document: &str, status: u8) -> Explanation {
        let document = Document::parse(document, "explanation").unwrap();
        let (login, guest) = (document.read("login"), document.read("guest"));
        let cause = cause(login.unwrap(), guest.unwrap(), status);
        explanation(cause, Language::English).unwrap()
    }

    #[test]
    fn a_cause_is_a_reason_a_guest_that_died_or_a_status() {
        let refused = r#"{"login":{"schema":1,"authenticated":false,"reason":"no_8021x"}}"#;
        let ended = |how| {
            format!(
                r#"{{"login":{{"schema":1,"authenticated":true}},"guest":{{"schema":1,"ended":"{how}"}}}}"#
            )
        };
        for (document, status, cause) in [
            ("{}", 0, None),
            (refused, 1, Some("no_8021x")),
            (&ended("shutdown"), 0, None),
            (&ended("shutdown"), 1, None),
            (&ended("stopped"), 1, None),
            (&ended("stopped"), 143, None),
            (&ended("shutdown"), 74, None),
            (&ended("died"), 1, Some("died")),
            (&ended("died"), 143, Some("died")),
            (
                r#"{"login":{"schema":1,"authenticated":true}}"#,
                1,
                Some("not_started"),
            ),
            ("{}", 1, Some("status 1")),
            ("{}", 73, Some("status 73")),
            ("{}", 70, Some("status 70")),
            ("{}", 127, Some("status 70")),
            ("{}", 137, Some("status 70")),
        ] {
            let found = explained(document, status);
            assert_eq!(found.cause.as_deref(), cause, "{document} {status}");
            assert_eq!(found.text.is_some(), cause.is_some());
        }
    }

    #[test]
    fn english_needs_no_more_than_ascii() {
        for status in [1, 2, 65, 66, 69, 70, 73, 74, 75, 77, 78] {
            assert!(of_status(Exit::of_number(status)).english.is_ascii());
        }
    }
}
