//! The properties of datasets, as `zfs get` prints them.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonpipe::Exit;

use super::program::{Cause, zfs};

/// The properties of each dataset, by its name.
pub type Datasets = BTreeMap<String, Properties>;

/// The properties of a dataset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, Value>);

/// A property.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Value {
    text: String,
    /// Set on this dataset, and not inherited.
    is_local: bool,
}

impl Properties {
    /// Its text; `None` when it is not set.
    pub fn text(&self, property: &str) -> Option<&str> {
        let text = self.0.get(property)?.text.as_str();
        (text != "-").then_some(text)
    }

    /// Its text, if it was set on this dataset. Datasets inherit user properties.
    pub fn local(&self, property: &str) -> Option<&str> {
        let value = self.0.get(property)?;
        value.is_local.then_some(value.text.as_str())
    }

    /// A number of bytes; 0 when it is not set.
    pub fn bytes(&self, property: &str) -> u64 {
        let number = self.text(property).and_then(|text| text.parse().ok());
        number.unwrap_or(0)
    }

    /// A time that was set on this dataset.
    pub fn local_time(&self, property: &str) -> Option<SystemTime> {
        humantime::parse_rfc3339(self.local(property)?).ok()
    }
}

/// The form in which a time is stored, which sorts as text.
pub fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_nanos(time.max(UNIX_EPOCH)).to_string()
}

/// Reads `properties` of `dataset` and those below it; `None` when it does not exist.
/// `options` are those of zfs-get(8) that select: `-r`, `-d 1`, `-t volume`.
pub fn get(
    dataset: &str,
    options: &[&str],
    properties: &[&str],
) -> anyhow::Result<Option<Datasets>> {
    let properties = properties.join(",");
    let fixed = ["get", "-Hp", "-o", "name,property,source,value"];
    let arguments = [&fixed, options, &[&properties, dataset]].concat();
    match zfs(&arguments)? {
        Ok(text) => parse(&text).map(Some),
        Err(refusal) if refusal.cause() == Cause::Absent => Ok(None),
        Err(refusal) => Err(refusal.error(format_args!("looking at {dataset}"))),
    }
}

/// A user property may contain a line break, and so look like a property of another dataset, which
/// is then there twice.
fn parse(text: &str) -> anyhow::Result<Datasets> {
    let mut datasets = Datasets::new();
    for line in text.lines() {
        let mut fields = line.splitn(4, '\t');
        let (Some(name), Some(property), Some(source), Some(text)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let value = Value {
            text: text.to_owned(),
            is_local: source == "local",
        };
        let of = datasets.entry(name.to_owned()).or_default();
        if of.0.insert(property.to_owned(), value).is_some() {
            return Err(Exit::Data.error(format_args!(
                "looking at {name}: two values of {property}; a user property of some dataset has a line break in it"
            )));
        }
    }
    Ok(datasets)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TEXT: &str = "\
tank/user/T/windows\tused\t-\t4096
tank/user/T/windows\torigin\t-\ttank/base/windows@7
tank/user/T/windows\tbr.ufscar:lastlogin\tlocal\t2026-11-30T09:17:42.000000001Z
tank/user/T/linux\tused\t-\t0
tank/user/T/linux\torigin\t-\t-
tank/user/T/linux\tbr.ufscar:lastlogin\tinherited from tank/user\t2026-11-30T09:17:42Z
";

    #[test]
    fn an_inherited_login_is_none() {
        let datasets = parse(TEXT).unwrap();
        let windows = &datasets["tank/user/T/windows"];
        assert_eq!(windows.bytes("used"), 4096);
        assert_eq!(windows.text("origin"), Some("tank/base/windows@7"));
        let login = UNIX_EPOCH + Duration::new(1_796_030_262, 1);
        assert_eq!(windows.local_time("br.ufscar:lastlogin"), Some(login));
        assert_eq!(time(login), "2026-11-30T09:17:42.000000001Z");
        let linux = &datasets["tank/user/T/linux"];
        assert_eq!(linux.local_time("br.ufscar:lastlogin"), None);
        assert_eq!(linux.text("origin"), None);
        assert_eq!(linux.text("volsize"), None);
    }

    #[test]
    fn a_line_break_in_a_property_forges_no_other() {
        let forged =
            "tank/user/T/windows\tbr.ufscar:lastlogin\tlocal\tx\ntank/user/T/linux\tused\t-\t1\n";
        assert!(parse(&(forged.to_owned() + TEXT)).is_err());
        let garbage = "tank/user/T/a\tbr.ufscar:lastlogin\tlocal\tx\n\ny\n\tz\n";
        let datasets = parse(garbage).unwrap();
        let found = datasets["tank/user/T/a"].local_time("br.ufscar:lastlogin");
        assert_eq!((found, datasets.len()), (None, 1));
    }
}
