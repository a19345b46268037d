#![allow(clippy::unwrap_used)]

use super::*;

fn ledger(change: impl FnOnce(&mut ConnectionLimits)) -> Ledger {
    let mut limits = ConnectionLimits::default();
    change(&mut limits);
    Ledger::new(limits)
}

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

/// Admits connections from `hosts` in order and expects the first refusal at `want`.
fn check(ledger: &mut Ledger, hosts: &[&str], want: Option<(usize, Refusal)>) {
    let refused = hosts.iter().enumerate().find_map(|(index, host)| {
        let id = ConnectionId::new_unchecked(index);
        ledger
            .admit_inbound(id, ip(host))
            .err()
            .map(|refusal| (index, refusal))
    });
    assert_eq!(refused, want, "{hosts:?}");
}

#[test]
fn hosts_and_subnets_are_limited_in_public_scope() {
    let two = |limits: &mut ConnectionLimits| limits.per_host_max = 2;
    let mut public = ledger(two);
    check(
        &mut public,
        &["8.8.8.8", "8.8.8.8", "9.9.9.9", "8.8.8.8"],
        Some((3, Refusal::Host)),
    );
    let v6 = ["2a00::1", "2a00::2", "2a00::ffff"];
    check(&mut ledger(two), &v6, Some((2, Refusal::Host)));
    check(&mut ledger(two), &["127.0.0.1"; 20], None);
    check(&mut ledger(two), &["10.0.0.1"; 20], None);
    let everywhere = |limits: &mut ConnectionLimits| {
        limits.per_subnet_max = 3;
        limits.everywhere = true;
    };
    let local = [
        "127.0.0.1",
        "127.0.0.2",
        "127.0.1.1",
        "127.0.0.3",
        "127.0.0.4",
    ];
    check(&mut ledger(everywhere), &local, Some((4, Refusal::Subnet)));
    check(
        &mut ledger(|limits| limits.pending_inbound_max = 1),
        &["10.0.0.1"; 2],
        Some((1, Refusal::Pending)),
    );
}

#[test]
fn nothing_stays_behind() {
    let mut ledger = ledger(|_| {});
    for round in 0..3 {
        for index in 0..40 {
            let id = ConnectionId::new_unchecked(round * 100 + index);
            let peer = PeerId::random();
            let host = Some(IpAddr::V4(Ipv4Addr::new(
                8,
                8,
                8,
                u8::try_from(index).unwrap(),
            )));
            match index % 3 {
                0 => ledger
                    .admit_outbound(id, Some(peer), Instant::now())
                    .unwrap(),
                _ => ledger.admit_inbound(id, host).unwrap(),
            }
            if index % 4 != 0 {
                ledger
                    .check_established(&peer, index % 3 != 0, Instant::now())
                    .unwrap();
                ledger.establish(id, peer);
            }
        }
        assert_eq!(ledger.established, 30);
        for index in 0..40 {
            let id = ConnectionId::new_unchecked(round * 100 + index);
            ledger.release(id);
            ledger.release(id);
        }
    }
    let counts = [
        ledger.pending_inbound,
        ledger.pending_outbound,
        ledger.established,
        ledger.established_inbound,
    ];
    assert_eq!(counts, [0; 4]);
    let sizes = [
        ledger.connections.len(),
        ledger.peers.0.len(),
        ledger.hosts.0.len(),
        ledger.subnets.0.len(),
    ];
    assert_eq!(sizes, [0; 4]);
}

#[test]
fn established_caps() {
    let mut ledger = ledger(|limits| {
        limits.established_max = 4;
        limits.inbound_max = 2;
        limits.per_peer_max = 2;
    });
    let now = Instant::now();
    let peer = PeerId::random();
    for index in 0..2 {
        let id = ConnectionId::new_unchecked(index);
        ledger.admit_inbound(id, None).unwrap();
        ledger.check_established(&peer, true, now).unwrap();
        ledger.establish(id, peer);
    }
    assert_eq!(
        ledger.check_established(&peer, false, now),
        Err(Refusal::Peer)
    );
    let stranger = PeerId::random();
    assert_eq!(
        ledger.check_established(&stranger, true, now),
        Err(Refusal::Inbound)
    );
    let third = ConnectionId::new_unchecked(2);
    assert_eq!(ledger.admit_inbound(third, None), Err(Refusal::Inbound));
    for index in 3..5 {
        let id = ConnectionId::new_unchecked(index);
        ledger.admit_outbound(id, None, now).unwrap();
        ledger.check_established(&stranger, false, now).unwrap();
        ledger.establish(id, stranger);
    }
    let more = PeerId::random();
    assert_eq!(
        ledger.check_established(&more, false, now),
        Err(Refusal::Established)
    );
}

#[test]
fn bans_expire_and_are_bounded() {
    let mut ledger = ledger(|_| {});
    let now = Instant::now();
    let peer = PeerId::random();
    ledger.ban(peer, Duration::from_secs(10), now);
    assert_eq!(
        ledger.check_established(&peer, true, now),
        Err(Refusal::Banned)
    );
    let id = ConnectionId::new_unchecked(0);
    assert_eq!(
        ledger.admit_outbound(id, Some(peer), now),
        Err(Refusal::Banned)
    );
    assert_eq!(
        ledger.check_established(&peer, true, now + Duration::from_secs(10)),
        Ok(())
    );
    for _ in 0..BANS_MAX + 5 {
        ledger.ban(PeerId::random(), Duration::MAX, now);
    }
    assert_eq!(ledger.bans.len(), BANS_MAX);
    assert!(
        !ledger.bans.contains_key(&peer),
        "the ban that ends first makes room"
    );
}
