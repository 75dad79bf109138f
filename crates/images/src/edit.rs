//! Edits bases.ini as text: one base is added or changed, and everything else stays as it was
//! written, including comments.

use std::path::Path;

use jsonpipe::Exit;

use crate::bases::{self, Entry};

/// The text with `new` added to `text`, and the same bases as a list. If `new` is the default, no
/// other base remains it. Status 78 when `text` is invalid, 65 when `new` cannot be expressed in
/// it.
pub fn put_in(path: &Path, text: &str, new: &Entry) -> anyhow::Result<(String, Vec<Entry>)> {
    let mut bases = bases::parse(path, text)?;
    // The only base is the default without a key, and must remain it.
    let was_alone = bases.len() == 1;
    bases.retain(|base| base.name != new.name);
    let mut written = text.to_owned();
    for other in &mut bases {
        if other.default && (new.default || was_alone) {
            other.default = !new.default;
            written = set(
                &written,
                &other.name,
                vec![("default", other.default.to_string())],
            );
        }
    }
    bases.push(new.clone());
    bases.sort_by(|a, b| a.name.cmp(&b.name));
    if let [only] = bases.as_mut_slice() {
        only.default = true;
    }
    let keys = vec![
        ("name", new.title.clone()),
        ("ostype", new.ostype.clone()),
        ("default", new.default.to_string()),
        ("generation", new.generation.to_string()),
    ];
    written = set(&written, &new.name, keys);
    match bases::parse(path, &written) {
        Ok(read) if read == bases => Ok((written, bases)),
        _ => Err(Exit::Data.error(format_args!(
            "image.manifest: {} cannot be said in {}",
            new.name,
            path.display()
        ))),
    }
}

/// Sets keys in the section of a base: in their lines where they exist, otherwise at the section's
/// end, which may need a newline first. Every line keeps its line ending; new ones have that of the
/// first.
fn set(text: &str, base: &str, mut keys: Vec<(&str, String)>) -> String {
    let own = format!("base.{base}");
    let end = if text
        .split_inclusive('\n')
        .next()
        .is_some_and(|line| line.ends_with("\r\n"))
    {
        "\r\n"
    } else {
        "\n"
    };
    let mut lines: Vec<String> = Vec::new();
    let mut in_own = false;
    let mut end_of_own = None;
    for line in text.split_inclusive('\n') {
        let said = line.trim();
        let is_comment = said.is_empty() || said.starts_with(['#', ';']);
        let key = said.split_once('=').map(|(key, _)| key.trim());
        let mut line = line.to_owned();
        if let Some(name) = said
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'))
        {
            in_own = name.trim() == own;
        } else if let Some(at) = keys
            .iter()
            .position(|(name, _)| in_own && !is_comment && Some(*name) == key)
        {
            let (key, value) = keys.remove(at);
            let end = line[line.trim_end_matches(['\r', '\n']).len()..].to_owned();
            line = format!("{key} = {value}{end}");
        }
        lines.push(line);
        if in_own && !is_comment {
            end_of_own = Some(lines.len());
        }
    }
    let at = end_of_own.unwrap_or_else(|| {
        if !lines.is_empty() {
            lines.push(end.to_owned());
        }
        lines.push(format!("[{own}]{end}"));
        lines.len()
    });
    lines.splice(
        at..at,
        keys.into_iter()
            .map(|(key, value)| format!("{key} = {value}{end}")),
    );
    let last = lines.len() - 1; // at least the section's own
    for line in lines
        .iter_mut()
        .take(last)
        .filter(|line| !line.ends_with('\n'))
    {
        line.push_str(end); // the last one may lack it
    }
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use manifest::NUMBER_MAX;
    use proptest::prelude::*;

    fn base(name: &str, title: &str, default: bool, generation: u64) -> Entry {
        Entry {
            name: name.into(),
            title: title.into(),
            ostype: "windows".into(),
            default,
            generation,
        }
    }

    fn edited(text: &str, new: &Entry) -> String {
        put_in(Path::new("bases.ini"), text, new).unwrap().0
    }

    #[test]
    fn everything_else_stays_as_it_was_written() {
        let text = "# the lab's bases\n\n[base.linux]\n; ours\nname=Debian 12\nostype = linux\n default=true\ngeneration=3\n\n\
                    [base.windows]\n# since spring\nostype = other\ngeneration=7\nname = Windows 10\n\n# the end\n";
        let expected = "# the lab's bases\n\n[base.linux]\n; ours\nname=Debian 12\nostype = linux\ndefault = false\ngeneration=3\n\n\
                        [base.windows]\n# since spring\nostype = windows\ngeneration = 8\nname = Windows 11\ndefault = true\n\n# the end\n";
        assert_eq!(
            edited(text, &base("windows", "Windows 11", true, 8)),
            expected
        );
        assert_eq!(
            edited(expected, &base("windows", "Windows 11", true, 8)),
            expected
        );
        let without_default = edited(text, &base("windows", "Windows 11", false, 8));
        assert!(
            without_default.contains(" default=true\n"),
            "{without_default}"
        );
    }

    #[test]
    fn a_new_base_has_a_section_at_the_end() {
        let first = "[base.a]\nname = A\nostype = windows\ndefault = false\ngeneration = 1\n";
        assert_eq!(edited("", &base("a", "A", false, 1)), first);
        let second = edited(first, &base("b", "[base.c]", true, 2));
        let alone = "[base.l]\nname=L\nostype=l\ngeneration=3";
        let beside = edited(alone, &base("a", "A", false, 1));
        assert_eq!(
            beside,
            format!("{alone}\ndefault = true\n\n{first}"),
            "what was the default stays it"
        );
        assert_eq!(
            second,
            format!(
                "{first}\n[base.b]\nname = [base.c]\nostype = windows\ndefault = true\ngeneration = 2\n"
            )
        );
    }

    #[test]
    fn every_line_keeps_its_end() {
        let text = "# ours\r\n[base.linux]\r\nname=L\r\nostype=l\r\ngeneration=3\r\n; mixed\n";
        let expected = "# ours\r\n[base.linux]\r\nname = L\r\nostype = windows\r\ngeneration = 4\r\ndefault = true\r\n; mixed\n";
        assert_eq!(edited(text, &base("linux", "L", true, 4)), expected);
        let beside = edited(text, &base("a", "A", false, 1));
        assert_eq!(
            beside,
            text.replace("n=3\r\n", "n=3\r\ndefault = true\r\n")
                + "\r\n[base.a]\r\nname = A\r\nostype = windows\r\ndefault = false\r\ngeneration = 1\r\n"
        );
        let unfinished = "[base.a]\nname=A\nostype=windows\ndefault=true\ngeneration=1";
        assert_eq!(
            edited(unfinished, &base("a", "A", true, 2)),
            unfinished
                .replace("=1", " = 2")
                .replace("name=A", "name = A")
                .replace("e=w", "e = w")
                .replace("t=t", "t = t")
        );
    }

    #[test]
    fn a_file_that_is_not_right_is_not_made_right() {
        for text in ["[base.a]\n", "[x]\n", "name=x\n"] {
            let error =
                put_in(Path::new("bases.ini"), text, &base("b", "B", false, 1)).unwrap_err();
            assert_eq!(Exit::of(&error), Exit::Config);
        }
        for title in ["a\nb", "a\\", " a", ""] {
            let error =
                put_in(Path::new("bases.ini"), "", &base("b", title, false, 1)).unwrap_err();
            assert_eq!(Exit::of(&error), Exit::Data, "{title:?}");
        }
    }

    proptest! {
        #[test]
        fn any_title_comes_back_or_is_refused(title in "\\PC{1,40}") {
            if let Ok((text, bases)) = put_in(Path::new("bases.ini"), "", &base("b", &title, false, 1)) {
                prop_assert_eq!(bases::parse(Path::new("bases.ini"), &text).unwrap(), bases);
            }
        }

        #[test]
        fn any_file_that_is_right_can_be_edited(
            others in proptest::collection::vec(("[a-z]{1,8}", "[^\\p{C}\\\\]{1,20}", 0..NUMBER_MAX), 0..5), default in any::<bool>(),
        ) {
            let mut text = String::from("; mine");
            for (name, title, generation) in &others {
                text += &format!("\n[base.{name}]\nname={title}\nostype=x\ngeneration={generation}\n#{title}");
            }
            prop_assume!(bases::parse(Path::new("bases.ini"), &text).is_ok());
            let (text, bases) = put_in(Path::new("bases.ini"), &text, &base("windows", "W", default, 9)).unwrap();
            prop_assert_eq!(bases::parse(Path::new("bases.ini"), &text).unwrap(), bases);
        }
    }
}
