//! `seedctl status`: aria2's work on this host.

use std::collections::HashMap;
use std::net::IpAddr;

use jsonpipe::{Answer, Common, Document, Missing};
use manifest::InfoHash;
use swarm::{Building, Content};

use crate::aria2::{Download, Rpc, State};
use crate::daemon;
use crate::introduction::{self, Failure};
use crate::origin::{Account, Here, Origin};
use crate::report::{Listed, Peers, Transfers};
use crate::settings::Settings;
use crate::signed_image::SignedImage;
use crate::store::Files;
use campus::Campus;

/// An image with more crossings of the uplink than this indicates a fault.
const CROSSINGS_MAX: f64 = 1.2;

/// `seedctl status`: every torrent of the running aria2; empty when it is not running.
pub fn status(common: &Common) -> anyhow::Result<Answer> {
    let settings = Settings::read(common)?;
    let rpc = daemon::connect(common, &settings.aria2)?;
    let mut document = Document::default();
    document.set("transfers", &transfers(common, rpc.as_ref(), false)?)?;
    Ok(Answer::yes(document))
}

/// The section `transfers`.
pub fn transfers(common: &Common, rpc: Option<&Rpc>, changed: bool) -> anyhow::Result<Transfers> {
    let mut report = Transfers {
        changed,
        aria2: None,
        transfers: Vec::new(),
        missing: Vec::new(),
    };
    let Some(rpc) = rpc else {
        report.missing.push(Missing {
            key: "aria2".into(),
            reason: "aria2 is not running".into(),
        });
        return Ok(report);
    };
    report.aria2 = Some(rpc.version()?);
    let campus = if common.config("campus.ini").exists() {
        Some(Campus::read(common)?)
    } else {
        None
    };
    if campus.is_none() {
        report.missing.push(Missing {
            key: "transfers[].peers".into(),
            reason: "there is no campus.ini, so every peer counts as from outside".into(),
        });
    }
    let known = known(common, &mut report.missing)?;
    for download in rpc.downloads()? {
        report
            .transfers
            .push(list(common, rpc, &download, &known, campus.as_ref())?);
    }
    report.transfers.sort_by(|a, b| {
        let key = |listed: &Listed| (listed.name.clone(), listed.generation, listed.infohash);
        key(a).cmp(&key(b))
    });
    Ok(report)
}

/// The torrents of the store: base, generation and content of each.
fn known(
    common: &Common,
    missing: &mut Vec<Missing>,
) -> anyhow::Result<HashMap<InfoHash, (String, u64, Content)>> {
    let mut known = HashMap::new();
    for files in Files::all(common)? {
        match SignedImage::read(common, &files) {
            Ok(image) => {
                for (infohash, what) in [
                    (image.base.infohash, Content::Image),
                    (image.base.blocks_infohash, Content::Blocks),
                ] {
                    known.insert(infohash, (files.name.clone(), files.generation, what));
                }
            }
            Err(error) => missing.push(Missing {
                key: "transfers[].name".into(),
                reason: format!("{error:#}"),
            }),
        }
    }
    Ok(known)
}

fn list(
    common: &Common,
    rpc: &Rpc,
    download: &Download,
    known: &HashMap<InfoHash, (String, u64, Content)>,
    campus: Option<&Campus>,
) -> anyhow::Result<Listed> {
    let account = download
        .info_hash
        .map(|infohash| Account::read(common, infohash))
        .filter(|account| !account.name.is_empty());
    let mut of = download
        .info_hash
        .and_then(|infohash| known.get(&infohash).cloned());
    if let (None, Some(account)) = (&of, &account) {
        of = Some((account.name.clone(), account.generation, Content::Image)); // the image is not in the store yet
    }
    let asked = download
        .info_hash
        .map(|infohash| introduction::ask(&download.trackers(), infohash, None));
    let refused = match &asked {
        Some(Err(Failure::Refused(refused))) => Some(refused.to_string()),
        _ => None,
    };
    let reached = asked.and_then(Result::ok);
    let peers = match download.info_hash {
        Some(infohash) => rpc
            .peers(infohash)?
            .into_iter()
            .map(|peer| peer.ip)
            .collect(),
        None => Vec::new(),
    };
    let here = campus
        .zip(reached.as_ref())
        .map(|(campus, reached)| Here::new(campus.clone(), reached.own));
    let building = reached.and_then(|reached| reached.building);
    Ok(Listed {
        infohash: download.info_hash,
        name: of.as_ref().map(|(name, ..)| name.clone()),
        generation: of.as_ref().map(|(_, generation, _)| *generation),
        what: of.map(|(.., what)| what),
        state: state(download),
        error: download
            .error_message
            .clone()
            .filter(|message| !message.is_empty()),
        size_bytes: download.total_length,
        present_bytes: download.completed_length,
        uploaded_bytes: download.upload_length,
        download_bytes_per_second: download.download_speed,
        upload_bytes_per_second: download.upload_speed,
        peers: count(&peers, here.as_ref()),
        building_bytes: account.as_ref().map(|account| account.building_bytes),
        outside_bytes: account.as_ref().map(|account| account.outside_bytes),
        reused_bytes: account.as_ref().map(|account| account.reused_bytes),
        zero_bytes: account.as_ref().map(|account| account.zero_bytes),
        server_only: account.as_ref().and_then(Account::server_only),
        warnings: refused
            .into_iter()
            .chain(
                account
                    .map(|account| warnings(&account, building.as_ref()))
                    .unwrap_or_default(),
            )
            .collect(),
        building,
    })
}

fn state(download: &Download) -> &'static str {
    match download.status {
        State::Error => "failed",
        State::Removed | State::Paused | State::Complete => "stopped",
        State::Active | State::Waiting if download.verified_bytes().is_some() => "checking",
        State::Waiting => "waiting",
        State::Active if download.seeder => "complete",
        State::Active => "getting",
    }
}

fn count(peers: &[IpAddr], here: Option<&Here>) -> Peers {
    let mut count = Peers::default();
    for peer in peers {
        match here.map_or(Origin::Outside, |here| here.origin(*peer)) {
            Origin::Building => count.building += 1,
            Origin::Outside => count.outside += 1,
            Origin::Server => count.server += 1,
        }
    }
    count
}

/// Conditions that need attention. `building` is the tracker's answer.
fn warnings(account: &Account, building: Option<&Building>) -> Vec<String> {
    let mut warnings = Vec::new();
    if account.server_only() == Some(true) && account.gateway != Some(true) {
        warnings.push(
            "it only ever reached servers: is this host in another network than its room?".into(),
        );
    }
    // The bytes that every host of a building has from outside crossed its uplink. A gateway
    // fetches for the others, so only a host that is not one is representative.
    if let Some(building) = building
        && account.gateway == Some(false)
        && account.size_bytes > 0
    {
        let others = (building.complete + building.incomplete).saturating_sub(1);
        let crossings =
            1.0 + account.outside_bytes as f64 / account.size_bytes as f64 * others as f64;
        if crossings > CROSSINGS_MAX {
            warnings.push(format!(
                "if the other hosts of {} are as this one, the image crossed its uplink {crossings:.1} times",
                building.building
            ));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use campus::Role;

    #[test]
    fn a_host_that_fetches_from_outside_and_is_no_gateway_is_told() {
        let building = Building {
            building: "AT9".into(),
            role: Role::Lab,
            complete: 5,
            incomplete: 4,
            gateway: false,
            uplink_bytes_per_second: None,
            servers: 1,
            interval_seconds: 10,
            announce_again: false,
        };
        let account = |outside_bytes, gateway, reached: &[Origin]| Account {
            size_bytes: 1000,
            outside_bytes,
            gateway,
            reached: reached.to_vec(),
            ..Account::default()
        };
        let all = [Origin::Building, Origin::Server];
        let told = |account: &Account| warnings(account, Some(&building)).join("\n");
        assert_eq!(told(&account(20, Some(false), &all)), "");
        assert_eq!(
            told(&account(500, Some(false), &all)),
            "if the other hosts of AT9 are as this one, the image crossed its uplink 5.0 times"
        );
        assert_eq!(told(&account(1000, Some(true), &[Origin::Server])), "");
        assert!(
            warnings(&account(1000, None, &[Origin::Server]), None)[0]
                .starts_with("it only ever reached servers")
        );
    }
}
