//! What a realm's file says, before a real network.

use std::fs;
use std::io::Write;
use std::process::Command;

use jsonpipe::testkit::feed;

use super::{ALICE, BINARY, Laboratory, credentials, told};

/// Rewrites the realm's file of Alice.
fn rewrite(laboratory: &Laboratory, change: impl FnOnce(&str) -> String) {
    let file = laboratory.path("labtools/realms.d/uni-a.example.ini");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(file, change(&text)).unwrap();
}

/// Adds entries to the users file of FreeRADIUS, and starts it again.
fn add_users(laboratory: &Laboratory, entries: &str) {
    let mut file = fs::File::options()
        .append(true)
        .open(laboratory.path("raddb/users"))
        .unwrap();
    file.write_all(entries.as_bytes()).unwrap();
    laboratory.script("mode", &["good"]);
}

fn assert_in_and_out(laboratory: &Laboratory, user: (&str, &str)) {
    let (status, login, stderr) = laboratory.login(user);
    assert_eq!(
        (status, &login["authenticated"]),
        (0, &true.into()),
        "{login} {stderr}"
    );
    assert_eq!(laboratory.port(), "authorized");
    assert_eq!(laboratory.logout().0, 0);
    laboratory.assert_closed();
}

fn assert_refused(laboratory: &Laboratory, user: (&str, &str), reason: &str) {
    let (status, login, stderr) = laboratory.login(user);
    assert_eq!(
        (status, &login["reason"]),
        (1, &reason.into()),
        "{login} {stderr}"
    );
    laboratory.assert_closed();
}

#[test]
fn inner_eap_logs_in_where_the_server_takes_nothing_else() {
    let laboratory = Laboratory::up();
    laboratory.script("mode", &["inner-eap"]);
    assert_refused(&laboratory, ALICE, "rejected");
    rewrite(&laboratory, |text| {
        text.replace("phase2=mschapv2", "phase2=eap-mschapv2")
    });
    assert_in_and_out(&laboratory, ALICE);
}

#[test]
fn tls_1_3_is_used_where_the_realm_says_so() {
    let laboratory = Laboratory::up();
    laboratory.script("mode", &["tls13"]);
    assert_refused(&laboratory, ALICE, "no_agreement");
    rewrite(&laboratory, |text| format!("{text}tls13=true\n"));
    assert_in_and_out(&laboratory, ALICE);
    laboratory.script("mode", &["good"]);
    assert_in_and_out(&laboratory, ALICE);
    laboratory.script("mode", &["tls10"]);
    assert_refused(&laboratory, ALICE, "no_agreement");
}

#[test]
fn a_person_of_two_realms_has_one_name_and_the_server_gets_the_typed_one() {
    let laboratory = Laboratory::up();
    rewrite(&laboratory, |text| {
        format!("{text}accepts=old.example\nallow=alice@uni-a.example\n")
    });
    std::os::unix::fs::symlink(
        "uni-a.example.ini",
        laboratory.path("labtools/realms.d/old.example.ini"),
    )
    .unwrap();
    // The server tells cases apart, and knows Alice by no other name in this realm.
    let typed = ("Alice@OLD.example", "another-horse");
    add_users(
        &laboratory,
        &format!("{} Cleartext-Password := \"{}\"\n", typed.0, typed.1),
    );
    let (status, login, stderr) = laboratory.login(typed);
    assert_eq!(
        (status, &login["user"], &login["realm"]),
        (0, &"alice@uni-a.example".into(), &"uni-a.example".into()),
        "{login} {stderr}"
    );
    assert_eq!(laboratory.logout().0, 0);
    laboratory.assert_closed();
}

#[test]
fn a_realm_below_another_logs_in_with_the_file_of_that_one() {
    let laboratory = Laboratory::up();
    let user = ("carl@cs.uni-a.example", "below-horse");
    assert_refused(&laboratory, user, "unknown_realm");
    rewrite(&laboratory, |text| format!("{text}subrealms=true\n"));
    let entry = format!("{} Cleartext-Password := \"{}\"\n", user.0, user.1);
    add_users(&laboratory, &entry);
    assert_in_and_out(&laboratory, user);
    assert_refused(&laboratory, ("carl@cs.uni-a.example", "x"), "rejected");
    assert_refused(&laboratory, ("carl@csuni-a.example", "x"), "unknown_realm");
}

#[test]
fn a_user_who_is_not_allowed_makes_nobody_move() {
    let laboratory = Laboratory::up();
    rewrite(&laboratory, |text| format!("{text}deny=a*@uni-a.example\n"));
    let moved = || {
        let log = fs::read_to_string(laboratory.path("log/NetworkManager.log")).unwrap();
        (
            log.contains("labtools login"),
            laboratory.supplicant_said("eth0"),
        )
    };
    let before = moved();
    assert_refused(&laboratory, ALICE, "not_allowed");
    assert_eq!((before, moved()), ((false, 0), (false, 0)));
    // Others of the realm are let in, and are heard of.
    let carol = ("carol@uni-a.example", "tr0ub4dor");
    assert_in_and_out(&laboratory, carol);
    assert_eq!((moved().0, moved().1 > 0), (true, true));
}

#[test]
fn a_realm_that_wired_ports_do_not_take_is_asked_on_none() {
    let laboratory = Laboratory::up();
    let planned = || {
        let mut command = laboratory.login_command();
        command.arg("--dry-run");
        let (status, login, stderr) = told(feed(command, &credentials(ALICE.0, ALICE.1)));
        assert_eq!(status, 0, "{login} {stderr}");
        login["links"].as_array().unwrap().len()
    };
    assert_eq!(planned(), 2);
    rewrite(&laboratory, |text| format!("{text}wired=false\n"));
    assert_eq!(planned(), 0);
    assert_refused(&laboratory, ALICE, "no_carrier");
}

#[test]
fn a_voucher_logs_in_until_it_expires() {
    let laboratory = Laboratory::up();
    for realm in ["uni-a.example", "uni-b.example"] {
        let (users, slips) = (
            laboratory.path(&format!("vouchers-{realm}")),
            laboratory.path(&format!("slips-{realm}")),
        );
        let mut command = Command::new(BINARY);
        command.args(["guest-voucher", "--realm", realm, "--count", "2"]);
        command
            .arg("--users")
            .arg(&users)
            .arg("--slips")
            .arg(&slips);
        let ended = feed(command, "");
        assert_eq!(ended.status, 0, "{}", ended.stderr);

        // A visitor types what the slip says; of the second, the time is over.
        let slips = fs::read_to_string(slips).unwrap();
        let told = |label: &str| -> Vec<String> {
            let values = slips
                .lines()
                .filter_map(|line| line.trim().strip_prefix(label));
            values.map(|value| value.trim().to_owned()).collect()
        };
        let (names, passwords) = (told("User name"), told("Password"));
        let entries = fs::read_to_string(users).unwrap();
        let last = entries.rfind("Expiration := \"").unwrap();
        let over = format!("{}Expiration := \"1700000000\"\n", &entries[..last]);
        add_users(&laboratory, &over);

        assert_in_and_out(&laboratory, (&names[0], &passwords[0]));
        assert_refused(&laboratory, (&names[1], &passwords[1]), "rejected");
    }
}
