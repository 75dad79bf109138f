//! The tasks: findings by room and machine.

use std::collections::BTreeMap;

use page::numbers::counted;
use page::{Column, Content, Html, Section, Table, cell, element, html, small};

use super::words::place;
use crate::report::{Finding, What};

/// The findings by room, with the findings of a machine together and the machine with the most
/// urgent one first. Machines with the same findings are grouped, and consecutive findings share
/// one line of advice.
pub fn to_do(id: &'static str, title: &str, lead: &str, findings: &[Finding]) -> Section {
    if findings.is_empty() {
        return Section::new(id, title, element("p", "Nothing."));
    }
    type Machines<'a> = BTreeMap<&'a str, Vec<&'a Finding>>;
    let mut rooms: BTreeMap<(&str, &str), Machines> = BTreeMap::new();
    let mut counts: BTreeMap<What, u64> = BTreeMap::new();
    for finding in findings {
        *counts.entry(finding.what).or_default() += 1;
        rooms
            .entry((&finding.building, &finding.room))
            .or_default()
            .entry(&finding.host)
            .or_default()
            .push(finding);
    }
    let counts = counts
        .into_iter()
        .map(|(what, count)| (element("b", count), " ", what.words()));
    let lead = element("p", (lead, " ", separated(", ", counts), "."));
    let mut table = Table::new([
        Column::Name("machine"),
        Column::Text("seen"),
        Column::Text("likely cause"),
        Column::Text("what to do"),
    ])
    .class("todo");
    let task = |finding: &'_ Finding| (finding.what, finding.likely.clone());
    for ((building, room), machines) in rooms {
        table.group((
            place(building, room),
            small(counted(machines.len() as u64, "machine")),
        ));
        let mut alike: BTreeMap<Vec<_>, (Vec<&str>, Vec<&Finding>)> = BTreeMap::new();
        for (host, findings) in machines {
            let key = findings
                .iter()
                .map(|finding| (task(finding), &finding.seen))
                .collect();
            alike
                .entry(key)
                .or_insert_with(|| (Vec::new(), findings))
                .0
                .push(host);
        }
        let rows: Vec<(&[&str], &Finding)> = alike
            .values()
            .flat_map(|(hosts, findings)| findings.iter().map(|finding| (&hosts[..], *finding)))
            .collect();
        for same in rows.chunk_by(|(_, a), (_, b)| task(a) == task(b)) {
            for (index, (hosts, finding)) in same.iter().enumerate() {
                let hosts = separated(", ", hosts.iter().map(|host| element("span", *host)));
                let mut cells = vec![cell(hosts), cell(&finding.seen)];
                if index == 0 {
                    cells.push(cell(finding.likely.join("; ")).rows(same.len()));
                    cells.push(cell(finding.advice).rows(same.len()));
                }
                table.row(cells);
            }
        }
    }
    Section::new(id, title, (lead, table))
}

fn separated(separator: &'static str, items: impl Iterator<Item = impl Content>) -> Html {
    let items = items
        .enumerate()
        .map(|(index, item)| ((index > 0).then_some(separator), item));
    html(items.collect::<Vec<_>>())
}
