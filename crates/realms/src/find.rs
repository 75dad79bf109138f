//! The places of the realms' files, and the file that a user name leads to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jsonpipe::{Common, Exit, io_error};
use serde::{Deserialize, Serialize};

use crate::realm::{Eap, Phase2, RealmFile, file_of, is_domain_name, site_keys};
use crate::set;
use crate::user_name::UserName;

/// All that a login needs of a realm's file.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Realm {
    /// The realm whose file it is, in lower case.
    pub realm: String,
    /// The user's canonical name: the only one that names a disk or an entry of the register.
    pub user: String,
    /// Whether the file lets this user log in.
    pub admitted: bool,
    /// The outer method.
    pub eap: Eap,
    /// The inner one.
    pub phase2: Phase2,
    /// The name outside the tunnel, that everybody on the way can read.
    pub anonymous_identity: String,
    /// The CAs that may have signed the server's certificate, a PEM file; an absolute path.
    pub ca_cert: PathBuf,
    /// The server's certificate must be for one of these names, separated by `;`, or one below it.
    pub domain_suffix_match: String,
    /// Whether TLS 1.3 may be used beside 1.2.
    pub tls13: bool,
    /// The wireless networks that take the user.
    pub ssids: Vec<String>,
    /// Whether wired ports take the user.
    pub wired: bool,
}

/// Finds the realm of a user name; `None` when no file is for it.
///
/// Of the files for the name's realm and those above it the one with the longest name counts, and
/// it must say that it is for realms below it. Status 78 when that file is wrong.
pub fn find(common: &Common, name: &UserName) -> anyhow::Result<Option<Realm>> {
    let Some(file) = Places::of(common)?.locate(&name.realm)? else {
        return Ok(None);
    };
    let user = file.canonical(name);
    Ok(Some(Realm {
        admitted: file.gate.admits(&user),
        user,
        anonymous_identity: file
            .anonymous_identity
            .unwrap_or_else(|| format!("anonymous@{}", name.realm)),
        realm: file.realm,
        eap: file.eap,
        phase2: file.phase2,
        ca_cert: file.ca_cert,
        domain_suffix_match: file.server_names.join(";"),
        tls13: file.tls13,
        ssids: file.ssids,
        wired: file.wired,
    }))
}

/// A directory of realms' files.
#[derive(Debug)]
pub struct Place {
    /// Its name, as seen below the root.
    pub name: PathBuf,
    /// Where it really is: a set that is switched meanwhile does not mix with the next.
    pub directory: PathBuf,
}

/// The directories of realms' files that are there.
#[derive(Debug)]
pub struct Places {
    /// What an update brought, then what the machine was installed with.
    pub places: Vec<Place>,
    root: PathBuf,
}

/// What stands in a place under the name of a realm's file.
#[derive(Debug)]
pub enum Found {
    /// The file.
    File,
    /// A link that says under which realm the file is.
    Link(String),
}

impl Places {
    /// Those of a machine.
    pub fn of(common: &Common) -> anyhow::Result<Places> {
        let installed = match &common.config {
            Some(directory) => directory.join("realms.d"),
            None => "/etc/labtools/realms.d".into(),
        };
        let mut places = Vec::new();
        for (name, path) in [
            (set::INSTALLED.into(), common.path(set::INSTALLED)),
            (installed, common.config("realms.d")),
        ] {
            match fs::canonicalize(&path) {
                Ok(directory) => places.push(Place { name, directory }),
                Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => {}
                Err(error) => {
                    let text = format_args!("looking into {}", path.display());
                    return Err(io_error(error, |_| Exit::Config, text));
                }
            }
        }
        Ok(Places {
            places,
            root: common.root.clone(),
        })
    }

    /// The places by how much they count for a realm: what an update brought comes before what the
    /// machine was installed with. But an update knows nothing of who may log in here, so a file of
    /// the site that says it comes first.
    pub fn for_realm(&self, realm: &str) -> Vec<&Place> {
        let mut places: Vec<&Place> = self.places.iter().collect();
        places.sort_by_key(|place| {
            let is_of_the_site = place.name != Path::new(set::INSTALLED);
            !(is_of_the_site && site_keys(&file_of(&place.directory, realm)).is_some())
        });
        places
    }

    /// The file that is for the users of a realm.
    pub fn locate(&self, realm: &str) -> anyhow::Result<Option<RealmFile>> {
        if !is_domain_name(realm) {
            return Ok(None);
        }
        let mut candidate = realm;
        loop {
            for Place { directory, .. } in self.for_realm(candidate) {
                match look(directory, candidate)? {
                    None => {}
                    Some(Found::File) => {
                        let file = RealmFile::read(directory, candidate, &self.root)?;
                        return Ok(file.covers(realm).then_some(file));
                    }
                    // For this one realm, none below it.
                    Some(Found::Link(_)) if candidate != realm => return Ok(None),
                    Some(Found::Link(target)) => {
                        return self.follow(directory, realm, &target).map(Some);
                    }
                }
            }
            match candidate.split_once('.') {
                Some((_, above)) => candidate = above,
                None => return Ok(None),
            }
        }
    }

    /// The file that a link leads to, which must accept the realm that the link is called by.
    fn follow(&self, directory: &Path, realm: &str, target: &str) -> anyhow::Result<RealmFile> {
        let link = file_of(directory, realm);
        for Place { directory, .. } in self.for_realm(target) {
            if let Some(found) = look(directory, target)? {
                let file = match found {
                    Found::File => RealmFile::read(directory, target, &self.root)?,
                    Found::Link(_) => break,
                };
                if !file.accepts.iter().any(|accepted| accepted == realm) {
                    return Err(Exit::Config.error(format_args!(
                        "{}: a link to {target}.ini, which does not accept {realm}; add it to accepts there",
                        link.display()
                    )));
                }
                return Ok(file);
            }
        }
        Err(Exit::Config.error(format_args!(
            "{}: a link to {target}.ini, which is no file",
            link.display()
        )))
    }
}

/// Looks for a realm's file in a directory. Opens nothing.
pub fn look(directory: &Path, realm: &str) -> anyhow::Result<Option<Found>> {
    let path = file_of(directory, realm);
    let failed = |error| {
        io_error(
            error,
            Exit::of_read,
            format_args!("looking for {}", path.display()),
        )
    };
    match fs::symlink_metadata(&path) {
        Ok(about) if about.is_symlink() => {
            let target = fs::read_link(&path).map_err(failed)?;
            let of = target
                .to_str()
                .and_then(|name| name.strip_suffix(".ini"))
                .filter(|name| is_domain_name(name));
            of.map(|of| Some(Found::Link(of.to_owned()))).ok_or_else(|| {
                Exit::Config.error(format_args!(
                    "{}: a link to elsewhere; only a link to the file of another realm in this directory is read",
                    path.display()
                ))
            })
        }
        Ok(_) => Ok(Some(Found::File)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use proptest::prelude::*;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    /// See testdata/README.md.
    const CERTIFICATE: &str = include_str!("../../../testdata/nm-8021x-login/ca.pem");
    const INSTALLED: &str = "etc/labtools/realms.d";
    const SETS: &str = "var/lib/labtools/sets/7";

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        common: Common,
    }

    struct Machine {
        root: TempDir,
        common: Common,
    }

    impl Machine {
        fn new() -> Machine {
            let root = tempfile::tempdir().unwrap();
            for place in [INSTALLED, SETS] {
                fs::create_dir_all(root.path().join(place)).unwrap();
                fs::write(root.path().join(place).join("ca.pem"), CERTIFICATE).unwrap();
            }
            symlink("sets/7", root.path().join("var/lib/labtools/realms")).unwrap();
            let common =
                Arguments::parse_from(["x", "--root", root.path().to_str().unwrap()]).common;
            Machine { root, common }
        }

        fn path(&self, place: &str, realm: &str) -> PathBuf {
            file_of(&self.root.path().join(place), realm)
        }

        fn with(self, place: &str, realm: &str, keys: &str) -> Machine {
            let text = format!(
                "[realm.{realm}]\neap=ttls\nphase2=pap\nca_cert=ca.pem\ndomain_suffix_match=radius.{realm}\n{keys}\n"
            );
            fs::write(self.path(place, realm), text).unwrap();
            self
        }

        fn link(self, realm: &str, target: &str) -> Machine {
            symlink(target, self.path(INSTALLED, realm)).unwrap();
            self
        }

        fn find(&self, typed: &str) -> anyhow::Result<Option<Realm>> {
            find(&self.common, &UserName::parse(typed).unwrap())
        }

        /// The realm that a name leads to, and the canonical name.
        fn leads(&self, typed: &str) -> Option<(String, String)> {
            let found = self.find(typed).unwrap()?;
            Some((found.realm, found.user))
        }

        fn refusal(&self, typed: &str) -> String {
            let error = self.find(typed).unwrap_err();
            assert_eq!(Exit::of(&error), Exit::Config);
            format!("{error:#}")
        }
    }

    fn to(realm: &str, user: &str) -> Option<(String, String)> {
        Some((realm.into(), user.into()))
    }

    #[test]
    fn the_longest_suffix_of_whole_labels_counts() {
        let machine = Machine::new()
            .with(INSTALLED, "uni-a.example", "subrealms=true")
            .with(INSTALLED, "med.uni-a.example", "")
            .with(INSTALLED, "law.uni-a.example", "subrealms=true")
            .with(INSTALLED, "uni-b.example", "");
        for (typed, expected) in [
            ("A@Uni-A.example", to("uni-a.example", "a@uni-a.example")),
            (
                "a@x.uni-a.example",
                to("uni-a.example", "a@x.uni-a.example"),
            ),
            (
                "a@med.uni-a.example",
                to("med.uni-a.example", "a@med.uni-a.example"),
            ),
            (
                "a@x.law.uni-a.example",
                to("law.uni-a.example", "a@x.law.uni-a.example"),
            ),
            ("a@x.med.uni-a.example", None),
            ("a@x.uni-b.example", None),
            ("a@ni-a.example", None),
            ("a@xuni-a.example", None),
            ("a@example", None),
            ("a@.uni-a.example", None),
            ("a@x..uni-a.example", None),
            ("a@../realms.d/uni-a.example", None),
            ("a@-x.uni-a.example", None),
        ] {
            assert_eq!(machine.leads(typed), expected, "{typed}");
        }
        let outer = machine.find("a@X.uni-a.example").unwrap().unwrap();
        assert_eq!(outer.anonymous_identity, "anonymous@x.uni-a.example");
    }

    #[test]
    fn an_updated_set_opens_no_gate_of_the_site() {
        for gate in [
            "allow=bob@uni-a.example",
            "deny=a*@uni-a.example",
            "group=bobs",
        ] {
            let machine = Machine::new().with(SETS, "uni-a.example", "").with(
                INSTALLED,
                "uni-a.example",
                gate,
            );
            fs::write(
                machine.root.path().join(INSTALLED).join("bobs"),
                "bob@uni-a.example\n",
            )
            .unwrap();
            for (typed, admitted) in [("bob@uni-a.example", true), ("alice@uni-a.example", false)] {
                let found = machine.find(typed).unwrap().unwrap();
                assert_eq!(found.admitted, admitted, "{gate}: {typed}");
            }
        }
        let torn = Machine::new().with(SETS, "uni-a.example", "");
        fs::write(torn.path(INSTALLED, "uni-a.example"), "[realm.uni-a.exa").unwrap();
        assert!(torn.refusal("alice@uni-a.example").contains(INSTALLED));
        let accepting = Machine::new()
            .with(SETS, "uni-a.example", "")
            .with(SETS, "old.example", "")
            .with(INSTALLED, "uni-a.example", "accepts=old.example")
            .link("old.example", "uni-a.example.ini");
        assert_eq!(
            accepting.leads("a@old.example"),
            to("uni-a.example", "a@uni-a.example")
        );
    }

    #[test]
    fn an_updated_set_comes_before_what_was_installed() {
        let machine = Machine::new()
            .with(INSTALLED, "uni-a.example", "")
            .with(SETS, "uni-a.example", "tls13=true")
            .with(INSTALLED, "sub.uni-b.example", "")
            .with(SETS, "uni-b.example", "subrealms=true");
        assert!(machine.find("a@uni-a.example").unwrap().unwrap().tls13);
        // The longest name, wherever it is.
        let found = machine.find("a@sub.uni-b.example").unwrap().unwrap();
        assert_eq!(found.realm, "sub.uni-b.example");
        let ca = machine.find("a@uni-a.example").unwrap().unwrap().ca_cert;
        assert!(ca.ends_with("sets/7/ca.pem"), "{}", ca.display());
    }

    #[test]
    fn an_accepted_realm_leads_by_a_link_to_the_same_people() {
        let machine = Machine::new()
            .with(
                INSTALLED,
                "uni-a.example",
                "accepts=old.example,stud.uni-a.example\ndeny=eve@uni-a.example",
            )
            .link("old.example", "uni-a.example.ini")
            .link("new.example", "uni-a.example.ini")
            .link("lost.example", "nowhere.example.ini")
            .link("twice.example", "old.example.ini")
            .link("out.example", "../bases.ini")
            .link("passwd.example", "/etc/passwd");
        for typed in [
            "Al@old.example",
            "al@stud.uni-a.example",
            "al@uni-a.example",
        ] {
            assert_eq!(
                machine.leads(typed),
                to("uni-a.example", "al@uni-a.example")
            );
        }
        let eve = machine.find("Eve@old.example").unwrap().unwrap();
        assert!(!eve.admitted, "by the canonical name");
        assert_eq!(eve.anonymous_identity, "anonymous@old.example");
        assert_eq!(machine.leads("al@sub.old.example"), None);
        for (realm, why) in [
            ("new.example", "does not accept new.example"),
            ("lost.example", "which is no file"),
            ("twice.example", "which is no file"),
            ("out.example", "out.example.ini: a link to elsewhere"),
            ("passwd.example", "passwd.example.ini: a link to elsewhere"),
        ] {
            let refusal = machine.refusal(&format!("al@{realm}"));
            assert!(refusal.contains(why), "{refusal}");
        }
    }

    #[test]
    fn what_is_no_file_of_a_realm_is_refused_by_its_name() {
        let machine = Machine::new();
        let path = machine.path(INSTALLED, "a.example");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(
            machine
                .refusal("a@a.example")
                .contains("a.example.ini: not a regular file")
        );
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(
            machine
                .refusal("a@x.a.example")
                .contains("a.example.ini: is a directory")
        );
        fs::remove_dir(&path).unwrap();
        fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(
            machine
                .refusal("a@a.example")
                .contains("a.example.ini: larger than 1 MiB")
        );
    }

    #[test]
    fn a_lookup_reads_no_other_file() {
        let mut machine = Machine::new();
        for number in 0..5000 {
            // A read of it would be an error.
            fs::write(machine.path(INSTALLED, &format!("r{number}.example")), "[").unwrap();
        }
        machine = machine.with(INSTALLED, "uni-a.example", "");
        assert!(machine.find("a@uni-a.example").unwrap().is_some());
        assert!(machine.find("a@r.example").unwrap().is_none());
        assert!(
            machine
                .refusal("a@r4999.example")
                .contains("r4999.example.ini")
        );
    }

    #[test]
    fn a_place_that_is_no_directory_is_78() {
        let machine = Machine::new();
        fs::remove_dir_all(machine.root.path().join(SETS)).unwrap();
        assert!(
            machine
                .refusal("a@uni-a.example")
                .contains("var/lib/labtools/realms")
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_name_leads_to_the_longest_file_above_it(
            files in proptest::collection::btree_map("[ab](\\.[ab]){1,2}", any::<bool>(), 0..6),
            realm in "[ab](\\.[ab]){1,4}",
        ) {
            let mut machine = Machine::new();
            for (name, subrealms) in &files {
                // A server's name needs a dot, which each of these has.
                machine = machine.with(INSTALLED, name, &format!("subrealms={subrealms}"));
            }
            let labels = |name: &str| name.split('.').map(str::to_owned).collect::<Vec<_>>();
            let expected = files
                .iter()
                .filter(|(name, _)| labels(&realm).ends_with(&labels(name)))
                .max_by_key(|(name, _)| name.len())
                .filter(|(name, subrealms)| **name == realm || **subrealms)
                .map(|(name, _)| name.clone());
            prop_assert_eq!(machine.leads(&format!("a@{realm}")).map(|(realm, _)| realm), expected);
        }
    }
}
