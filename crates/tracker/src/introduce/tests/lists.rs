//! Tests of the answers: which peers, how many, and the interval.

use super::*;

#[test]
fn wireless_hosts_get_the_servers_a_few_at_a_time_and_nothing_else() {
    let mut lab = Lab::new();
    lab.told(SERVER, 0);
    lab.told("10.1.1.1", SIZE);
    let servers = [SERVER.to_owned()];
    let told: Vec<Vec<String>> = (1..=4)
        .map(|host| lab.told(&format!("10.254.0.{host}"), SIZE))
        .collect();
    assert_eq!(told, [&servers[..], &servers, &[], &[]]);
    assert_eq!(
        lab.announce("10.254.0.3", said(SIZE)).interval,
        Duration::from_secs(10),
        "it asks again soon"
    );
    assert_eq!(
        lab.told("10.1.1.1", SIZE),
        servers,
        "a lab host learns no wireless one of its building"
    );
    assert!(!lab.swarm.is_gateway([10, 254, 0, 1].into()));
    // The first completes, the second leaves.
    lab.told("10.254.0.1", 0);
    assert_eq!(lab.told("10.254.0.4", SIZE), Vec::<String>::new());
    assert_eq!(lab.told("10.254.0.3", SIZE), servers);
    lab.stop("10.254.0.2");
    assert_eq!(lab.told("10.254.0.4", SIZE), servers);
    // A complete wireless host does not make its building complete.
    assert_eq!(lab.told("10.1.1.1", SIZE), servers);
}

#[test]
fn a_new_server_fills_from_the_others() {
    let mut lab = Lab::new();
    lab.told(SERVER, 0);
    assert_eq!(lab.told("10.0.0.3", SIZE), [SERVER]);
    assert_eq!(
        lab.told("10.1.1.1", SIZE),
        [SERVER, "10.0.0.3"],
        "complete hosts come first"
    );
    assert!(lab.told("10.0.0.3", 0).is_empty());
}

#[test]
fn hosts_behind_one_address_are_told_apart_by_their_ports() {
    let mut lab = Lab::new();
    lab.told(SERVER, 0);
    let on = |port: u16, left: u64| Announce { port, ..said(left) };
    lab.announce("10.1.1.1", on(6881, SIZE));
    let told = lab.announce("10.1.1.1", on(6882, SIZE)).peers;
    assert_eq!(told, ["10.1.1.1:6881".parse().unwrap()]);
    // 10,000 fake clients: the address keeps its limit, and other hosts are unaffected.
    lab.told("10.1.1.2", SIZE);
    for port in 10_000..20_000 {
        lab.pass(u64::from(port % 1000 == 0));
        let net = Arc::clone(lab.campus.find([10, 1, 1, 1].into()).unwrap());
        lab.swarm
            .announce(
                lab.now,
                &lab.policy,
                &net,
                [10, 1, 1, 1].into(),
                &on(port, SIZE),
            )
            .unwrap();
    }
    check(&lab.swarm);
    assert_eq!(lab.swarm.peers().len(), 2 + PORTS_MAX);
    assert!(
        lab.swarm
            .peers()
            .contains_key(&"10.1.1.2:6881".parse().unwrap())
    );
}

#[test]
fn a_swarm_is_bounded() {
    let mut lab = Lab::new();
    let net = Arc::clone(lab.campus.find([10, 200, 0, 0].into()).unwrap());
    for host in 0..PEERS_MAX as u32 {
        let address = IpAddr::V4((0x0ac8_0000 + host).into());
        lab.swarm
            .announce(lab.now, &lab.policy, &net, address, &said(SIZE))
            .unwrap();
    }
    let one_more = lab.swarm.announce(
        lab.now,
        &lab.policy,
        &net,
        [10, 200, 255, 255].into(),
        &said(SIZE),
    );
    assert_eq!(one_more, Err(Full));
    check(&lab.swarm);
    lab.swarm
        .announce(lab.now, &lab.policy, &net, [10, 200, 0, 0].into(), &said(1))
        .unwrap();
    lab.pass(30);
    lab.swarm.sweep(lab.now);
    assert!(lab.swarm.peers().is_empty());
}

#[test]
fn a_client_gets_as_many_as_it_wants_at_most() {
    let mut lab = Lab::new();
    lab.told(SERVER, 0);
    for host in 1..=5 {
        lab.told(&format!("10.1.1.{host}"), SIZE);
    }
    for wanted in [0, 1, 3] {
        let answer = lab.announce(
            "10.1.1.1",
            Announce {
                wanted,
                ..said(SIZE)
            },
        );
        assert_eq!(answer.peers.len(), wanted);
        assert!(wanted == 0 || answer.peers[0].ip().to_string() == SERVER);
    }
}

#[test]
fn a_large_building_stays_connected_and_listens_to_the_tracker() {
    let mut lab = Lab::new();
    let hosts: Vec<String> = (1..=4)
        .flat_map(|room| (1..=60).map(move |host| format!("10.1.{room}.{host}")))
        .collect();
    for host in &hosts {
        lab.told(host, SIZE);
    }
    let mut known: HashMap<&str, HashSet<String>> = HashMap::new();
    for host in &hosts {
        let told = lab.told(host, SIZE);
        let near = told.iter().filter(|other| other[..7] == host[..7]).count();
        assert_eq!((told.len(), near), (SOME_TOLD, SOME_TOLD * 3 / 4));
        for other in told {
            let other = hosts.iter().find(|known| **known == other).unwrap();
            known.entry(host).or_default().insert(other.clone());
            known.entry(other).or_default().insert(host.clone());
        }
    }
    let mut reached: HashSet<&str> = HashSet::new();
    let mut next = vec![hosts[0].as_str()];
    while let Some(host) = next.pop() {
        if reached.insert(host) {
            next.extend(
                known[host]
                    .iter()
                    .map(|other| hosts.iter().find(|known| *known == other).unwrap().as_str()),
            );
        }
    }
    assert_eq!(reached.len(), hosts.len());
}

#[test]
fn many_buildings_leave_room_for_the_own_one() {
    let mut lab = Lab::new();
    lab.told(SERVER, 0);
    for building in 1..=100 {
        for host in 1..=2 {
            lab.told(&format!("10.{building}.1.{host}"), SIZE);
        }
    }
    let told = lab.told("10.1.1.1", SIZE);
    assert_eq!((told.len(), told[0].as_str()), (TOLD_MAX / 2 + 1, SERVER));
    assert_eq!(told.last().unwrap(), "10.1.1.2");
}

#[test]
fn a_complete_building_is_asked_less_often() {
    let mut lab = Lab::new();
    let interval =
        |lab: &mut Lab, address: &str, left| lab.announce(address, said(left)).interval.as_secs();
    assert_eq!(interval(&mut lab, SERVER, 0), 10);
    assert_eq!(interval(&mut lab, "10.1.1.1", SIZE), 10);
    assert_eq!(interval(&mut lab, "10.1.1.1", 0), 60);
    assert_eq!(interval(&mut lab, "10.1.1.2", SIZE), 10);
    assert_eq!(interval(&mut lab, "10.1.1.1", 0), 10);
    assert_eq!(interval(&mut lab, "10.1.1.2", 0), 60);
    lab.pass(179);
    lab.told(SERVER, 0);
    assert_eq!(
        lab.told("10.1.1.3", SIZE).len(),
        1,
        "a host with an interval of 60 seconds is expected for 180"
    );
    lab.pass(1);
    assert_eq!(lab.told("10.1.1.3", SIZE), [SERVER]);
}

#[test]
fn traffic_of_hosts_is_summed() {
    let mut lab = Lab::new();
    let moved = |downloaded, uploaded, left| Announce {
        downloaded,
        uploaded,
        ..said(left)
    };
    lab.announce("10.1.1.1", moved(0, 0, SIZE));
    lab.announce("10.1.1.1", moved(400, 50, SIZE - 400));
    lab.announce("10.1.1.1", moved(0, 0, SIZE)); // started again
    lab.announce("10.1.1.1", moved(i64::MAX as u64, 7, 0));
    lab.announce("10.1.1.2", moved(0, 0, i64::MAX as u64));
    for _ in 0..3 {
        lab.announce("10.1.1.2", moved(i64::MAX as u64, 0, i64::MAX as u64));
        lab.announce("10.1.1.2", moved(0, 0, 0));
    }
    let traffic = lab.swarm.traffic[&("b1".to_owned(), Role::Lab)];
    assert_eq!((traffic.downloaded, traffic.uploaded), (u64::MAX, 57));
    let peer = &lab.swarm.peers()[&"10.1.1.1:6881".parse().unwrap()];
    assert_eq!((peer.left, peer.complete_at), (0, Some(lab.now)));
    lab.announce("10.1.1.3", said(i64::MAX as u64));
    assert_eq!(
        lab.swarm.peers()[&"10.1.1.3:6881".parse().unwrap()].left,
        SIZE,
        "no host lacks more than there is"
    );
}
