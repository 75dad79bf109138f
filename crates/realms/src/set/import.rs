//! `import`: eap-configs become the files of realms.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use jsonpipe::{Answer, Common, Document, Exit, Pipe, io_error};

use crate::eap_config::authorities;
use crate::eap_config::description::Description;
use crate::realm::bundle::{self, CaCertificate};
use crate::realm::{RealmFile, file_of, site_keys};
use crate::set::report::{Ca, Changed, Imported, Kept, Refused, Set};
use crate::set::{MANIFEST, Next};
use crate::{eap_config, file, find};

/// What to import, and where to.
#[derive(Debug)]
pub struct Import<'a> {
    /// Files, and directories of them.
    pub from: &'a [PathBuf],
    /// The realm, instead of the one that the file names.
    pub realm: Option<&'a str>,
    /// A directory of realms, instead of this machine's set.
    pub into: Option<&'a Path>,
    /// Do all but the switch.
    pub dry_run: bool,
}

/// `import`. Status 66 when there is nothing to read, 75 while another one is under way.
pub fn import(common: &Common, pipe: &Pipe, options: &Import<'_>) -> anyhow::Result<Answer> {
    let files = files(options.from)?;
    let realm = match options.realm {
        None => None,
        Some(_) if files.len() != 1 => {
            return Err(Exit::Usage.error("--realm: it is for one file; import the others apart"));
        }
        Some(name) => Some(
            eap_config::realm(name)
                .ok_or_else(|| Exit::Usage.error("--realm: not a domain name"))?,
        ),
    };
    let mut batch = Batch::default();
    for path in &files {
        let file = path.display().to_string();
        pipe.note(format_args!("reading {file}"));
        batch.add(
            &file,
            read(path).and_then(|bytes| parse(&bytes, realm.as_deref())),
        );
    }
    let next = Next::begin(common, options.into)?;
    let from_server = next.present().map(|present| present.join(MANIFEST));
    if options.into.is_none() && from_server.is_some_and(|path| path.exists()) {
        return Err(Exit::Config.error(format_args!(
            "importing into {}: it came by update-realms, which would drop it again; use --into {}",
            common.path(find::INSTALLED).display(),
            common.config("realms.d").display()
        )));
    }
    let mut filling = Filling::new(common, pipe, &next, options.into);
    filling.fill(batch)?;
    let set = filling.set;
    // In a directory that is given, the file that is kept is the one that is there.
    let kept = match options.into {
        None => set
            .kept
            .iter()
            .flat_map(|kept| names(&kept.realm))
            .collect(),
        Some(_) => Vec::new(),
    };
    next.carry_rest(&kept)?;
    if !set.changed || options.dry_run {
        return answer("import", &set);
    }
    next.publish()?;
    Ok(answer("import", &set)?.staying(true))
}

/// The document about a set. No when something was refused.
pub fn answer(section: &str, set: &Set) -> anyhow::Result<Answer> {
    let mut document = Document::default();
    document.set(section, set)?;
    Ok(if set.refused.is_empty() {
        Answer::yes(document)
    } else {
        Answer::no(document)
    })
}

/// The files of the operands: of a directory those that are called `*.eap-config` or `*.xml`, by
/// name. Status 66 when one is not there.
pub fn files(operands: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for operand in operands {
        let reading = |error| {
            io_error(
                error,
                Exit::of_read,
                format_args!("reading {}", operand.display()),
            )
        };
        if !fs::metadata(operand).map_err(reading)?.is_dir() {
            files.push(operand.clone());
            continue;
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(operand).map_err(reading)? {
            let path = entry.map_err(reading)?.path();
            let ending = path.extension().and_then(|ending| ending.to_str());
            if matches!(ending, Some("eap-config" | "xml")) {
                found.push(path);
            }
        }
        if found.is_empty() {
            return Err(Exit::NoInput.error(format_args!(
                "reading {}: no *.eap-config and no *.xml in it",
                operand.display()
            )));
        }
        found.sort();
        files.append(&mut found);
    }
    Ok(files)
}

/// The bytes of an eap-config.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    file::read(path, manifest::EAP_CONFIG_MAX_BYTES).map_err(|error| error.to_string())
}

/// What a file says, at the present time.
pub fn parse(
    bytes: &[u8],
    realm: Option<&str>,
) -> Result<Vec<Result<Description, String>>, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_secs() as i64);
    eap_config::parse(bytes, realm, now)
}

/// What was read, and not yet installed.
#[derive(Debug, Default)]
pub struct Batch {
    /// By realm, each with its file.
    found: BTreeMap<String, Vec<(String, Description)>>,
    refused: Vec<Refused>,
}

impl Batch {
    /// Adds what was read of a file.
    pub fn add(&mut self, file: &str, read: Result<Vec<Result<Description, String>>, String>) {
        for result in read.unwrap_or_else(|reason| vec![Err(reason)]) {
            match result {
                Ok(description) => {
                    let realm = description.realm.clone();
                    let of_realm = self.found.entry(realm).or_default();
                    of_realm.push((file.to_owned(), description));
                }
                Err(reason) => self.refuse(file, None, reason),
            }
        }
    }

    /// Refuses a file, or one realm of it.
    pub fn refuse(&mut self, file: &str, realm: Option<&str>, reason: String) {
        self.refused.push(Refused {
            file: file.to_owned(),
            realm: realm.map(str::to_owned),
            reason,
        });
    }

    /// One description for each realm; and what is refused, among it those of which nobody knows
    /// which is right.
    pub fn settle(mut self) -> (Vec<(String, Description)>, Vec<Refused>) {
        let mut settled = Vec::new();
        for (realm, mut found) in std::mem::take(&mut self.found) {
            let agree = found
                .windows(2)
                .all(|pair| pair[0].1.agrees_with(&pair[1].1));
            if agree {
                settled.push(found.swap_remove(0));
                continue;
            }
            let files: Vec<String> = found.into_iter().map(|(file, _)| file).collect();
            for (index, file) in files.iter().enumerate() {
                let other = &files[if index == 0 { 1 } else { 0 }];
                let reason = if file == other {
                    "it describes this realm twice, in different ways".into()
                } else {
                    format!("{other} describes this realm in another way; keep one of them")
                };
                self.refuse(file, Some(&realm), reason);
            }
        }
        (settled, self.refused)
    }
}

/// Fills the next set.
#[derive(Debug)]
pub struct Filling<'a> {
    common: &'a Common,
    pipe: &'a Pipe,
    next: &'a Next,
    /// The files of the site, of which one may be about a realm, too.
    site: PathBuf,
    /// The same as a document names it: one that is given as given, otherwise as seen below the root.
    site_name: PathBuf,
    /// What became of it.
    pub set: Set,
}

impl<'a> Filling<'a> {
    /// Of the next set, `into` a directory that is given, which then is the site's.
    pub fn new(
        common: &'a Common,
        pipe: &'a Pipe,
        next: &'a Next,
        into: Option<&Path>,
    ) -> Filling<'a> {
        Filling {
            common,
            pipe,
            next,
            site: into.map_or_else(|| common.config("realms.d"), Path::to_owned),
            site_name: into.map_or_else(|| find::site(common), Path::to_owned),
            set: Set::default(),
        }
    }

    /// Writes what was read, and takes back what the reader of such files refuses.
    pub fn fill(&mut self, batch: Batch) -> anyhow::Result<()> {
        let (settled, refused) = batch.settle();
        self.set.refused.extend(refused);
        for (file, description) in settled {
            if !self.keeps(&description.realm) {
                self.put(&file, description)?;
            }
        }
        Ok(())
    }

    /// Whether the site's file of a realm stays the one that counts, and says so.
    pub fn keeps(&mut self, realm: &str) -> bool {
        let path = file_of(&self.site, realm);
        let Some(reason) = site_keys(&path) else {
            return false;
        };
        self.pipe.note(format_args!("{realm}: {reason}"));
        let file = file_of(&self.site_name, realm).display().to_string();
        self.set.kept.push(Kept {
            realm: realm.to_owned(),
            reason: reason.replace(&path.display().to_string(), &file),
            file,
        });
        true
    }

    fn put(&mut self, file: &str, description: Description) -> anyhow::Result<()> {
        let realm = &description.realm;
        let names = names(realm);
        let texts = [description.ini(), description.pem()];
        for (name, text) in names.iter().zip(&texts) {
            self.next.write(name, text.as_bytes())?;
        }
        // The reader is the judge: what it would refuse at a login is refused here.
        if let Err(error) = RealmFile::read(self.next.directory(), realm, Path::new("/")) {
            for name in &names {
                self.next.remove(name)?;
            }
            let staging = format!("{}/", self.next.directory().display());
            let reason = format!("{error:#}").replace(&staging, "");
            self.set.refused.push(Refused {
                file: file.to_owned(),
                realm: Some(realm.clone()),
                reason,
            });
            return Ok(());
        }
        let is_new = names.iter().zip(&texts).any(|(name, text)| {
            let present = self.next.present().map(|present| present.join(name));
            present.and_then(|path| fs::read(path).ok()).as_deref() != Some(text.as_bytes())
        });
        self.set.changed |= is_new;
        if is_new && let Some(change) = self.change(&description) {
            self.pipe.note(format_args!("{realm}: {change}"));
            self.set.changes.push(change);
        }
        self.set.imported.push(Imported {
            realm: description.realm,
            file: file.to_owned(),
            eap: description.eap.name(),
            phase2: description.phase2.name(),
            left_out: description.left_out,
        });
        Ok(())
    }

    /// What a login to a realm would now believe that it did not before, and the other way around.
    fn change(&self, description: &Description) -> Option<Changed> {
        let realm = &description.realm;
        let root = &self.common.root;
        let before = [self.next.present(), Some(&self.site)]
            .into_iter()
            .flatten()
            .find_map(|directory| RealmFile::read(directory, realm, root).ok())?;
        let pem = description.pem();
        let is_same = fs::read(&before.ca_cert).is_ok_and(|before| before == pem.as_bytes());
        let now = bundle::check(pem.as_bytes()).unwrap_or_default();
        let new_names: Vec<String> = description
            .domain_suffix_match
            .split(';')
            .map(str::to_owned)
            .collect();
        let names = (before.server_names != new_names).then_some((before.server_names, new_names));
        let (old_server_names, new_server_names) = names.unzip();
        (!is_same || new_server_names.is_some()).then(|| Changed {
            realm: realm.clone(),
            old_ca_certificates: before.ca_certificates.iter().map(Ca::of).collect(),
            new_ca_certificates: now.iter().map(Ca::of).collect(),
            old_server_names,
            new_server_names,
        })
    }
}

impl Ca {
    fn of(certificate: &CaCertificate) -> Ca {
        Ca {
            subject: certificate.subject.clone(),
            not_after: authorities::instant(certificate.not_after),
        }
    }
}

/// The names of a realm's two files.
pub fn names(realm: &str) -> [String; 2] {
    [format!("{realm}.ini"), format!("{realm}.pem")]
}
