//! The page: one file that needs nothing else, for a screen, light or dark, and for paper. What is to be done today stands on top.
//!
//! Names of machines, networks and programs come from machines, and a machine can say anything: every text passes through [`text`].

mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use base64::prelude::{BASE64_STANDARD, Engine};
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

use crate::chart;
use crate::html::{Section, place, text};
use crate::report::{Finding, Fleet, What};
use crate::words::{bytes, clock, counted, hours, noun, span};

const STYLE: &str = include_str!("page.css");

/// The whole page.
pub fn page(fleet: &Fleet, zone: &TimeZone) -> String {
    // Its own style and nothing else; where somebody found a way to write markup, it would load, run, send and restyle nothing.
    let style = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    let sections: Vec<Section> = [
        Some(to_do("visit", "To visit", "Somebody has to go there.", &fleet.visit)),
        Some(to_do("desk", "From a desk", "This can be done without going there.", &fleet.remote)),
        tables::rooms(fleet),
        tables::hours_of_the_week(fleet),
        traffic(fleet, zone),
        Some(tables::events(fleet, zone)),
        tables::versions(fleet),
        Some(tables::machines(fleet)),
        tables::software(fleet),
        Some(tables::doubts(fleet)),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; \
         form-action 'none'\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>The labs: what there is to do</title><style>{STYLE}</style></head>\n\
         <body><main>\n"
    );
    page += &head(fleet, zone);
    page += "<nav><ul>";
    for section in &sections {
        let _ = write!(page, "<li><a href=\"#{}\">{}</a></li>", section.id, text(&section.title));
    }
    page += "</ul></nav>\n";
    for Section { id, title, html } in sections {
        let _ = writeln!(
            page,
            "<section id=\"{id}\" aria-labelledby=\"{id}-title\"><h2 id=\"{id}-title\">{}</h2>{html}</section>",
            text(&title)
        );
    }
    page + "</main></body></html>\n"
}

fn head(fleet: &Fleet, zone: &TimeZone) -> String {
    let mut head = format!(
        "<header><p class=\"kind\">Computer labs</p><h1>What there is to do</h1><p>Reports from {} to {}, times of {}</p></header>\n\
         <ul class=\"tiles\">",
        clock(&fleet.since, zone),
        clock(&fleet.until, zone),
        text(&fleet.time_zone)
    );
    let mut tile = |value: String, what: &str, class: &str| {
        let _ = write!(head, "<li class=\"{class}\"><b>{}</b>{}</li>", text(&value), text(what));
    };
    let to_do = |findings: &[Finding]| {
        let machines = findings.iter().map(|finding| (&finding.building, &finding.room, &finding.host));
        machines.collect::<BTreeSet<_>>().len() as u64
    };
    let visit = to_do(&fleet.visit);
    let heard = fleet.machines.iter().filter(|machine| machine.reports > 0).count();
    // That nothing is to be done is known of those that were heard of.
    let good = |is_good: bool| if is_good && heard > 0 { "good" } else { "" };
    tile(visit.to_string(), &format!("{} to visit", noun(visit, "machine")), if visit == 0 { good(true) } else { "bad" });
    let remote = to_do(&fleet.remote);
    tile(remote.to_string(), &format!("{} to look after from a desk", noun(remote, "machine")), "");
    tile(format!("{heard} of {}", fleet.machines.len()), "machines were heard of", good(heard == fleet.machines.len()));
    let sum = |of: fn(&crate::report::Room) -> u64| fleet.rooms.iter().map(of).fold(0, u64::saturating_add);
    let (on, used) = (sum(|room| room.on_seconds), sum(|room| room.use_seconds));
    tile(hours(on), "they were on, together", "");
    if let Some(share) = (used.saturating_mul(100)).checked_div(on) {
        tile(format!("{share} %"), "of that with somebody at work", "");
    }
    let (disk, disk_used) = (sum(|room| room.disk_bytes), sum(|room| room.disk_used_bytes));
    if let Some(share) = disk_used.saturating_mul(100).checked_div(disk) {
        tile(format!("{share} %"), &format!("of {} of disks is in use", bytes(disk)), "");
    }
    head + "</ul>\n"
}

/// The findings by room, in each those of a machine together, the machine with the most urgent first. Machines with the same findings
/// stand together, and what is to be done stands once for all that follow each other.
fn to_do(id: &'static str, title: &str, lead: &str, findings: &[Finding]) -> Section {
    let section = |html| Section { id, title: title.to_owned(), html };
    if findings.is_empty() {
        return section("<p>Nothing.</p>".to_owned());
    }
    type Machines<'a> = BTreeMap<&'a str, Vec<&'a Finding>>;
    let mut rooms: BTreeMap<(&str, &str), Machines> = BTreeMap::new();
    let mut counts: BTreeMap<What, u64> = BTreeMap::new();
    for finding in findings {
        *counts.entry(finding.what).or_default() += 1;
        rooms.entry((&finding.building, &finding.room)).or_default().entry(&finding.host).or_default().push(finding);
    }
    let counts: Vec<String> = counts.into_iter().map(|(what, count)| format!("<b>{count}</b> {}", what.words())).collect();
    let mut html = format!(
        "<p>{lead} {}.</p><table class=\"todo\"><thead><tr><th>machine</th><th>seen</th><th>may come from</th><th>what to do</th></tr>\
         </thead>\n",
        counts.join(", ")
    );
    let task = |finding: &'_ Finding| (finding.what, finding.likely.clone());
    for ((building, room), machines) in rooms {
        let count = machines.len() as u64;
        let mut alike: BTreeMap<Vec<_>, (Vec<&str>, Vec<&Finding>)> = BTreeMap::new();
        for (host, findings) in machines {
            let key = findings.iter().map(|finding| (task(finding), &finding.seen)).collect();
            alike.entry(key).or_insert_with(|| (Vec::new(), findings)).0.push(host);
        }
        let rows: Vec<(&[&str], &Finding)> =
            alike.values().flat_map(|(hosts, findings)| findings.iter().map(|finding| (&hosts[..], *finding))).collect();
        let _ = writeln!(
            html,
            "<tbody><tr class=\"place\"><th colspan=\"4\" scope=\"rowgroup\">{} <small>{}</small></th></tr>",
            place(building, room),
            counted(count, "machine")
        );
        for same in rows.chunk_by(|(_, a), (_, b)| task(a) == task(b)) {
            let rows = same.len();
            for (index, (hosts, finding)) in same.iter().enumerate() {
                let hosts: Vec<String> = hosts.iter().map(|host| format!("<span>{}</span>", text(host))).collect();
                let _ = write!(html, "<tr><th scope=\"row\">{}</th><td>{}</td>", hosts.join(", "), text(&finding.seen));
                if index == 0 {
                    let _ = write!(
                        html,
                        "<td rowspan=\"{rows}\">{}</td><td rowspan=\"{rows}\">{}</td>",
                        text(&finding.likely.join("; ")),
                        text(finding.advice)
                    );
                }
                html += "</tr>\n";
            }
        }
        html += "</tbody>\n";
    }
    section(html + "</table>")
}

fn traffic(fleet: &Fleet, zone: &TimeZone) -> Option<Section> {
    let traffic = fleet.traffic.as_ref()?;
    let section = |html| Some(Section { id: "received", title: format!("Received bytes a second, by {}", traffic.by), html });
    if traffic.lines.is_empty() {
        return section("<p>Prometheus has none of this period.</p>".into());
    }
    let mut rows = String::new();
    let mut lines: Vec<_> = traffic.lines.iter().collect();
    lines.sort_by_key(|line| std::cmp::Reverse(line.mean_bytes_per_second));
    for line in lines {
        let (last, places) = line.labels.split_last().map_or(("", &[][..]), |(last, places)| (last.as_str(), places));
        let _ = writeln!(
            rows,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"number\">{}/s</td><td class=\"number\">{}/s</td></tr>",
            text(last),
            text(&places.join(", ")),
            bytes(line.mean_bytes_per_second),
            bytes(line.peak_bytes_per_second)
        );
    }
    section(format!(
        "<p>The mean of five minutes each; a value every {} is drawn.</p>{}\
         <details><summary>The lines in figures</summary><table><thead><tr><th>{by}</th><th>where</th><th class=\"number\">mean</th>\
         <th class=\"number\">most</th></tr></thead><tbody>\n{rows}</tbody></table></details>",
        span(traffic.step_seconds),
        chart::traffic(traffic, zone),
        by = text(&traffic.by)
    ))
}
