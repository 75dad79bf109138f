//! What users read, in their language.

use std::env;

use serde::{Deserialize, Serialize};

/// A language of this screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// For every locale but those below.
    English,
    /// For the locales `pt`, `pt_BR`, `pt_PT`.
    Portuguese,
}

impl Language {
    /// The language of the locale of this process.
    pub fn of_process() -> Language {
        Language::of(|name| env::var(name).ok())
    }

    /// The language of a locale: of its variables, the first that is set counts (POSIX, Base
    /// Definitions, section 8.2).
    fn of(variable: impl Fn(&str) -> Option<String>) -> Language {
        let locale = ["LC_ALL", "LC_MESSAGES", "LANG"]
            .into_iter()
            .filter_map(variable)
            .find(|locale| !locale.is_empty())
            .unwrap_or_default();
        match locale.split(['_', '.', '@']).next() {
            Some("pt") => Language::Portuguese,
            _ => Language::English,
        }
    }
}

/// A text in each language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// In English, ASCII only: a console without a locale may show no other characters.
    pub english: &'static str,
    /// In Portuguese.
    pub portuguese: &'static str,
}

impl Words {
    /// The text in one language.
    pub fn of(self, language: Language) -> &'static str {
        match language {
            Language::English => self.english,
            Language::Portuguese => self.portuguese,
        }
    }
}

/// The section `explanation`: why the session before did not go as its user wanted.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Explanation {
    /// One or two sentences for the user; absent when there is nothing to explain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The cause in one word, for the technician whom the user calls; absent together with `text`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_decides() {
        for (set, language) in [
            (&[][..], Language::English),
            (&[("LANG", "pt_BR.UTF-8")], Language::Portuguese),
            (&[("LANG", "pt")], Language::Portuguese),
            (&[("LANG", "ptx_BR")], Language::English),
            (&[("LANG", "C.UTF-8")], Language::English),
            (
                &[("LANG", "en_US.UTF-8"), ("LC_MESSAGES", "pt_PT@euro")],
                Language::Portuguese,
            ),
            (
                &[("LC_ALL", "C"), ("LC_MESSAGES", "pt_PT")],
                Language::English,
            ),
            (
                &[("LC_ALL", ""), ("LANG", "pt_BR.UTF-8")],
                Language::Portuguese,
            ),
        ] {
            let found = Language::of(|name| {
                let variable = set.iter().find(|(set, _)| *set == name)?;
                Some(variable.1.to_owned())
            });
            assert_eq!(found, language, "{set:?}");
        }
    }
}
