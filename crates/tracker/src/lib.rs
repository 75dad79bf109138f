//! The BitTorrent tracker `seedctl track`. It introduces the machines of a building to each other,
//! and only a few of them to the servers.
//!
//! `announce` parses a client's request, `introduce` selects its peers, and `answer` encodes them.
//! `peers` holds the hosts of a torrent, `trial` finds a better gateway, `policy` holds the
//! numbers, and `whitelist` the served torrents. `tracker` combines them, and `service` runs it
//! behind its `port`.

mod announce;
mod answer;
mod clock;
mod introduce;
mod metrics;
mod pace;
mod peers;
mod policy;
mod port;
mod report;
mod service;
mod settings;
mod tracker;
mod trial;
mod whitelist;

pub use service::track;
pub use settings::Settings;
