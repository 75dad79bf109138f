//! The settings of the tracker and aria2: seedctl.ini.

use jsonpipe::ini::Configuration;
use jsonpipe::{Common, Exit};

use crate::request::Aria2;

/// The content of seedctl.ini. Missing keys have their defaults.
#[derive(Debug)]
pub struct Settings {
    /// The tracker's sections.
    pub tracker: tracker::Settings,
    /// `[aria2]`.
    pub aria2: Aria2,
}

impl Settings {
    /// Reads the file. Status 78 when it is invalid.
    pub fn read(common: &Common) -> anyhow::Result<Settings> {
        let path = common.config("seedctl.ini");
        let mut file = Configuration::read(&path)?;
        let settings = Settings {
            tracker: tracker::Settings::read(&mut file)?,
            aria2: file.section("aria2")?.unwrap_or_default(),
        };
        file.end()?;
        settings
            .tracker
            .check()
            .map_err(|message| Exit::Config.error(format_args!("{}: {message}", path.display())))?;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::fs;

    fn read(text: &str) -> Result<Settings, (Exit, String)> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("seedctl.ini");
        fs::write(&path, text).unwrap();
        let arguments = [
            "seedctl",
            "track",
            "--config",
            directory.path().to_str().unwrap(),
        ];
        let common = crate::request::Arguments::parse_from(arguments).common;
        Settings::read(&common).map_err(|error| {
            (
                Exit::of(&error),
                format!("{error:#}").replace(path.to_str().unwrap(), "ini"),
            )
        })
    }

    #[test]
    fn missing_settings_have_defaults() {
        let settings = read("").unwrap();
        assert_eq!(
            (
                settings.tracker.everywhere.interval_seconds,
                settings.tracker.everywhere.gateways
            ),
            (10, 1)
        );
        let settings =
            read("[tracker]\ngateways=2\n[building.AT 9]\nuplink_bytes_per_second=12000000\n")
                .unwrap();
        assert_eq!(
            (
                settings.tracker.everywhere.gateways,
                settings.tracker.everywhere.wireless_hosts
            ),
            (2, 4)
        );
        assert_eq!(
            settings.tracker.buildings["AT 9"].uplink_bytes_per_second,
            Some(12_000_000)
        );
    }

    #[test]
    fn settings_refuse_impossible_values() {
        for (text, message) in [
            (
                "[tracker]\ninterval_seconds=0\n",
                "ini: tracker.interval_seconds: not from 1 to 600",
            ),
            (
                "[tracker]\ngateways=0\n",
                "ini: tracker.gateways: not from 1 to 16",
            ),
            (
                "[tracker]\nlisten=here\n",
                "ini: tracker.listen: invalid socket address syntax",
            ),
            ("[tracker]\nport=1\n", "ini: tracker.port: unknown key"),
            (
                "[building.b]\ngateways=17\n",
                "ini: building.b.gateways: not from 1 to 16",
            ),
            (
                "[building.b]\nuplink_bytes_per_second=0\n",
                "ini: building.b.uplink_bytes_per_second: 0 lets nothing in; leave it out for no limit",
            ),
            ("[trackers]\n", "ini: [trackers]: unknown section"),
        ] {
            assert_eq!(read(text).unwrap_err(), (Exit::Config, message.to_owned()));
        }
    }
}
