//! A whole page: its head, its figures in tiles, and its sections.

use base64::prelude::{BASE64_STANDARD, Engine};
use sha2::{Digest, Sha256};

use crate::html::{Content, Element, Html, element, html};

const STYLE: &str = include_str!("style.css");

/// A page.
#[derive(Clone, Debug)]
pub struct Page {
    /// The title of its window.
    pub title: String,
    /// The kind of page, above its heading.
    pub kind: &'static str,
    /// Its heading.
    pub heading: String,
    /// The line below.
    pub lead: String,
    /// The most important figures.
    pub tiles: Vec<Tile>,
    /// Whether the page begins with links to the sections.
    pub has_contents: bool,
    /// Its sections.
    pub sections: Vec<Section>,
}

/// A figure in large print, with a caption.
#[derive(Clone, Debug)]
pub struct Tile {
    /// The figure.
    pub value: String,
    /// Its meaning.
    pub caption: String,
    /// How it looks.
    pub look: Look,
}

/// The look of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Ordinary.
    Plain,
    /// A good value.
    Good,
    /// A bad value.
    Bad,
}

/// A part of a page that a link can lead to.
#[derive(Clone, Debug)]
pub struct Section {
    id: &'static str,
    title: String,
    content: Html,
}

impl Tile {
    /// A tile.
    pub fn new(value: impl Into<String>, caption: impl Into<String>, look: Look) -> Tile {
        Tile {
            value: value.into(),
            caption: caption.into(),
            look,
        }
    }

    fn element(&self) -> Element {
        let class = match self.look {
            Look::Plain => "",
            Look::Good => "good",
            Look::Bad => "bad",
        };
        element("li", (element("b", &self.value), &self.caption)).class(class)
    }
}

impl Section {
    /// A section; its id is unique on the page.
    pub fn new(id: &'static str, title: impl Into<String>, content: impl Content) -> Section {
        Section {
            id,
            title: title.into(),
            content: html(content),
        }
    }
}

impl Page {
    /// The page's file.
    pub fn write(self) -> String {
        // Only its own style: injected markup could not load, run, send or restyle anything.
        let style = BASE64_STANDARD.encode(Sha256::digest(STYLE));
        let title = html(&self.title).into_string();
        let mut page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{style}'; \
             base-uri 'none'; form-action 'none'\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head>\n<body>"
        );
        self.main().write(&mut page);
        page + "</body></html>\n"
    }

    fn main(self) -> Element {
        let lines = (
            element("p", self.kind).class("kind"),
            element("h1", self.heading),
            element("p", self.lead),
        );
        let mut main = html(element("header", lines));
        main.end_line();
        main.add(
            element(
                "ul",
                self.tiles.iter().map(Tile::element).collect::<Vec<_>>(),
            )
            .class("tiles"),
        );
        main.end_line();
        if self.has_contents {
            let link = |section: &Section| {
                element("a", &section.title).with("href", format_args!("#{}", section.id))
            };
            let links: Vec<_> = self
                .sections
                .iter()
                .map(|section| element("li", link(section)))
                .collect();
            main.add(element("nav", element("ul", links)));
            main.end_line();
        }
        for Section { id, title, content } in self.sections {
            let heading = element("h2", title).with("id", format_args!("{id}-title"));
            let section = element("section", (heading, content)).with("id", id);
            main.add(section.with("aria-labelledby", format_args!("{id}-title")));
            main.end_line();
        }
        element("main", main)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_allows_its_own_style_and_nothing_else() {
        let page = Page {
            title: "<title>".into(),
            kind: "Test",
            heading: "A page".into(),
            lead: "of one section".into(),
            tiles: vec![Tile::new("1", "section", Look::Good)],
            has_contents: true,
            sections: vec![Section::new("one", "First & last", element("p", "text"))],
        };
        let page = page.write();
        let between = |start: &str, end: &str| {
            page.split(start)
                .nth(1)
                .unwrap()
                .split(end)
                .next()
                .unwrap()
                .to_owned()
        };
        let style = BASE64_STANDARD.encode(Sha256::digest(between("<style>", "</style>")));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'"
        );
        assert_eq!(
            between("http-equiv=\"Content-Security-Policy\" content=\"", "\""),
            policy
        );
        for there in [
            "<title>&lt;title&gt;</title>",
            "<li class=\"good\"><b>1</b>section</li>",
            "<nav><ul><li><a href=\"#one\">First &amp; last</a></li></ul></nav>",
            "<section id=\"one\" aria-labelledby=\"one-title\"><h2 id=\"one-title\">First &amp; last</h2><p>text</p></section>\n",
        ] {
            assert!(page.contains(there), "{there}: {page}");
        }
    }
}
