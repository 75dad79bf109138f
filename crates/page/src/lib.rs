//! Pages for people: one HTML file each, for a screen, light or dark, and for paper, which loads
//! and runs nothing. Belongs here: the form of a page, its style, its drawings, numbers in words.
//! Not: the content of a page.
//!
//! Names come from machines and from configuration, and are untrusted. So a page is built only from
//! [`Content`]: text, which is escaped, and [`Element`]s, which close what they open. No other
//! crate writes an angle bracket.

pub mod chart;
mod html;
pub mod numbers;
mod shell;
mod table;

pub use html::{Content, Element, Html, element, html, small};
pub use shell::{Look, Page, Section, Tile};
pub use table::{Cell, Column, Table, cell};
