//! `publish-realms`: a directory of eap-configs becomes the set that machines fetch.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::Path;
use std::time::SystemTime;

use jsonpipe::{Answer, Common, Document, Exit, ExitContext, Pipe, atomic, timestamp};
use manifest::{EapConfig, Keys, Kind, Realms, Signature, Signed, SigningKey};

use crate::set::import::{Batch, Filling, files, parse, read};
use crate::set::report::{Imported, Publication, Refused, Set};
use crate::set::update::{SIGNATURE, digest};
use crate::set::{MANIFEST, Next};

/// What to publish.
#[derive(Debug)]
pub struct Publish<'a> {
    /// The directory of eap-configs, which the web server shows.
    pub directory: &'a Path,
    /// The private key.
    pub key: &'a Path,
    /// Do all, but write nothing.
    pub dry_run: bool,
}

/// `publish-realms`. Status 66 when the directory or the key is not there, 78 when machines with
/// the keys of this one would not believe it.
pub fn publish(common: &Common, pipe: &Pipe, options: &Publish<'_>) -> anyhow::Result<Answer> {
    let directory = options.directory;
    let keys = Keys::read(&common.config("keys"), Kind::Realms)?;
    let key = signing_key(common, &keys, options.key)?;
    // Machines read the files as they are read here, down to the files of realms. These are not
    // kept; the lock on the directory is.
    let scratch = directory.join("realms");
    let next = Next::begin(common, Some(&scratch))?;
    let mut batch = Batch::default();
    let mut described = BTreeMap::new();
    for path in files(&[directory.to_owned()])? {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        pipe.note(format_args!("reading {name}"));
        let bytes = match read(&path) {
            Ok(bytes) if manifest::is_file_name(&name) => bytes,
            Ok(_) => {
                batch.refuse(&name, None, manifest::FILE_NAME_RULE.into());
                continue;
            }
            Err(reason) => {
                batch.refuse(&name, None, reason);
                continue;
            }
        };
        batch.add(&name, parse(&bytes, None));
        let file = EapConfig {
            name: name.clone(),
            size_bytes: bytes.len() as u64,
            sha256: digest(&bytes),
            realms: Vec::new(),
        };
        described.insert(name, file);
    }
    let mut filling = Filling::new(common, pipe, &next, Some(&scratch));
    filling.fill(batch)?;
    let Set {
        imported, refused, ..
    } = filling.set;
    let mut realms = Vec::new();
    for Imported { realm, file, .. } in imported {
        if let Some(file) = described.get_mut(&file) {
            file.realms.push(realm.clone());
        }
        realms.push(realm);
    }
    let files = described.into_values();
    let files: Vec<EapConfig> = files.filter(|file| !file.realms.is_empty()).collect();
    let published = Published::read(directory)?;
    let mut section = Publication {
        changed: false,
        generation: published.set.as_ref().map(|set| set.generation),
        removed: published.without(&realms),
        lost: published.lost(&refused),
        realms,
        refused,
    };
    if !section.lost.is_empty() || published.is_of(&files, &keys) {
        return answer(&section);
    }
    let generation = section.generation.unwrap_or_default() + 1;
    let set = Realms {
        generation,
        created_at: timestamp::rfc3339(SystemTime::now()),
        files,
    };
    let signed = Signed::seal(&set, &key)?;
    section.generation = Some(generation);
    section.changed = true;
    if options.dry_run {
        return answer(&section);
    }
    let put = |name: &str, bytes: &[u8]| {
        atomic::write(&directory.join(name), 0o644, |file| file.write_all(bytes))
    };
    put(MANIFEST, &signed.bytes)?;
    put(SIGNATURE, &signed.signature.to_bytes())?;
    Ok(answer(&section)?.staying(true))
}

fn answer(section: &Publication) -> anyhow::Result<Answer> {
    let mut document = Document::default();
    document.set("publication", section)?;
    Ok(if section.refused.is_empty() {
        Answer::yes(document)
    } else {
        Answer::no(document)
    })
}

/// The private key, if machines believe what it signs.
fn signing_key(common: &Common, keys: &Keys, path: &Path) -> anyhow::Result<SigningKey> {
    let key = SigningKey::read(path)?;
    if keys.accept(&key) {
        return Ok(key);
    }
    let (path, directory) = (path.display(), common.config("keys"));
    Err(Exit::Config.error(format_args!(
        "signing with {path}: its public half is none of {keys}; machines would refuse the set; \
         put it there: openssl pkey -in {path} -pubout -out {}/realms-NAME.pub",
        directory.display()
    )))
}

/// The set that was published before.
struct Published {
    set: Option<Realms>,
    bytes: Vec<u8>,
    signature: Option<Signature>,
}

impl Published {
    /// Status 65 when there is a manifest that is none: its generation would be lost.
    fn read(directory: &Path) -> anyhow::Result<Published> {
        let path = directory.join(MANIFEST);
        let bytes = jsonpipe::read_if_there(&path)?;
        let signature = jsonpipe::read_if_there(&directory.join(SIGNATURE))?;
        let set = bytes.as_deref().map(serde_json::from_slice::<Realms>);
        Ok(Published {
            set: set.transpose().exit(Exit::Data, || {
                format!("reading {}: not the manifest of realms", path.display())
            })?,
            bytes: bytes.unwrap_or_default(),
            signature: signature.and_then(|bytes| Signature::from_bytes(&bytes)),
        })
    }

    /// Whether it is about these files, and machines believe it.
    fn is_of(&self, files: &[EapConfig], keys: &Keys) -> bool {
        let (Some(set), Some(signature)) = (&self.set, self.signature) else {
            return false;
        };
        let signed = Signed {
            bytes: self.bytes.clone(),
            signature,
        };
        set.files == files && signed.verify::<Realms>(keys).is_ok()
    }

    fn files(&self) -> impl Iterator<Item = &EapConfig> {
        self.set.iter().flat_map(|set| &set.files)
    }

    /// Its realms that are not among those.
    fn without(&self, realms: &[String]) -> Vec<String> {
        let realms: HashSet<&String> = realms.iter().collect();
        let all = self.files().flat_map(|file| &file.realms);
        all.filter(|realm| !realms.contains(realm))
            .cloned()
            .collect()
    }

    /// The files that it has, of which something is refused now: a download that failed, or a CA
    /// that was lost. A set without them would take their realms from every machine.
    fn lost(&self, refused: &[Refused]) -> Vec<String> {
        let refused: HashSet<&String> = refused.iter().map(|refused| &refused.file).collect();
        self.files()
            .map(|file| &file.name)
            .filter(|name| refused.contains(name))
            .cloned()
            .collect()
    }
}
