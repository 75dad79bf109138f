//! The page: one file that needs nothing else, for a screen, light or dark, and for paper.
//!
//! Names come from machines and from configuration, and a machine can say anything: every text passes through [`text`].

use std::fmt::{self, Display, Write};

use jsonpipe::is_hidden;

use super::chart::{self, Line};
use crate::report::campaign::{Campaign, Finding, Sum};

/// The line in the bars, above which a finding says so, too.
const CROSSINGS_MAX: f64 = 1.2;

const STYLE: &str = include_str!("page.css");

/// A text as HTML.
pub fn text(text: &str) -> Escaped<'_> {
    Escaped(text)
}

/// See [`text`].
pub struct Escaped<'a>(&'a str);

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

/// The whole page.
pub fn page(campaign: &Campaign) -> String {
    let name = format!("{} {}", campaign.name, campaign.generation);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{name}: how its distribution went</title>\
         <style>{STYLE}</style></head>\n<body><main>\n",
        name = text(&name)
    );
    let parts = [head(campaign), over_time(campaign), findings(campaign), uplinks(campaign), rooms(campaign)];
    page.extend(parts);
    page.extend([programs(campaign), MULTICAST.to_owned(), unknown(campaign)]);
    page + "</main></body></html>\n"
}

fn head(campaign: &Campaign) -> String {
    let when = match (&campaign.started_at, &campaign.ended_at) {
        (Some(start), Some(end)) => format!("{} to {}", clock(start), clock(end)),
        _ => "the tracker was not watched".into(),
    };
    let mut head = format!(
        "<header><p class=\"kind\">Distribution of an image</p><h1>{}</h1><p>{}, generation {} · {} · {}</p></header>\n<ul class=\"tiles\">",
        text(&campaign.title),
        text(&campaign.name),
        campaign.generation,
        bytes(campaign.size_bytes),
        text(&when)
    );
    let mut tile = |value: String, what: String, class: &str| {
        let _ = write!(head, "<li class=\"{class}\"><b>{}</b>{}</li>", text(&value), text(&what));
    };
    let all = if campaign.done == campaign.hosts { "good" } else { "bad" };
    let places = format!("machines have it, in {} rooms of {} buildings", campaign.rooms.len(), campaign.buildings.len());
    tile(format!("{} of {}", campaign.done, campaign.hosts), places, all);
    if let Some(seconds) = campaign.seconds {
        tile(duration(seconds), "until the last of them had it".into(), "");
    }
    if let Some(rate) = campaign.peak_bytes_per_second {
        let at = campaign.peak_at.as_deref().map_or(String::new(), |at| format!(" at {}", &clock(at)));
        tile(bits(rate), format!("received together at most{at}, or {}/s", bytes(rate)), "");
    }
    let worst = campaign.buildings.iter().filter_map(|building| building.crossings).reduce(f64::max);
    if let Some(worst) = worst {
        let class = if worst > CROSSINGS_MAX { "bad" } else { "" };
        tile(format!("{worst:.2} ×"), "the image came over the busiest uplink".into(), class);
    }
    let copies = campaign.server_bytes as f64 / campaign.size_bytes as f64;
    tile(format!("{copies:.2} ×"), "the image left the servers".into(), "");
    let sum = |of: fn(&Sum) -> u64| campaign.buildings.iter().map(|building| of(&building.sum)).fold(0, u64::saturating_add);
    let reused = sum(|sum| sum.reused_bytes);
    let received = sum(|sum| sum.building_bytes).saturating_add(sum(|sum| sum.outside_bytes));
    if reused > 0 {
        let share = 100.0 * reused as f64 / (reused.saturating_add(received)) as f64;
        tile(format!("{share:.0} %"), "of it was taken from the old images".into(), "");
    }
    head + "</ul>\n"
}

fn findings(campaign: &Campaign) -> String {
    if campaign.findings.is_empty() {
        return "<section><h2>To look at</h2><p>Nothing: every machine has the image, and none was conspicuous.</p></section>\n"
            .into();
    }
    let row = |finding: &Finding| {
        let place = finding.room.as_ref().map_or(String::new(), |room| format!(", room {}", text(room)));
        let rates = match (finding.bytes_per_second, finding.others_bytes_per_second) {
            (Some(rate), Some(others)) => format!("{}/s <small>others {}/s</small>", bytes(rate), bytes(others)),
            (Some(rate), None) => format!("{}/s", bytes(rate)),
            _ => String::new(),
        };
        format!(
            "<tr><th>{}</th><td>{}{place}</td><td class=\"number\">{rates}</td><td>{}</td><td>{}</td></tr>\n",
            finding.name.as_deref().map_or("whole building".into(), |name| text(name).to_string()),
            text(&finding.building),
            text(&finding.seen),
            text(&finding.likely.join("; ")),
        )
    };
    let rows: String = campaign.findings.iter().map(row).collect();
    format!(
        "<section><h2>To look at</h2><table><thead><tr><th>machine</th><th>where</th><th class=\"number\">rate</th><th>seen</th>\
         <th>may come from, the likeliest first</th></tr></thead><tbody>\n{rows}</tbody></table></section>\n"
    )
}

fn over_time(campaign: &Campaign) -> String {
    let curves = &campaign.curves;
    if curves.at_seconds.is_empty() {
        return String::new();
    }
    let received: Vec<_> =
        curves.buildings.iter().map(|curve| Line { name: &curve.building, values: &curve.received_bytes }).collect();
    let seeders: Vec<_> = curves.buildings.iter().map(|curve| Line { name: &curve.building, values: &curve.seeders }).collect();
    format!(
        "<section class=\"pair\"><div><h2>Received, by building</h2>{}</div><div><h2>Seeders, by building</h2>{}</div></section>\n",
        chart::curves("received bytes over time", &curves.at_seconds, &received, false, bytes),
        chart::curves("seeders over time", &curves.at_seconds, &seeders, true, |count| count.to_string())
    )
}

fn uplinks(campaign: &Campaign) -> String {
    let bars: Vec<_> =
        campaign.buildings.iter().filter_map(|building| Some((building.building.as_str(), building.crossings?))).collect();
    if bars.is_empty() {
        return String::new();
    }
    format!(
        "<section><h2>Crossings of each uplink</h2><p>How often the image came into the building. Once is the least for a new \
         image; what machines take from their old one makes it less. Machines on wireless networks are not counted: each has its \
         own copy.</p>{}</section>\n",
        chart::crossings(&bars, CROSSINGS_MAX)
    )
}

fn rooms(campaign: &Campaign) -> String {
    let mut rows = String::new();
    for room in &campaign.rooms {
        let sum = &room.sum;
        let class = if sum.done == sum.hosts { "" } else { " class=\"short\"" };
        let _ = writeln!(
            rows,
            "<tr{class}><th>{}</th><td>{}</td><td class=\"number\">{} of {}</td><td class=\"number\">{}</td>\
             <td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td></tr>",
            text(&room.room),
            text(&room.building),
            sum.done,
            sum.hosts,
            sum.seconds.map_or("–".into(), duration),
            sum.bytes_per_second.map_or("–".into(), |rate| format!("{}/s", bytes(rate))),
            bytes(sum.building_bytes),
            bytes(sum.outside_bytes),
            bytes(sum.reused_bytes),
        );
    }
    format!(
        "<section><h2>Rooms</h2><table><thead><tr><th>room</th><th>building</th><th class=\"number\">done</th>\
         <th class=\"number\">last one after</th><th class=\"number\">usual rate</th><th class=\"number\">from the building</th>\
         <th class=\"number\">from outside</th><th class=\"number\">from old images</th></tr></thead><tbody>\n{rows}</tbody></table></section>\n"
    )
}

fn programs(campaign: &Campaign) -> String {
    if campaign.programs.is_empty() {
        return String::new();
    }
    let item =
        |program: &manifest::Program| format!("<li>{} <small>{}</small></li>", text(&program.name), text(&program.version));
    let items: String = campaign.programs.iter().map(item).collect();
    format!("<section><h2>What is installed in it</h2><ul class=\"programs\">{items}</ul></section>\n")
}

/// Measured once, in the laboratory; it says so. scripts/demo repeats what can be repeated.
const MULTICAST: &str = "<section><h2>Why not multicast</h2>\
    <p>Multicast sends everybody the same packets at one rate, which must be that of the slowest receiver: where one building has \
    a narrow uplink, machines on fast ones wait for it, and one receiver that dies holds up all. It needs every router on the way \
    to take part, and its gain, that an uplink is crossed once, is had without it by introducing machines to their own building \
    first. So it was left out. Measured in a laboratory, the first row with a prototype, of three buildings with eight machines each, one behind an \
    uplink of a tenth of the rate of the others, which alone would take 67 s for the image:</p>\
    <table><thead><tr><th>way</th><th class=\"number\">image</th><th class=\"number\">least possible</th>\
    <th class=\"number\">last machine</th><th class=\"number\">crossings of the slow uplink</th></tr></thead><tbody>\
    <tr><th>this one: own building first, one gateway each</th><td class=\"number\">64 MiB</td><td class=\"number\">67 s</td>\
    <td class=\"number\">74 s</td><td class=\"number\">1.02</td></tr>\
    <tr><td>BitTorrent with an ordinary tracker</td><td class=\"number\">64 MiB</td><td class=\"number\">67 s</td>\
    <td class=\"number\">164–168 s</td><td class=\"number\">2.4</td></tr>\
    <tr><td>the same, outside seeders switched off by hand</td><td class=\"number\">64 MiB</td><td class=\"number\">67 s</td>\
    <td class=\"number\">111 s</td><td class=\"number\">1.6</td></tr>\
    <tr><td>multicast, all machines alive</td><td class=\"number\">16 MiB</td><td class=\"number\">17 s</td>\
    <td class=\"number\">22 s, fast buildings as well</td><td class=\"number\">1.04</td></tr>\
    <tr><td>multicast, one machine dies</td><td class=\"number\">16 MiB</td><td class=\"number\">17 s</td>\
    <td class=\"number\">216 s</td><td class=\"number\">1.04</td></tr>\
    <tr><td>HTTP from the server</td><td class=\"number\">16 MiB</td><td class=\"number\">17 s</td>\
    <td class=\"number\">141 s</td><td class=\"number\">8.2</td></tr></tbody></table></section>\n";

fn unknown(campaign: &Campaign) -> String {
    if campaign.missing.is_empty() {
        return String::new();
    }
    let items: String = campaign.missing.iter().map(|missing| format!("<li>{}</li>", text(&missing.reason))).collect();
    format!("<section><h2>What is not known</h2><ul>{items}</ul></section>\n")
}

/// `2026-11-23T04:08:18Z` for people.
fn clock(rfc3339: &str) -> String {
    rfc3339.replace('T', " ").replace('Z', " UTC")
}

/// Bytes for people, in powers of a thousand, three digits.
pub fn bytes(bytes: u64) -> String {
    scaled(bytes as f64, ["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// A rate in bits, as networks have them.
fn bits(bytes_per_second: u64) -> String {
    scaled(bytes_per_second as f64 * 8.0, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s", "Pbit/s", "Ebit/s"])
}

fn scaled(mut value: f64, units: [&str; 7]) -> String {
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    let number = format!("{value:.digits$}");
    let number = if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    format!("{number} {}", units[unit])
}

/// Seconds for people.
pub fn duration(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, 0, _) => format!("{hours} h"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        assert_eq!([0, 999, 1000, 12_345, 42_949_672_960].map(bytes), ["0 B", "999 B", "1 kB", "12.3 kB", "42.9 GB"]);
        assert_eq!(bytes(u64::MAX), "18.4 EB");
        assert_eq!(bits(2_700_000_000), "21.6 Gbit/s");
        assert_eq!([0, 74, 120, 3600, 7380].map(duration), ["0 s", "1 min 14 s", "2 min", "1 h", "2 h 3 min"]);
    }

    #[test]
    fn a_text_is_no_markup() {
        assert_eq!(text("<script>\"&'\0\u{202e}\u{200b}").to_string(), "&lt;script&gt;&quot;&amp;&#39;\u{fffd}\u{fffd}\u{fffd}");
    }
}
