//! The tracker that introduces the machines of a building to each other, and lets few of them know
//! the servers: `seedctl track`.
//!
//! `announce` reads what a client says, `introduce` decides whom it is told, and `answer` writes
//! that down. `peers` knows the hosts of a torrent, `trial` whether another one would be the better
//! gateway, `policy` the numbers, and `whitelist` the torrents that are served. `tracker` holds all
//! of it, and `service` runs it behind its `port`.

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
