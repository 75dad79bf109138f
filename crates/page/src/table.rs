//! Tables: a head, then rows, which may stand in groups.

use crate::html::{Content, Element, Html, element, html};

/// A column: its title, and the kind of its cells.
#[derive(Clone, Copy, Debug)]
pub enum Column {
    /// The subject of a row.
    Name(&'static str),
    /// Text.
    Text(&'static str),
    /// Numbers, aligned.
    Number(&'static str),
    /// A time, without a line break.
    Time(&'static str),
}

/// A cell of a row.
#[derive(Clone, Debug)]
pub struct Cell {
    content: Html,
    short: bool,
    rows: usize,
}

/// A cell with content.
pub fn cell(content: impl Content) -> Cell {
    Cell {
        content: html(content),
        short: false,
        rows: 1,
    }
}

impl Cell {
    /// Marks a cell whose value is too low.
    pub fn short(self, short: bool) -> Cell {
        Cell { short, ..self }
    }

    /// Spans this many rows; the other rows omit the cell.
    pub fn rows(self, rows: usize) -> Cell {
        Cell { rows, ..self }
    }
}

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    class: &'static str,
    columns: Vec<Column>,
    /// The groups that are finished.
    groups: Vec<Element>,
    rows: Html,
}

impl Table {
    /// An empty table. If a row omits a cell, it is the last.
    pub fn new(columns: impl Into<Vec<Column>>) -> Table {
        Table {
            class: "",
            columns: columns.into(),
            groups: Vec::new(),
            rows: Html::default(),
        }
    }

    /// Sets a class of the style.
    pub fn class(self, class: &'static str) -> Table {
        Table { class, ..self }
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.rows.is_empty()
    }

    /// Begins a group of rows, with a title over all columns.
    pub fn group(&mut self, title: impl Content) {
        self.end_group();
        let title = element("th", title)
            .with("colspan", self.columns.len())
            .with("scope", "rowgroup");
        self.rows.add(element("tr", title).class("place"));
        self.rows.end_line();
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.row_short(false, cells);
    }

    /// Adds a row, marked if its value is too low.
    pub fn row_short(&mut self, short: bool, cells: impl IntoIterator<Item = Cell>) {
        let mut row = Html::default();
        for (
            column,
            Cell {
                content,
                short,
                rows,
            },
        ) in self.columns.iter().zip(cells)
        {
            let (name, class) = match column {
                Column::Name(_) => ("th", ""),
                Column::Text(_) => ("td", ""),
                Column::Number(_) => ("td", "number"),
                Column::Time(_) => ("td", "time"),
            };
            let mut cell = element(name, content);
            if name == "th" {
                cell = cell.with("scope", "row");
            }
            let classes: Vec<&str> = [class, if short { "short" } else { "" }]
                .into_iter()
                .filter(|class| !class.is_empty())
                .collect();
            cell = cell.class(&classes.join(" "));
            if rows > 1 {
                cell = cell.with("rowspan", rows);
            }
            row.add(cell);
        }
        self.rows
            .add(element("tr", row).class(if short { "short" } else { "" }));
        self.rows.end_line();
    }

    fn end_group(&mut self) {
        if !self.rows.is_empty() {
            self.groups
                .push(element("tbody", std::mem::take(&mut self.rows)));
        }
    }
}

impl Content for Table {
    fn write(mut self, page: &mut String) {
        self.end_group();
        let head = |column: &Column| match column {
            Column::Number(title) => element("th", *title).class("number"),
            Column::Name(title) | Column::Text(title) | Column::Time(title) => {
                element("th", *title)
            }
        };
        let head = element(
            "thead",
            element("tr", self.columns.iter().map(head).collect::<Vec<_>>()),
        );
        element("table", (head, self.groups))
            .class(self.class)
            .write(page);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_head_and_groups() {
        let mut table = Table::new([
            Column::Name("machine"),
            Column::Number("on"),
            Column::Text("where"),
        ])
        .class("events");
        assert!(table.is_empty());
        table.group("north");
        table.row([cell("a"), cell(1u64).short(true), cell("here").rows(2)]);
        table.row_short(true, [cell("b"), cell(2u64)]);
        table.group("south");
        table.row([cell("<c>"), cell(()), cell(())]);
        let expected = "<table class=\"events\"><thead><tr><th>machine</th><th class=\"number\">on</th><th>where</th></tr></thead>\
            <tbody><tr class=\"place\"><th colspan=\"3\" scope=\"rowgroup\">north</th></tr>\n\
            <tr><th scope=\"row\">a</th><td class=\"number short\">1</td><td rowspan=\"2\">here</td></tr>\n\
            <tr class=\"short\"><th scope=\"row\">b</th><td class=\"number\">2</td></tr>\n</tbody>\
            <tbody><tr class=\"place\"><th colspan=\"3\" scope=\"rowgroup\">south</th></tr>\n\
            <tr><th scope=\"row\">&lt;c&gt;</th><td class=\"number\"></td><td></td></tr>\n</tbody></table>";
        assert_eq!(html(table).into_string(), expected);
    }
}
