//! Copies for others, between real daemons: what is in demand gets a copy near those who ask for it,
//! and nothing else does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use libp2p::{Multiaddr, PeerId};
use shoal_protocol::{
    address::{CHUNK_BYTES, Cid, Digest, HashFn},
    exchange::{LeafRanges, List},
    replicate::{Answer, Key, Offer, Peer as Holder, Reply, Request, Response, Why},
};
use shoal_testnet::evil::{Blocks, Crowd};
use shoal_tests::{
    Daemon, RESIDENT_KIB_MAX, assert_same_file,
    copies::{FILE_BYTES, HELPS, SLOW, World, configure, start},
    forger::Forgery,
    joining,
    neighbour::{Content, Neighbour, greeting_and, nobody},
    peer::{Peer, loopback},
    resident_kib_max, run, scratch,
    secrets::Secrets,
    text, wait_for, write_content,
};
use tokio::runtime::Runtime;

/// Streams that a node serves at a time.
const STREAMS_MAX: u64 = 256;

fn asks(node: &Daemon, kind: &str) -> u64 {
    node.number(&format!("shoal_replica_asks_total{{kind=\"{kind}\"}}"))
}

fn pulls(node: &Daemon) -> u64 {
    let by = |cause| node.number(&format!("shoal_replica_pulls_total{{cause=\"{cause}\"}}"));
    by("asks") + by("offers")
}

/// Nothing is pulled that nobody asked for: by the numbers of a node.
fn check_cause(node: &Daemon) {
    let by_asks = node.number("shoal_replica_pulls_total{cause=\"asks\"}");
    let (distinct, spent) = (asks(node, "distinct"), asks(node, "spent"));
    assert!(spent <= distinct && distinct <= asks(node, "all"));
    assert!(by_asks * 2 <= spent, "{by_asks} pulls for {spent} asks");
    if pulls(node) == 0 {
        assert_eq!(
            node.number("shoal_replica_bytes_total{direction=\"in\"}"),
            0
        );
        assert!(slabs(node).is_empty(), "nothing lies on the disk");
    }
}

/// The files in which a node keeps copies for others.
fn slabs(node: &Daemon) -> Vec<PathBuf> {
    let Ok(folder) = fs::read_dir(node.home().join("replicas")) else {
        return Vec::new();
    };
    let files = folder.map(|it| it.unwrap().path());
    files
        .filter(|it| it.metadata().unwrap().len() > 0)
        .collect()
}

fn complete(node: &Daemon) -> u64 {
    node.number("shoal_replica_pulls_ended_total{outcome=\"complete\"}")
}

/// Shares a file and has two neighbours fetch it, until every helper keeps its part; the address.
fn make_popular(world: &World, source: &Path) -> String {
    let shared = world.origin.share(source);
    let cid = shared["cid"].as_str().unwrap().to_owned();
    for name in ["first", "second"] {
        world.fetch_and_forget(&world.fetcher(name), &cid, name);
    }
    for helper in &world.helpers {
        wait_for("a home pulls its part", || {
            (complete(helper) == 1).then_some(())
        });
    }
    cid
}

#[test]
fn what_is_in_demand_is_near_and_outlives_its_origin() {
    let mut world = World::new(2);
    let off = start(
        &world.dir,
        "off",
        "[replicas]\nscope = 'off'\nwarmup = '0s'\n",
        &[&world.helpers[0]],
    );
    let source = world.file("popular");
    let cid = world.origin.share(&source)["cid"]
        .as_str()
        .unwrap()
        .to_owned();
    let (first, second) = (world.fetcher("first"), world.fetcher("second"));

    world.fetch_and_forget(&first, &cid, "first");
    for helper in &world.helpers {
        assert_eq!(
            (asks(helper, "all"), pulls(helper)),
            (1, 0),
            "one is no demand"
        );
    }
    // The same one again is no other.
    world.fetch_and_forget(&first, &cid, "again");
    for helper in &world.helpers {
        assert_eq!((asks(helper, "distinct"), pulls(helper)), (1, 0));
    }
    world.fetch_and_forget(&second, &cid, "second");
    for helper in &world.helpers {
        wait_for("a home pulls its part", || {
            (complete(helper) == 1).then_some(())
        });
        assert!(helper.number("shoal_replica_bytes_total{direction=\"in\"}") > 0);
        check_cause(helper);
    }
    check_cause(&off);
    assert_eq!((pulls(&off), asks(&off, "all")), (0, 0));

    world.origin.kill();
    let third = world.fetcher("third");
    let output = world.dir.path().join("got-third");
    let fetched = third.fetch(&cid, &output);
    assert_same_file(&source, &output);
    let helpers: Vec<_> = world.helpers.iter().map(|it| it.peer_id.as_str()).collect();
    for from in fetched["from"].as_array().unwrap() {
        assert!(
            helpers.contains(&from["peer"].as_str().unwrap()),
            "{fetched}"
        );
    }
    let read = |node: &Daemon| node.number("shoal_replica_read_bytes_total{reader=\"others\"}");
    let read: u64 = world.helpers.iter().map(read).sum();
    assert!(read >= FILE_BYTES as u64, "{read} bytes came from copies");

    // A node that ends with its fetch is served by them, too.
    let home = world.dir.path().join("passing");
    let bootstrap = &world.helpers[0].address;
    let network = format!(
        "[network]\nmdns = false\nbootstrap = ['{bootstrap}']\nlisten = ['/ip4/127.0.0.1/tcp/0']\n"
    );
    configure(&home, &network);
    third.run(&["unshare", &cid]).ok();
    let output = world.dir.path().join("got-passing");
    run(&home, &["fetch", &cid, "-o", text(&output)]).ok();
    assert_same_file(&source, &output);
}

/// What a neighbour has fetched and serves is a near copy: who asks is sent to it, and no other is made.
#[test]
fn a_neighbour_that_has_fetched_it_is_named_and_nobody_copies_it() {
    let mut world = World::new(2);
    let cid = world.origin.share(&world.file("fetched"))["cid"]
        .as_str()
        .unwrap()
        .to_owned();
    let keeper = world.fetcher("keeper");
    let kept = world.dir.path().join("kept");
    keeper.fetch(&cid, &kept);
    world.origin.kill();
    let named = |node: &Daemon| node.number("shoal_replica_asks_sent_total{answer=\"elsewhere\"}");
    for name in ["first", "second", "third"] {
        let asker = world.fetcher(name);
        wait_for("the homes have heard of it, and name it", || {
            let fetched = world.fetch_and_forget(&asker, &cid, name);
            assert_eq!(fetched["from"][0]["peer"], keeper.peer_id, "{fetched}");
            (named(&asker) >= 2).then_some(())
        });
    }
    for helper in &world.helpers {
        assert!(asks(helper, "distinct") >= 3);
        assert_eq!(pulls(helper), 0, "a copy beside a copy helps nobody");
    }
    // Once it keeps it to itself, nobody is sent there.
    keeper.run(&["unshare", &cid]).ok();
    let last = world.fetcher("last");
    let output = world.dir.path().join("got-last");
    let none = last.run(&["fetch", &cid, "-o", text(&output), "--timeout", "5s"]);
    assert_ne!(none.code, Some(0));
    assert_eq!(named(&last), 0);
}

#[test]
fn what_its_sharer_keeps_to_itself_is_never_asked_for() {
    let world = World::new(2);
    let fetchers = [world.fetcher("first"), world.fetcher("second")];
    for (name, mark) in [("secret", "--no-announce"), ("unique", "--no-replicate")] {
        let source = world.file(name);
        let shared = world.origin.run(&["share", text(&source), mark]).ok();
        for fetcher in &fetchers {
            world.fetch_and_forget(fetcher, shared["link"].as_str().unwrap(), name);
        }
    }
    let open = world.origin.share(&world.file("open"));
    for fetcher in &fetchers {
        world.fetch_and_forget(fetcher, open["link"].as_str().unwrap(), "open");
    }
    for helper in &world.helpers {
        wait_for("a home pulls its part", || {
            (complete(helper) == 1).then_some(())
        });
        assert_eq!(asks(helper, "all"), 2, "the ones for what may be copied");
        assert_eq!(pulls(helper), 1);
        check_cause(helper);
    }
}

#[test]
fn helpers_that_join_beside_many_roots_pull_nothing() {
    let mut world = World::new(1);
    let folder = world.dir.path().join("many");
    for n in 0..40 {
        let path = folder.join(n.to_string());
        write_content(&path, &n.to_string(), 100_000);
        world.origin.share(&path);
    }
    for n in 1..5 {
        let next = start(
            &world.dir,
            &format!("late-{n}"),
            HELPS,
            &[&world.helpers[0]],
        );
        world.helpers.push(next);
    }
    for helper in &world.helpers {
        helper.wait_for_helpers(4);
    }
    // Somebody asks for one of them, once: that is no demand, and the rest nobody asked for.
    let fetcher = world.fetcher("fetcher");
    let one = world.origin.share(&folder.join("0"));
    world.fetch_and_forget(&fetcher, one["cid"].as_str().unwrap(), "one");
    for helper in &world.helpers {
        assert_eq!(pulls(helper), 0);
        check_cause(helper);
    }
}

/// What the owner of the disk sees of copies, and that they go at once when the owner wants it.
#[test]
fn the_owner_sees_drops_and_switches_off_what_is_kept() {
    let world = World::new(2);
    let cid = make_popular(&world, &world.file("popular"));
    for helper in &world.helpers {
        let listed = helper.run(&["replicas", "ls"]).ok();
        let [copy] = listed["replicas"].as_array().unwrap().as_slice() else {
            panic!("{listed}");
        };
        assert_eq!(copy["size"].as_u64(), Some(FILE_BYTES as u64));
        assert_eq!(copy["asked_by"], "near");
        assert!(!listed.to_string().contains(&cid), "the root is not known");
        let stats = helper.run(&["replicas", "stats"]).ok();
        assert_eq!((&stats["on"], &stats["roots"]), (&true.into(), &1.into()));
    }

    let [dropping, switching] = world.helpers.as_slice() else {
        panic!("two helpers");
    };
    let listed = dropping.run(&["replicas", "ls"]).ok();
    let key = listed["replicas"][0]["key"].as_str().unwrap();
    let dropped = dropping.run(&["replicas", "drop", &key[..8]]).ok();
    assert_eq!(dropped["roots"].as_u64(), Some(1));
    assert!(dropped["freed_bytes"].as_u64().unwrap() > 0);
    assert!(slabs(dropping).is_empty(), "the space is free");

    let stats = switching.run(&["replicas", "off"]).ok();
    assert_eq!((&stats["on"], &stats["bytes"]), (&false.into(), &0.into()));
    assert!(slabs(switching).is_empty(), "the space is free");
    // Nobody asks it any more.
    let again = world.fetcher_among(1, "third");
    world.fetch_and_forget(&again, &cid, "third");
    assert_eq!(complete(switching), 1, "nothing is kept any more");
    let stats = switching.run(&["replicas", "on"]).ok();
    assert_eq!(stats["on"], true);
}

/// More identities than there are places for readers of copies, none of which reads on.
const IDENTITIES: usize = 80;

#[test]
fn readers_of_copies_take_no_places_from_what_a_node_shares_itself() {
    let world = World::new(1);
    let source = world.file("popular");
    make_popular(&world, &source);
    let helper = &world.helpers[0];

    let runtime = Runtime::new().unwrap();
    let crowd = runtime.block_on(async {
        let mut blocks = Blocks::default();
        let root = blocks.path(&source).unwrap();
        let net = loopback(&[&helper.address]);
        let crowd = Crowd::start(&net, IDENTITIES, vec![root], Arc::new(blocks), false);
        crowd.await.unwrap()
    });
    assert!(
        crowd.count() * 4 > usize::try_from(STREAMS_MAX).unwrap(),
        "{}",
        crowd.count()
    );
    let streams = || helper.number("shoal_serve_streams");
    // Those that came first have been still for a while when the last ones come.
    let sent_away = || {
        helper.number("shoal_serve_streams_refused_total")
            + helper.number("shoal_serve_streams_gave_way_total")
    };
    let copies = STREAMS_MAX / 4;
    let beyond = u64::try_from(crowd.count()).unwrap() - copies;
    wait_for("the rest are sent away", || {
        (streams() == copies && sent_away() >= beyond).then_some(())
    });
    let own = helper.share(&world.file("own"));
    let output = world.dir.path().join("got-own");
    let fetched = world
        .fetcher("third")
        .fetch(own["link"].as_str().unwrap(), &output);
    assert_same_file(&world.dir.path().join("own"), &output);
    assert_eq!(fetched["from"][0]["peer"], helper.peer_id.as_str());
    drop(crowd);
}

#[test]
fn a_disk_without_the_root_tells_nothing_of_what_is_kept() {
    let world = World::new(1);
    let name = "a-film-that-nobody-is-to-know-of";
    let source = world.file(name);
    let cid = make_popular(&world, &source);
    let helper = &world.helpers[0];
    let third = world.fetcher("third");
    world.fetch_and_forget(&third, &cid, "third");
    assert!(
        helper.number("shoal_replica_read_bytes_total{reader=\"others\"}") > 0,
        "it was read, too"
    );
    helper.run(&["stop"]).ok();
    world.origin.run(&["stop"]).ok();

    let mut secrets = Secrets::default();
    let root: Cid = cid.parse().unwrap();
    secrets.add("the name", name.as_bytes());
    secrets.add("the address", cid.as_bytes());
    secrets.add_hash("the root", &root.digest().unwrap().key()[2..]);
    let content = fs::read(&source).unwrap();
    for leaf in content.chunks(CHUNK_BYTES) {
        let digest = Digest::of(HashFn::Blake3, leaf);
        secrets.add_hash("a leaf's hash", &digest.key()[2..]);
        for at in [0, leaf.len() / 2, leaf.len() - 16] {
            secrets.add("the content", &leaf[at..]);
        }
    }
    // The search finds what is there.
    let (found, _) = secrets.found_below(world.origin.home());
    for what in ["the name", "the root", "a leaf's hash"] {
        assert!(found.contains(what), "{what} is not even in {found:?}");
    }
    let folder = source.parent().unwrap().join("copy");
    fs::create_dir(&folder).unwrap();
    fs::copy(&source, folder.join("of it")).unwrap();
    assert!(secrets.found_below(&folder).0.contains("the content"));

    let (found, searched) = secrets.found_below(helper.home());
    assert!(searched > FILE_BYTES / 4, "{searched} bytes");
    assert!(found.is_empty(), "{found:?}");
}

/// A fetch beside a helper that says what it likes and serves nothing.
fn check_hostile_helper(answer: &Answer, is_offered: bool) {
    let dir = scratch();
    let hostile = Neighbour::start(Some(answer), Content::Silent);
    let origin = start(&dir, "origin", "[replicas]\nscope = 'off'\n", &[]);
    let home = dir.path().join("fetcher");
    configure(&home, SLOW);
    let mut options = joining(&origin.address);
    options.extend(["--bootstrap".to_owned(), hostile.address.clone()]);
    let fetcher = Daemon::start_with(&home, options);
    fetcher.wait_for_helpers(1);
    let source = dir.path().join("file");
    write_content(&source, "file", FILE_BYTES);
    let cid = origin.share(&source)["cid"].as_str().unwrap().to_owned();
    let output = dir.path().join("got");
    let fetched = fetcher.fetch(&cid, &output);
    assert_same_file(&source, &output);
    let [from] = fetched["from"].as_array().unwrap().as_slice() else {
        panic!("{answer:?}: {fetched}");
    };
    assert_eq!(from["peer"], origin.peer_id.as_str(), "{answer:?}");
    wait_for("it was asked", || (hostile.asked() > 0).then_some(()));
    if is_offered {
        wait_for("it was offered a part", || {
            (hostile.offered() > 0).then_some(())
        });
    }
    assert_eq!(hostile.asked(), 1, "once for a fetch");
}

#[test]
fn a_helper_that_lies_or_does_nothing_costs_a_fetch_nothing() {
    let ranges = LeafRanges::all();
    check_hostile_helper(&Answer::Want, true);
    check_hostile_helper(&Answer::Pulling, false);
    let wants = true;
    check_hostile_helper(&Answer::Have { ranges, wants }, true);
    let nobodies = || (0..64).map(|_| nobody());
    let victims = Answer::Elsewhere {
        holders: List::first_of(nobodies()),
        closer: List::first_of(nobodies()),
    };
    check_hostile_helper(&victims, false);
}

fn asking(id: u32) -> Request {
    let mut key = [7; 32];
    key[..4].copy_from_slice(&id.to_le_bytes());
    Request::Ask {
        id,
        key: Key(key),
        stays: false,
    }
}

fn offer(root: &Cid, leaves: u64, size: u64, asked: u32) -> Request {
    offer_of(root, (leaves, size), asked, nobody())
}

fn offer_of(root: &Cid, (leaves, size): (u64, u64), asked: u32, holder: Holder) -> Request {
    let whole = std::iter::once(0..leaves).collect();
    Request::Offer(Offer {
        id: 1,
        root: root.clone(),
        leaves,
        size,
        ranges: LeafRanges::new(whole).unwrap(),
        asked,
        holders: List::first_of([holder]),
    })
}

/// What was replied to one offer.
fn replied(from: &Neighbour, to: &Daemon, offer: Request) -> Reply {
    let is_reply = |it: &Response| matches!(it, Response::Reply { .. });
    let frames = greeting_and(&[offer]);
    let said = from.say(&to.address, &frames, |it| it.iter().any(is_reply));
    let reply = said.responses.into_iter().find_map(|it| match it {
        Response::Reply { reply, .. } => Some(reply),
        _ => None,
    });
    reply.unwrap()
}

/// Who serves these blocks, as an offer names it.
fn holder_at(peer: &Peer) -> Holder {
    let (address, id) = peer.address.rsplit_once("/p2p/").unwrap();
    let address: Multiaddr = address.parse().unwrap();
    let id: PeerId = id.parse().unwrap();
    Holder {
        peer: id.to_bytes().try_into().unwrap(),
        addresses: List::first_of([address.to_vec().try_into().unwrap()]),
    }
}

/// A few nodes that name more files, or leaves, than anybody could ever walk.
#[test]
fn what_unfolds_without_end_is_not_pulled() {
    let mut bombs = Forgery::default();
    let leaf = bombs.leaf(b"x");
    let (mut folder, mut file, mut bytes) = (leaf.clone(), leaf, 1);
    for _ in 0..6 {
        let names: Vec<String> = (0..100).map(|n| format!("{n:02}")).collect();
        let entries: Vec<_> = names.iter().map(|it| (it.as_bytes(), &folder)).collect();
        folder = bombs.dir(&entries);
        file = bombs.repeated(&file, bytes, 100);
        bytes *= 100;
    }
    let serving = Peer::start(bombs.blocks);
    let world = World::new(1);
    let helper = &world.helpers[0];
    for (number, root) in [folder, file].into_iter().enumerate() {
        let offered = offer_of(&root, (8, 8 << 20), 100, holder_at(&serving));
        let stranger = Neighbour::start(None, Content::Refused);
        let reply = replied(&stranger, helper, offered);
        assert!(matches!(reply, Reply::Accept { .. }), "{reply:?}");
        let pulls = u64::try_from(number).unwrap() + 1;
        wait_for("the pull ends", || {
            let outcomes = ["untrue", "malformed", "failed"];
            let all: u64 = outcomes.iter().map(|it| ended(helper, it)).sum();
            (all == pulls).then_some(())
        });
    }
    assert!(slabs(helper).is_empty(), "nothing of it stays");
    let resident = resident_kib_max(helper.pid());
    assert!(resident <= RESIDENT_KIB_MAX, "{resident} KiB");
}

fn ended(node: &Daemon, outcome: &str) -> u64 {
    node.number(&format!(
        "shoal_replica_pulls_ended_total{{outcome=\"{outcome}\"}}"
    ))
}

#[test]
fn what_strangers_ask_and_offer_is_bounded_and_leaves_nothing() {
    let world = World::new(1);
    let helper = &world.helpers[0];
    let stranger = || Neighbour::start(None, Content::Refused);

    // What is no message ends the stream.
    let said = stranger().say(&helper.address, &[0xff; 64], |_| false);
    assert!(said.has_ended);
    // So does a first message that is no greeting.
    let whole = greeting_and(&[asking(0)]);
    let greeting = greeting_and(&[]).len();
    let said = stranger().say(&helper.address, &whole[greeting..], |_| false);
    assert!(said.has_ended);

    // Asks beyond the limit are not answered, and with them the stream ends, for a while.
    let flooding = stranger();
    let asks: Vec<_> = (0..1000).map(asking).collect();
    let said = flooding.say(&helper.address, &greeting_and(&asks), |_| false);
    assert!(said.has_ended);
    let is_answer = |it: &&Response| matches!(it, Response::Answer { .. });
    let answered = said.responses.iter().filter(is_answer).count();
    assert!((1..200).contains(&answered), "{answered} answers");
    let again = flooding.say(&helper.address, &greeting_and(&[]), |_| false);
    assert!(again.has_ended && again.responses.is_empty(), "{again:?}");
    assert!(helper.number("shoal_replica_limits_hit_total{saying=\"ask\"}") >= 3);
    assert_eq!(pulls(helper), 0);

    // An offer that nobody asked for, by one who knows of no demand.
    let source = world.file("real");
    let real = world.origin.share(&source);
    let real: Cid = real["cid"].as_str().unwrap().parse().unwrap();
    let (leaves, size) = (10, FILE_BYTES as u64);
    let declined = replied(&stranger(), helper, offer(&real, leaves, size, 1));
    let why = Why::Unasked;
    assert!(matches!(declined, Reply::Decline { why: it, .. } if it == why));
    // What cannot be, and what is not so.
    let impossible = replied(&stranger(), helper, offer(&real, 1, 1 << 60, 100));
    let why = Why::Untrue;
    assert!(matches!(impossible, Reply::Decline { why: it, .. } if it == why));
    let untrue = replied(&stranger(), helper, offer(&real, leaves + 1, size, 100));
    assert!(matches!(untrue, Reply::Accept { .. }), "{untrue:?}");
    wait_for("the pull finds it out", || {
        (ended(helper, "untrue") == 1).then_some(())
    });
    // A root that nobody has.
    let none = Cid::dag_pb(Digest::of(HashFn::Blake3, b"none"));
    let nothing = replied(&stranger(), helper, offer(&none, 8, 8 << 20, 100));
    assert!(matches!(nothing, Reply::Accept { .. }), "{nothing:?}");
    wait_for("the pull finds nobody", || {
        (ended(helper, "nobody") == 1).then_some(())
    });
    assert!(slabs(helper).is_empty(), "nothing of it stays");
    let listed = helper.run(&["replicas", "ls"]).ok();
    assert_eq!(listed["replicas"].as_array().unwrap().len(), 0);

    // And those who ask in earnest are helped as before.
    let open = world.origin.share(&world.file("open"));
    for name in ["first", "second"] {
        let fetcher = world.fetcher(name);
        world.fetch_and_forget(&fetcher, open["cid"].as_str().unwrap(), name);
    }
    wait_for("it pulls", || (complete(helper) == 1).then_some(()));
}
