//! The recipe: what the first boot changes and installs, as build.ps1 reads it. It is ASCII,
//! because PowerShell 5.1 reads a file without a byte-order mark in the system's code page.

use serde::Serialize;

use crate::request::{Programs, Start, Trim};

#[derive(Debug, Serialize)]
pub struct Recipe<'a> {
    schema: u64,
    services: Vec<Service<'a>>,
    tasks: &'a [String],
    apps: &'a [String],
    chocolatey: Vec<Package<'a>>,
    wpkg: &'a [String],
    msi: Vec<Installer<'a>>,
}

#[derive(Debug, Serialize)]
struct Service<'a> {
    name: &'a str,
    /// A start type of PowerShell's Set-Service.
    start: &'static str,
}

#[derive(Debug, Serialize)]
struct Package<'a> {
    name: &'a str,
    version: &'a str,
}

#[derive(Debug, Serialize)]
struct Installer<'a> {
    file: &'a str,
    properties: &'a str,
}

impl<'a> Recipe<'a> {
    pub fn new(trim: &'a Trim, programs: &'a Programs) -> Recipe<'a> {
        let service = |(name, start): &'a (String, Start)| Service {
            name,
            start: match start {
                Start::Disabled => "Disabled",
                Start::Manual => "Manual",
            },
        };
        let package = |(name, version): &'a (String, String)| Package { name, version };
        let installer = |(file, properties): &'a (String, String)| Installer { file, properties };
        Recipe {
            schema: 1,
            services: trim.services.iter().map(service).collect(),
            tasks: &trim.tasks,
            apps: &trim.apps,
            chocolatey: programs.chocolatey.iter().map(package).collect(),
            wpkg: &programs.wpkg,
            msi: programs.msi.iter().map(installer).collect(),
        }
    }

    /// Indented, for people.
    pub fn to_text(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}
