//! Well-formed HTML by construction: text is escaped, and elements are closed.

use std::fmt::{self, Display, Write};

use jsonpipe::is_hidden;

/// A finished piece of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Html(String);

impl Html {
    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends content.
    pub fn add(&mut self, content: impl Content) {
        content.write(&mut self.0);
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }

    /// A line break in the file, invisible on the page.
    pub(crate) fn end_line(&mut self) {
        self.0.push('\n');
    }
}

/// The possible content of a page: text, numbers, elements, and combinations of them as tuples and
/// lists.
pub trait Content {
    /// Writes the content as HTML.
    fn write(self, page: &mut String);
}

/// Any content as a finished piece.
pub fn html(content: impl Content) -> Html {
    let mut html = Html::default();
    html.add(content);
    html
}

/// A text as HTML, without markup and without invisible characters.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            c if is_hidden(c) => f.write_char('\u{fffd}'),
            c => f.write_char(c),
        })
    }
}

impl Content for &str {
    fn write(self, page: &mut String) {
        let _ = write!(page, "{}", Escaped(self)); // writing to a String cannot fail
    }
}

impl Content for &String {
    fn write(self, page: &mut String) {
        self.as_str().write(page);
    }
}

impl Content for String {
    fn write(self, page: &mut String) {
        self.as_str().write(page);
    }
}

impl Content for u64 {
    fn write(self, page: &mut String) {
        let _ = write!(page, "{self}");
    }
}

impl Content for usize {
    fn write(self, page: &mut String) {
        let _ = write!(page, "{self}");
    }
}

impl Content for () {
    fn write(self, _: &mut String) {}
}

impl Content for Html {
    fn write(self, page: &mut String) {
        page.push_str(&self.0);
    }
}

impl<C: Content> Content for Option<C> {
    fn write(self, page: &mut String) {
        if let Some(content) = self {
            content.write(page);
        }
    }
}

impl<C: Content> Content for Vec<C> {
    fn write(self, page: &mut String) {
        self.into_iter().for_each(|content| content.write(page));
    }
}

impl<A: Content, B: Content> Content for (A, B) {
    fn write(self, page: &mut String) {
        self.0.write(page);
        self.1.write(page);
    }
}

impl<A: Content, B: Content, C: Content> Content for (A, B, C) {
    fn write(self, page: &mut String) {
        (self.0, self.1).write(page);
        self.2.write(page);
    }
}

impl<A: Content, B: Content, C: Content, D: Content> Content for (A, B, C, D) {
    fn write(self, page: &mut String) {
        (self.0, self.1).write(page);
        (self.2, self.3).write(page);
    }
}

/// An element: `<name class="…">…</name>`.
#[derive(Clone, Debug)]
pub struct Element {
    name: &'static str,
    attributes: String,
    content: Html,
}

/// An element with content; `()` for none.
pub fn element(name: &'static str, content: impl Content) -> Element {
    Element {
        name,
        attributes: String::new(),
        content: html(content),
    }
}

/// An addition in small print.
pub fn small(content: impl Content) -> (&'static str, Element) {
    (" ", element("small", content))
}

impl Element {
    /// Adds an attribute.
    pub fn with(mut self, attribute: &'static str, value: impl Display) -> Element {
        let _ = write!(
            self.attributes,
            " {attribute}=\"{}\"",
            Escaped(&value.to_string())
        );
        self
    }

    /// Sets the class, whose look style.css defines.
    pub fn class(self, class: &str) -> Element {
        if class.is_empty() {
            self
        } else {
            self.with("class", class)
        }
    }
}

impl Content for Element {
    fn write(self, page: &mut String) {
        let Element {
            name,
            attributes,
            content,
        } = self;
        let _ = match name {
            // Shapes are empty, and there are thousands.
            "path" | "rect" if content.is_empty() => write!(page, "<{name}{attributes}/>"),
            _ => write!(page, "<{name}{attributes}>{}</{name}>", content.0),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_no_markup() {
        let evil = "<script>\"&'\0\u{202e}\u{200b}";
        let escaped = "&lt;script&gt;&quot;&amp;&#39;\u{fffd}\u{fffd}\u{fffd}";
        assert_eq!(html(evil).0, escaped);
        let both = format!("<p class=\"{escaped}\">{escaped}</p>");
        assert_eq!(html(element("p", evil).class(evil)).0, both);
    }

    #[test]
    fn elements_are_closed() {
        let shape = element("rect", ()).with("width", 1.5);
        let list = element("ul", vec![element("li", (1u64, small("one")))]);
        assert_eq!(
            html((shape, Some(list), "a".to_owned(), None::<&str>)).0,
            "<rect width=\"1.5\"/><ul><li>1 <small>one</small></li></ul>a"
        );
        assert_eq!(html(element("p", ()).class("")).0, "<p></p>");
    }

    proptest! {
        #[test]
        fn any_text_stays_text(text in any::<String>()) {
            let html = html(&text).0;
            prop_assert!(!html.contains(['<', '>', '"', '\'']) && !html.contains(is_hidden), "{}", html);
        }
    }
}
