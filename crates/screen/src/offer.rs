//! What a user can choose from: the bases, and the earlier contents of the disks on them.

use jsonpipe::Document;
use serde::{Deserialize, Serialize};

use crate::words::{Language, Words};

/// That of the section `catalog`.
pub const CATALOG_SCHEMA: u64 = 2;

/// The section `catalog` of `cowvol list`, as far as it is read here.
#[derive(Serialize, Deserialize)]
pub struct Catalog {
    bases: Vec<Base>,
}

#[derive(Serialize, Deserialize)]
struct Base {
    name: String,
    title: String,
    default: bool,
    volumes: Vec<Volume>,
}

#[derive(Serialize, Deserialize)]
struct Volume {
    #[serde(skip_serializing_if = "Option::is_none")]
    restore_point_at: Option<String>,
}

/// An earlier content of a disk, of `choice.restore`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Restore {
    Yesterday,
    Clean,
}

const YESTERDAY: Words = Words {
    english: ", as before the last day you used it",
    portuguese: ", como antes do último dia em que você o usou",
};
const CLEAN: Words = Words {
    english: ", clean: your files on this computer are removed",
    portuguese: ", limpo: seus arquivos neste computador são apagados",
};

/// One line of the list, as the section `choice`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    base: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    restore: Option<Restore>,
    #[serde(skip)]
    title: String,
}

impl Offer {
    /// What the user reads of it.
    pub fn text(&self, language: Language) -> String {
        let restore = self.restore.map(|restore| match restore {
            Restore::Yesterday => YESTERDAY.of(language),
            Restore::Clean => CLEAN.of(language),
        });
        // A title is the work of whoever made the image.
        jsonpipe::shown(&self.title).into_owned() + restore.unwrap_or_default()
    }
}

/// The catalog of a document, if it has one. Status 65 where it is not valid.
pub fn read(document: &Document) -> anyhow::Result<Option<Catalog>> {
    document.read_with_schema("catalog", CATALOG_SCHEMA)
}

/// The offers of a catalog, the preselected one first, earlier contents last.
pub fn all(catalog: &Catalog) -> Vec<Offer> {
    let mut bases: Vec<&Base> = catalog.bases.iter().collect();
    bases.sort_by_key(|base| !base.default);
    let present = bases.iter().map(|base| (*base, None));
    let earlier = bases
        .iter()
        .filter(|base| {
            base.volumes
                .iter()
                .any(|volume| volume.restore_point_at.is_some())
        })
        .flat_map(|base| {
            [Restore::Yesterday, Restore::Clean].map(|restore| (*base, Some(restore)))
        });
    present
        .chain(earlier)
        .map(|(base, restore)| Offer {
            base: base.name.clone(),
            restore,
            title: base.title.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(catalog: &str) -> Vec<String> {
        let document = Document::parse(&format!(r#"{{"catalog":{catalog}}}"#), "choice").unwrap();
        let told = |offer: &Offer| serde_json::to_string(offer).unwrap();
        let catalog = read(&document).unwrap().unwrap();
        all(&catalog).iter().map(told).collect()
    }

    fn base(name: &str, default: bool, volumes: &str) -> String {
        format!(
            r#"{{"name":"{name}","title":"T\u001b[2J{name}","ostype":"linux","default":{default},"volumes":[{volumes}]}}"#
        )
    }

    #[test]
    fn the_default_is_first_and_earlier_contents_are_last_where_one_exists() {
        let bases = [
            base("linux", false, r#"{"token":"x","in_use":false}"#),
            base(
                "windows",
                true,
                r#"{"restore_point_at":"2026-11-30T08:00:00Z"}"#,
            ),
        ];
        let catalog = format!(
            r#"{{"schema":2,"changed":false,"bases":[{}]}}"#,
            bases.join(",")
        );
        assert_eq!(
            offers(&catalog),
            [
                r#"{"base":"windows"}"#,
                r#"{"base":"linux"}"#,
                r#"{"base":"windows","restore":"yesterday"}"#,
                r#"{"base":"windows","restore":"clean"}"#
            ]
        );
    }

    #[test]
    fn a_title_cannot_write_over_the_screen() {
        let catalog = format!(r#"{{"schema":2,"bases":[{}]}}"#, base("a", true, ""));
        let document = Document::parse(&format!(r#"{{"catalog":{catalog}}}"#), "choice").unwrap();
        let offers = all(&read(&document).unwrap().unwrap());
        assert_eq!(offers[0].text(Language::English), "T\u{fffd}[2Ja");
    }
}
