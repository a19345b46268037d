//! A scrub, step by step.

use super::*;

/// Scrubs from `from` to the end in steps of `cost_max`: how many steps, and what was found.
fn scrub(
    world: &World,
    from: Option<ScrubPosition>,
    cost_max: u64,
) -> (usize, u64, Vec<(String, String)>) {
    let (mut at, mut steps, mut bytes, mut damaged) = (from, 0, 0, Vec::new());
    loop {
        let found = world.library().scrub(at, cost_max).unwrap();
        steps += 1;
        bytes += found.bytes;
        for damage in found.damaged {
            let path = damage.path.strip_prefix(world.path("")).unwrap();
            damaged.push((path.to_string_lossy().into_owned(), damage.reason));
        }
        at = found.position;
        if at.is_none() {
            return (steps, bytes, damaged);
        }
    }
}

/// Bytes of the trees of all shares.
fn tree_bytes(world: &World) -> u64 {
    let library = world.library();
    let mut bytes = 0;
    for share in library.shares() {
        for digest in library.store().blocks_of(share.id) {
            let len = library.store().block_len(&digest.unwrap()).unwrap();
            bytes += len.unwrap() as u64;
        }
    }
    bytes
}

#[test]
fn every_byte_is_read_once_whatever_the_size_of_a_step() {
    let world = World::new();
    assert_eq!(scrub(&world, None, 1), (1, 0, Vec::new()));
    let large = "0123456789abcdef".repeat(300_000);
    world.write("one/large", &large);
    world.write("one/sub/empty", "");
    world.write("one/sub/small", "small");
    world.write("two", "two");
    world.share("one");
    world.share("two");
    let content = large.len() + "small".len() + "two".len();
    let expected = content as u64 + tree_bytes(&world);
    let mut steps_before = usize::MAX;
    for cost_max in [1, 20_000, 1 << 20, 3 << 20, u64::MAX] {
        let (steps, bytes, damaged) = scrub(&world, None, cost_max);
        assert_eq!((bytes, damaged), (expected, Vec::new()), "{cost_max}");
        assert!(steps <= steps_before, "{cost_max}: {steps}");
        steps_before = steps;
    }
    assert_eq!(steps_before, 1);
}

#[test]
fn what_rots_is_found_once_and_not_served() {
    for cost_max in [1, u64::MAX] {
        let world = World::new();
        let rotten = world.write("top/rotten", "content");
        world.write("top/good", "good");
        let gone = world.write("top/gone", "gone");
        let edited = world.write("top/edited", "before");
        let share = world.share("top");
        // A file that was just read is one that the cache vouches for.
        assert_eq!(world.read("content").unwrap(), "content");
        edit_stealthily(&rotten, "CONTENT");
        fs::remove_file(gone).unwrap();
        fs::write(edited, "afterwards").unwrap();

        let found = ("top/rotten".to_owned(), "has other content".to_owned());
        let (_, _, damaged) = scrub(&world, None, cost_max);
        assert_eq!(damaged, [found], "{cost_max}");
        assert!(world.change(&share).is_some());
        assert_eq!(world.told(), ["added", "changed"]);
        for (content, is_served) in [("content", false), ("before", false), ("good", true)] {
            assert_eq!(world.read(content).is_ok(), is_served, "{content}");
        }
        let (_, _, damaged) = scrub(&world, None, cost_max);
        assert_eq!(damaged, [], "{cost_max}");
    }
}

#[test]
fn a_damaged_tree_is_found_once() {
    let world = World::new();
    world.write("top/file", "content");
    let share = world.share("top");
    let root = share.root.digest().unwrap();
    let mut batch = world.library().store().batch();
    batch.put_block(share.id, &root, b"not the folder");
    batch.commit(false).unwrap();

    let (_, _, damaged) = scrub(&world, None, u64::MAX);
    let found = ("top".to_owned(), "has a damaged index".to_owned());
    assert_eq!(damaged, [found]);
    let index = Some((String::new(), ChangeKind::Index));
    assert_eq!(world.change(&share), index);
    assert_eq!(world.told(), ["added", "changed"]);
    assert_eq!(scrub(&world, None, u64::MAX).2, []);
}

#[test]
fn what_cannot_be_read_is_found_and_its_share_stays_as_it_is() {
    let world = World::new();
    world.write("top/file", "content");
    let share = world.share("top");
    // What no file system opens, without saying that it is not there.
    let record = ShareRecord {
        base: world.path(&"x".repeat(300)),
        ..share.as_ref().clone()
    };
    let library = world.library();
    let batch = library.store().batch();
    library.inner.replace(batch, record, false).unwrap();

    let found = library.scrub(None, u64::MAX).unwrap();
    let unreadable: Vec<_> = found.damaged.iter().map(|it| it.unreadable).collect();
    assert_eq!(unreadable, [true]);
    assert_eq!(world.change(&share), None);
}

#[test]
fn a_scrub_goes_on_after_a_restart_and_past_shares_that_went() {
    let mut world = World::new();
    world.write("one/a", "first");
    world.write("one/b", "second");
    world.write("two", "third");
    let one = world.share("one");
    world.share("two");
    let (_, whole, _) = scrub(&world, None, u64::MAX);
    let first = world.library().scrub(None, 1).unwrap();
    assert_eq!(first.bytes, "first".len() as u64);
    let position = first.position.unwrap();
    let at = world.library().scrubbing(&position);
    assert_eq!(at, Some(world.path("one/b")));

    world.restart();
    let kept = serde_json::to_vec(&position).unwrap();
    let position: ScrubPosition = serde_json::from_slice(&kept).unwrap();
    let (_, rest, _) = scrub(&world, Some(position.clone()), u64::MAX);
    assert_eq!(rest, whole - first.bytes);

    let target = UnshareTarget::Root(one.root.clone());
    world.library().unshare(&target).unwrap();
    assert_eq!(world.library().scrubbing(&position), None);
    let (_, rest, _) = scrub(&world, Some(position), u64::MAX);
    assert_eq!(rest, "third".len() as u64 + tree_bytes(&world));
}
