//! Names, and where they lead.

use super::*;
use clap::Parser;
use proptest::prelude::*;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

/// See testdata/README.md.
const CERTIFICATE: &str = include_str!("../../../../testdata/nm-8021x-login/ca.pem");
const SITE: &str = "etc/labtools/realms.d";
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
        for place in [SITE, SETS] {
            fs::create_dir_all(root.path().join(place)).unwrap();
            fs::write(root.path().join(place).join("ca.pem"), CERTIFICATE).unwrap();
        }
        symlink("sets/7", root.path().join("var/lib/labtools/realms")).unwrap();
        let common = Arguments::parse_from(["x", "--root", root.path().to_str().unwrap()]).common;
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
        symlink(target, self.path(SITE, realm)).unwrap();
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
        .with(SITE, "uni-a.example", "subrealms=true")
        .with(SITE, "med.uni-a.example", "")
        .with(SITE, "law.uni-a.example", "subrealms=true")
        .with(SITE, "uni-b.example", "");
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
        let machine =
            Machine::new()
                .with(SETS, "uni-a.example", "")
                .with(SITE, "uni-a.example", gate);
        fs::write(
            machine.root.path().join(SITE).join("bobs"),
            "bob@uni-a.example\n",
        )
        .unwrap();
        for (typed, admitted) in [("bob@uni-a.example", true), ("alice@uni-a.example", false)] {
            let found = machine.find(typed).unwrap().unwrap();
            assert_eq!(found.admitted, admitted, "{gate}: {typed}");
        }
    }
    let torn = Machine::new().with(SETS, "uni-a.example", "");
    fs::write(torn.path(SITE, "uni-a.example"), "[realm.uni-a.exa").unwrap();
    assert!(torn.refusal("alice@uni-a.example").contains(SITE));
    let accepting = Machine::new()
        .with(SETS, "uni-a.example", "")
        .with(SETS, "old.example", "")
        .with(SITE, "uni-a.example", "accepts=old.example")
        .link("old.example", "uni-a.example.ini");
    assert_eq!(
        accepting.leads("a@old.example"),
        to("uni-a.example", "a@uni-a.example")
    );
}

#[test]
fn an_updated_set_leads_nobody_around_a_gate_of_the_site() {
    let machine = Machine::new()
        .with(
            SITE,
            "uni-a.example",
            "subrealms=true\nallow=bob@cs.uni-a.example",
        )
        .with(SETS, "cs.uni-a.example", "")
        .with(SITE, "uni-b.example", "allow=bob@uni-b.example")
        .with(SITE, "law.uni-a.example", "")
        .with(SETS, "law.uni-a.example", "tls13=true")
        .with(SETS, "cs.uni-b.example", "");
    for (typed, realm, admitted) in [
        ("bob@cs.uni-a.example", "uni-a.example", true),
        ("alice@cs.uni-a.example", "uni-a.example", false),
        // The site itself says that these have a file, or that the gate is not for them.
        ("alice@law.uni-a.example", "law.uni-a.example", true),
        ("alice@cs.uni-b.example", "cs.uni-b.example", true),
    ] {
        let found = machine.find(typed).unwrap().unwrap();
        assert_eq!(
            (found.realm.as_str(), found.admitted),
            (realm, admitted),
            "{typed}"
        );
    }
    assert!(machine.find("a@law.uni-a.example").unwrap().unwrap().tls13);
    fs::write(machine.path(SITE, "uni-a.example"), "[realm.uni-a.exa").unwrap();
    assert!(machine.refusal("alice@cs.uni-a.example").contains(SITE));
}

#[test]
fn an_updated_set_comes_before_what_was_installed() {
    let machine = Machine::new()
        .with(SITE, "uni-a.example", "")
        .with(SETS, "uni-a.example", "tls13=true")
        .with(SITE, "sub.uni-b.example", "")
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
            SITE,
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
    let path = machine.path(SITE, "a.example");
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
        fs::write(machine.path(SITE, &format!("r{number}.example")), "[").unwrap();
    }
    machine = machine.with(SITE, "uni-a.example", "");
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
            machine = machine.with(SITE, name, &format!("subrealms={subrealms}"));
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
