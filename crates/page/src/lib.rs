//! Pages for people: one file of HTML each, for a screen, light or dark, and for paper, that loads
//! nothing and runs nothing. Belongs here: the form of a page, its style, its drawings, numbers in
//! words. Not: what a page says.
//!
//! Names come from machines and from configuration, and a machine can say anything. So a page is
//! put together from [`Content`] alone: text, which is escaped, and [`Element`]s, which close what
//! they open. No other crate writes an angle bracket.

pub mod chart;
mod html;
pub mod numbers;
mod shell;
mod table;

pub use html::{Content, Element, Html, element, html, small};
pub use shell::{Look, Page, Section, Tile};
pub use table::{Cell, Column, Table, cell};
