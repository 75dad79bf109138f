//! The sections of the page: the course of the distribution, and the findings.

use manifest::Program;
use page::chart::{self, Line, Lines, Width};
use page::numbers::{bits, bytes, duration};
use page::{
    Column, Content, Element, Look, Page, Section, Table, Tile, cell, element, html, small,
};

use crate::report::{Campaign, Curve, Finding, Sum};

/// The line in the bars; a finding reports values above it.
const CROSSINGS_MAX: f64 = 1.2;

/// The whole page.
pub fn page(campaign: &Campaign) -> String {
    let when = match (&campaign.started_at, &campaign.ended_at) {
        (Some(start), Some(end)) => format!("{} to {}", clock(start), clock(end)),
        _ => "the tracker was not watched".into(),
    };
    let size = bytes(campaign.size_bytes);
    let sections = [
        over_time(campaign),
        Some(findings(campaign)),
        uplinks(campaign),
        Some(rooms(campaign)),
        programs(campaign),
        unknown(campaign),
    ];
    let page = Page {
        title: format!(
            "{} {}: how its distribution went",
            campaign.name, campaign.generation
        ),
        kind: "Distribution of an image",
        heading: campaign.title.clone(),
        lead: format!(
            "{}, generation {} · {size} · {when}",
            campaign.name, campaign.generation
        ),
        tiles: tiles(campaign),
        has_contents: false,
        sections: sections.into_iter().flatten().collect(),
    };
    page.write()
}

fn tiles(campaign: &Campaign) -> Vec<Tile> {
    let mut tiles = Vec::new();
    let mut tile =
        |value: String, caption: String, look| tiles.push(Tile::new(value, caption, look));
    let all = if campaign.done == campaign.hosts {
        Look::Good
    } else {
        Look::Bad
    };
    let places = format!(
        "machines have it, in {} rooms of {} buildings",
        campaign.rooms.len(),
        campaign.buildings.len()
    );
    tile(
        format!("{} of {}", campaign.done, campaign.hosts),
        places,
        all,
    );
    if let Some(seconds) = campaign.seconds {
        tile(
            duration(seconds),
            "until the last of them had it".into(),
            Look::Plain,
        );
    }
    if let Some(rate) = campaign.peak_bytes_per_second {
        let at = campaign
            .peak_at
            .as_deref()
            .map_or(String::new(), |at| format!(" at {}", &clock(at)));
        tile(
            bits(rate),
            format!("received together at most{at}, or {}/s", bytes(rate)),
            Look::Plain,
        );
    }
    let worst = campaign
        .buildings
        .iter()
        .filter_map(|building| building.crossings)
        .reduce(f64::max);
    if let Some(worst) = worst {
        let look = if worst > CROSSINGS_MAX {
            Look::Bad
        } else {
            Look::Plain
        };
        tile(
            format!("{worst:.2} ×"),
            "the image came over the busiest uplink".into(),
            look,
        );
    }
    let copies = campaign.server_bytes as f64 / campaign.size_bytes as f64;
    tile(
        format!("{copies:.2} ×"),
        "the image left the servers".into(),
        Look::Plain,
    );
    let sum = |of: fn(&Sum) -> u64| {
        campaign
            .buildings
            .iter()
            .map(|building| of(&building.sum))
            .fold(0, u64::saturating_add)
    };
    let reused = sum(|sum| sum.reused_bytes);
    let received = sum(|sum| sum.building_bytes).saturating_add(sum(|sum| sum.outside_bytes));
    if reused > 0 {
        let share = 100.0 * reused as f64 / (reused.saturating_add(received)) as f64;
        tile(
            format!("{share:.0} %"),
            "of it was taken from the old images".into(),
            Look::Plain,
        );
    }
    tiles
}

fn over_time(campaign: &Campaign) -> Option<Section> {
    let curves = &campaign.curves;
    let ticks = chart::duration_ticks(*curves.at_seconds.last()?);
    let half = |heading: &str, title: &str, unit, steps, of: fn(&Curve) -> &[u64]| {
        let line = |curve: &Curve| Line {
            name: Some(curve.building.clone()),
            values: of(curve).iter().copied().map(Some).collect(),
        };
        let lines = curves.buildings.iter().map(line).collect();
        let drawing = Lines {
            title,
            width: Width::Half,
            at: &curves.at_seconds,
            ticks: &ticks,
            unit,
            steps,
            lines,
        };
        element("div", (element("h3", heading), drawing))
    };
    let received = half(
        "Received, by building",
        "received bytes over time",
        bytes,
        false,
        |curve| &curve.received_bytes,
    );
    let seeders = half(
        "Seeders, by building",
        "seeders over time",
        |count| count.to_string(),
        true,
        |curve| &curve.seeders,
    );
    Some(Section::new(
        "over-time",
        "Over time",
        element("div", (received, seeders)).class("pair"),
    ))
}

fn findings(campaign: &Campaign) -> Section {
    let section = |content| Section::new("findings", "Findings", content);
    if campaign.findings.is_empty() {
        return section(html(element(
            "p",
            "Nothing: every machine has the image, and none was conspicuous.",
        )));
    }
    let mut table = Table::new([
        Column::Name("machine"),
        Column::Text("where"),
        Column::Number("rate"),
        Column::Text("seen"),
        Column::Text("likely causes, the likeliest first"),
    ]);
    for finding in &campaign.findings {
        let room = finding.room.as_ref().map(|room| format!(", room {room}"));
        table.row([
            cell(finding.name.as_deref().unwrap_or("whole building")),
            cell((&finding.building, room)),
            cell(rates(finding)),
            cell(&finding.seen),
            cell(finding.likely.join("; ")),
        ]);
    }
    section(html(table))
}

fn rates(finding: &Finding) -> impl Content {
    let rate = finding.bytes_per_second.map(per_second);
    let others = finding.others_bytes_per_second.filter(|_| rate.is_some());
    (
        rate,
        others.map(|others| small(format!("others {}", per_second(others)))),
    )
}

fn uplinks(campaign: &Campaign) -> Option<Section> {
    let bars: Vec<_> = campaign
        .buildings
        .iter()
        .filter_map(|building| Some((building.building.as_str(), building.crossings?)))
        .collect();
    let lead = "How often the image came into the building. Once is the least for a new image; what machines take from their old one \
        makes it less. Machines on wireless networks are not counted: each has its own copy. seedctl-report(8) has the figures of \
        other ways, multicast among them.";
    let content = (
        element("p", lead),
        chart::bars("crossings of each uplink", &bars, 1.0, CROSSINGS_MAX),
    );
    (!bars.is_empty()).then(|| Section::new("uplinks", "Crossings of each uplink", content))
}

fn rooms(campaign: &Campaign) -> Section {
    let mut table = Table::new([
        Column::Name("room"),
        Column::Text("building"),
        Column::Number("done"),
        Column::Number("last one after"),
        Column::Number("usual rate"),
        Column::Number("from the building"),
        Column::Number("from outside"),
        Column::Number("from old images"),
    ]);
    for room in &campaign.rooms {
        let sum = &room.sum;
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "–".into());
        let cells = [
            cell(&room.room),
            cell(&room.building),
            cell(format!("{} of {}", sum.done, sum.hosts)),
            cell(or_dash(sum.seconds.map(duration))),
            cell(or_dash(sum.bytes_per_second.map(per_second))),
            cell(bytes(sum.building_bytes)),
            cell(bytes(sum.outside_bytes)),
            cell(bytes(sum.reused_bytes)),
        ];
        table.row_short(sum.done < sum.hosts, cells);
    }
    Section::new("rooms", "Rooms", table)
}

fn programs(campaign: &Campaign) -> Option<Section> {
    let item = |program: &Program| element("li", (&program.name, small(&program.version)));
    let items: Vec<Element> = campaign.programs.iter().map(item).collect();
    (!items.is_empty()).then(|| {
        Section::new(
            "programs",
            "Installed programs",
            element("ul", items).class("names"),
        )
    })
}

fn unknown(campaign: &Campaign) -> Option<Section> {
    let items: Vec<Element> = campaign
        .missing
        .iter()
        .map(|missing| element("li", &missing.reason))
        .collect();
    (!items.is_empty()).then(|| Section::new("missing", "Unknown", element("ul", items)))
}

/// `2026-11-23T04:08:18Z` in readable form.
fn clock(rfc3339: &str) -> String {
    rfc3339.replace('T', " ").replace('Z', " UTC")
}

fn per_second(rate: u64) -> String {
    format!("{}/s", bytes(rate))
}
