#![allow(clippy::unwrap_used)]

use super::*;
use crate::run::{Script, check};

/// Reads and draws, which together find every mistake.
fn read(text: &str, overrides: &Overrides) -> Result<(Scenario, Script), ScenarioError> {
    let scenario = Scenario::read("test.toml", text, overrides)?;
    let script = Script::draw(&scenario)?;
    check(&scenario, &script)?;
    Ok((scenario, script))
}

#[track_caller]
fn check_error(text: &str, head: &str, message: &str, hint: &str) {
    let error = read(text, &Overrides::default()).unwrap_err();
    let shown = error.to_string();
    assert!(shown.starts_with(&format!("test.toml:{head}: ")), "{shown}");
    assert!(shown.contains(message), "{shown}");
    let given = error.hint.unwrap_or_default();
    assert!(given.contains(hint), "{shown}: {given}");
}

#[test]
fn mistakes_of_the_file_are_named_with_their_place() {
    check_error("nodes = ", "1:9", "not TOML", "");
    check_error("[group]\nname = \"a\"", "1:1: `group`", "[[group]]", "");
    check_error("nods = 3", "1:1: `nods`", "no such key", "`nodes`?");
    check_error("seed = -1", "1:8: `seed`", "no seed", "");
    check_error("nodes = 0", "1:9: `nodes`", "from 1 on", "");
    check_error("nodes = [3]", "1:9: `nodes`", "takes one value", "");
    check_error("limit = \"0s\"", "1:9: `limit`", "more than nothing", "");
    check_error("mode = \"threads\"", "1:8: `mode`", "in-process", "");
    check_error("name = \"../x\"", "1:8: `name`", "small letter", "");
    check_error(
        "\n\nzzzzz = 1",
        "3:1: `zzzzz`",
        "no such key",
        "the keys are",
    );
}

#[test]
fn what_nodes_share_and_when_they_leave_is_read() {
    let text = "
settings = [\"replicas.near = 10ms\"]
[compare]
name = \"far\"
settings = \"replicas.near=0s\"
[[group]]
name = \"home\"
count = 1
[[group]]
name = \"office\"
count = 2
shared = { down = \"20mbit\" }
lan = true
keep = false
leave-after = \"20s\"
";
    let (scenario, script) = read(text, &Overrides::default()).unwrap();
    let plan = script.network.unwrap();
    let sites: Vec<_> = plan.nodes.iter().map(|line| line.site).collect();
    assert_eq!(sites, [None, Some(0), Some(0)]);
    assert_eq!(plan.sites[0].down, "20mbit".parse().unwrap());
    assert!(plan.share_lan(1, 2) && !plan.share_lan(0, 1));
    let group = scenario.members.group_of(1).unwrap();
    assert_eq!(
        (group.keep, group.leave_after),
        (false, Some(Duration::from_secs(20)))
    );
    let variable = scenario.settings[0].variable();
    assert_eq!(
        variable,
        ("SHOAL_REPLICAS_NEAR".to_owned(), "10ms".to_owned())
    );
    assert_eq!(
        scenario.compare.unwrap().settings[0].to_string(),
        "replicas.near=0s"
    );

    check_error(
        "settings = [\"near\"]",
        "1:13: `settings`",
        "is no setting",
        "",
    );
    check_error(
        "[compare]\nsettings = [\"a.b=1\"]",
        "1:1: `compare`",
        "has a `name`",
        "",
    );
    check_error(
        "[compare]\nname = \"x\"",
        "1:1: `compare`",
        "nothing differs",
        "",
    );
    check_error(
        "[[assert]]\nthat = \"late-p95 <= 1\"\ncompared = true",
        "2:8: `assert[0].that`",
        "compared with no other run",
        "`[compare]`",
    );
}

#[test]
fn those_who_do_wrong_may_be_honest_in_what_is_compared_with() {
    let text = "nodes = 4\n[compare]\nname = \"honest\"\nevil = false\nsettings = [\"a.b=1\"]\n\
                [[group]]\nname = \"a\"\n[[group]]\nname = \"b\"\ncount = 1\nevil = \"drip\"";
    let (scenario, _) = read(text, &Overrides::default()).unwrap();
    let other = scenario.compared().unwrap();
    assert_eq!((scenario.members.honest(), other.members.honest()), (3, 4));
    assert_eq!(other.members.name(3), scenario.members.name(3));
    assert_eq!((scenario.settings.len(), other.settings.len()), (0, 1));
}

#[test]
fn mistakes_of_groups_are_named() {
    let group = "[[group]]\nname = \"a\"\n";
    check_error("[[group]]\n", "1:1: `group[0]`", "has a `name`", "");
    check_error(
        &format!("{group}lnik = \"home\""),
        "3:1: `group[0].lnik`",
        "no such key",
        "`link`?",
    );
    check_error(
        &format!("{group}link = \"hom\""),
        "3:8: `group[0].link`",
        "no link profile",
        "",
    );
    check_error(
        &format!("{group}link = {{ upp = \"1mbit\" }}"),
        "3:10: `group[0].link.upp`",
        "no such key",
        "`up`?",
    );
    check_error(
        &format!("{group}link = {{ up = 5 }}"),
        "3:15: `group[0].link.up`",
        "rate",
        "",
    );
    check_error(
        &format!("{group}evil = \"wrong-byte\""),
        "3:8",
        "did you mean `wrong-bytes`?",
        "",
    );
    check_error(
        &format!("{group}{group}"),
        "3:1: `group[1]`",
        "two groups `a`",
        "",
    );
    check_error(
        &format!("nodes = 3\n{group}count = 2"),
        "1:9: `nodes`",
        "come to 2 nodes",
        "count",
    );
    check_error(
        &format!("nodes = 2\n{group}count = 2\n[[group]]\nname = \"b\""),
        "5:1",
        "nothing is left",
        "",
    );
    check_error(
        &format!("{group}[[group]]\nname = \"b\""),
        "3:1",
        "only one group",
        "",
    );
    check_error("nodes = 10001", "1:9", "at most", "");
}

#[test]
fn mistakes_of_links_are_named() {
    check_error(
        "[[link]]\nfrom = \"0\"",
        "1:1: `link[0]`",
        "`from` some nodes `to`",
        "",
    );
    check_error(
        "[[link]]\nfrom = \"group:x\"\nto = \"1\"",
        "2:8: `link[0].from`",
        "no group `x`",
        "",
    );
    check_error(
        "[[link]]\nfrom = \"random:1\"\nto = \"1\"",
        "2:8",
        "chance",
        "",
    );
    check_error(
        "[[link]]\nfrom = \"0\"\nto = \"1\"\nloss = 2",
        "4:8: `link[0].loss`",
        "loss",
        "",
    );
}

#[test]
fn mistakes_of_contents_and_assertions_are_named() {
    let content = "[[content]]\nname = \"film\"\n";
    check_error("[[content]]", "1:1: `content[0]`", "has a `name`", "");
    check_error(
        &format!("{content}size = \"5\""),
        "3:8: `content[0].size`",
        "no size",
        "",
    );
    check_error(
        &format!("{content}size = \"1MB\"\nsizes = [\"2MB\"]"),
        "4:10",
        "a `size` already",
        "",
    );
    check_error(
        &format!("{content}sizes = [\"1MB\", \"x\"]"),
        "3:17: `content[0].sizes`",
        "no size",
        "",
    );
    check_error(
        &format!("{content}owner = \"9\""),
        "3:9: `content[0].owner`",
        "from 0 to 4",
        "",
    );
    check_error(&format!("{content}{content}"), "3:1", "two contents", "");
    check_error(
        "[[assert]]",
        "1:1: `assert[0]`",
        "what must hold",
        "all-fetched",
    );
    check_error(
        "[[assert]]\nthat = \"all-fetchd\"",
        "2:8: `assert[0].that`",
        "`all-fetched`?",
        "",
    );
    check_error(
        "limit = \"10s\"\n[[assert]]\nthat = \"all-fetched\"\nat = \"11s\"",
        "3:8: `assert[0].that`",
        "over by then, after 10s",
        "limit",
    );
    check_error(
        "[[assert]]\nthat = \"all-fetched\"\nnodes = \"group:x\"",
        "3:9: `assert[0].nodes`",
        "no group `x`",
        "",
    );
    check_error(
        "[[assert]]\nthat = \"all-fetched\"\ncontent = \"contnt\"",
        "3:11: `assert[0].content`",
        "did you mean `content`?",
        "",
    );
}

#[test]
fn events_that_cannot_happen_are_named() {
    let event = |rest: &str| format!("[[event]]\n{rest}");
    let two = |one: &str, other: &str| format!("[[event]]\n{one}\n[[event]]\n{other}");
    check_error(
        &event("at = \"1s\""),
        "1:1: `event[0]`",
        "what to do",
        "share",
    );
    check_error(
        &event("do = \"fecth\""),
        "2:6: `event[0].do`",
        "did you mean `fetch`?",
        "",
    );
    check_error(
        &event("do = \"kill\""),
        "1:1: `event[0]`",
        "of which `nodes`",
        "",
    );
    check_error(
        &event("do = \"kill\"\nnodes = \"node-07\""),
        "3:9",
        "from 0 to 4",
        "",
    );
    check_error(
        &event("do = \"kill\"\nnodes = \"some\""),
        "3:9",
        "names no nodes",
        "",
    );
    check_error(
        &event("do = \"start\"\nnodes = \"1\""),
        "3:9: `event[0].nodes`",
        "node-01 runs then",
        "",
    );
    check_error(
        &two(
            "do = \"kill\"\nnodes = \"1\"",
            "do = \"kill\"\nnodes = \"1\"",
        ),
        "6:9: `event[1].nodes`",
        "node-01 does not run then",
        "",
    );
    check_error(
        &two(
            "do = \"kill\"\nnodes = \"1\"",
            "do = \"fetch\"\nat = \"2s\"\nnodes = \"1\"",
        ),
        "7:9: `event[1].nodes`",
        "node-01 does not run then",
        "",
    );
}

#[test]
fn events_at_times_that_cannot_be_are_named() {
    let event = |rest: &str| format!("[[event]]\n{rest}");
    check_error(
        &event("do = \"heal\""),
        "1:1: `event[0]`",
        "no partition to heal",
        "",
    );
    check_error(
        &event("do = \"fetch\"\nat = \"-1s\""),
        "3:6: `event[0].at`",
        "before the start",
        "",
    );
    check_error(
        &event("do = \"fetch\"\nat = \"5m\""),
        "1:1",
        "over by then",
        "limit",
    );
    check_error(
        &event("do = \"fetch\"\nevery = \"5s\""),
        "3:9: `event[0].every`",
        "has an end",
        "until",
    );
    check_error(
        &event("do = \"fetch\"\nuntil = \"5s\""),
        "3:9",
        "done once",
        "every",
    );
    check_error(
        &event("do = \"partition\"\nat = \"5s\"\nuntil = \"5s\"\nnodes = \"1\""),
        "4:9: `event[0].until`",
        "ends before it begins",
        "",
    );
}

#[test]
fn changes_of_the_network_that_cannot_happen_are_named() {
    let event = |rest: &str| format!("[[event]]\n{rest}");
    let two = |one: &str, other: &str| format!("[[event]]\n{one}\n[[event]]\n{other}");
    let part = "do = \"partition\"\nnodes = \"1\"";
    check_error(
        &two(part, part),
        "4:1: `event[1]`",
        "a partition already",
        "heal",
    );
    check_error(
        &event(&format!("{part}\nfrom = \"0-1\"")),
        "3:9",
        "node-01 is on both sides",
        "",
    );
    check_error(
        &event("do = \"partition\"\nnodes = \"all\""),
        "3:9",
        "nobody on one side",
        "",
    );
    check_error(
        &event("do = \"degrade\"\nnodes = \"1\""),
        "1:1",
        "which `link`",
        "slow",
    );
    let degrade = "do = \"degrade\"\nnodes = \"1\"\nlink = \"slow\"";
    check_error(
        &two(degrade, degrade),
        "7:9: `event[1].nodes`",
        "degraded already",
        "",
    );
}

#[test]
fn events_that_lack_something_are_named() {
    let event = |rest: &str| format!("[[event]]\n{rest}");
    let two = |one: &str, other: &str| format!("[[event]]\n{one}\n[[event]]\n{other}");
    check_error(&event("do = \"churn\"\nnodes = \"1\""), "1:1", "`rate`", "");
    check_error(
        &event("do = \"churn\"\nnodes = \"1\"\nrate = \"20%\""),
        "1:1",
        "`until`",
        "",
    );
    check_error(
        &two("do = \"share\"\nat = \"9s\"", "do = \"fetch\"\nat = \"8s\""),
        "4:1: `event[1]`",
        "`content` is not shared by then",
        "",
    );
    check_error(
        &event("do = \"fetch\"\ncontent = \"x\""),
        "3:11: `event[0].content`",
        "no content",
        "",
    );
    let evil = "nodes = 3\n[[group]]\nname = \"a\"\n[[group]]\nname = \"e\"\ncount = 1\n\
                evil = \"stall\"\n";
    check_error(
        &format!("{evil}[[event]]\ndo = \"fetch\"\nnodes = \"2\""),
        "10:9: `event[0].nodes`",
        "only does wrong",
        "",
    );
}

#[test]
fn an_empty_file_is_a_network_that_shares_and_fetches() {
    let (scenario, script) = read("", &Overrides::default()).unwrap();
    assert_eq!(
        (scenario.name.as_str(), scenario.members.len()),
        ("test", 5)
    );
    let expected = "\
        seed 0\n\
        content content: 16777216 bytes in 1 files, of node-00\n     \
        0.000 node-00 shares content\n     \
        0.000 node-01 fetches content\n     \
        0.000 node-02 fetches content\n     \
        0.000 node-03 fetches content\n     \
        0.000 node-04 fetches content\n";
    assert_eq!(script.to_string(), expected);
    let asserted: Vec<_> = scenario
        .assertions
        .iter()
        .map(|it| it.that.to_string())
        .collect();
    assert_eq!(asserted, ["all-fetched", "no-wrong-bytes"]);
}

#[test]
fn groups_are_counted_and_those_who_do_wrong_come_last() {
    let text = "nodes = 10\n[[group]]\nname = \"bad\"\ncount = \"30%\"\nevil = \"drip\"\n\
                [[group]]\nname = \"origin\"\ncount = 1\n[[group]]\nname = \"rest\"";
    let names = |nodes: Option<usize>| {
        let overrides = Overrides {
            nodes,
            ..Overrides::default()
        };
        let (scenario, _) = read(text, &overrides).unwrap();
        let members = &scenario.members;
        let group = |node| {
            members
                .group_of(node)
                .map_or('?', |it| it.name.chars().next().unwrap())
        };
        (0..members.len()).map(group).collect::<String>()
    };
    assert_eq!(names(None), "orrrrrrbbb");
    assert_eq!(names(Some(4)), "orrb");
}

#[test]
fn sizes_are_scaled_and_seeds_replaced() {
    let text =
        "[[content]]\nname = \"a\"\nsize = \"10MiB\"\n[[content]]\nname = \"b\"\nsize = \"2KiB\"";
    let overrides = Overrides {
        scale: Some(0.1),
        seed: Some(7),
        nodes: None,
    };
    let (scenario, script) = read(text, &overrides).unwrap();
    let sizes: Vec<_> = script.items.iter().map(|item| item.bytes).collect();
    assert_eq!((sizes, scenario.seed), (vec![1 << 20, 1 << 10], 7));
}

#[test]
fn every_scenario_that_comes_with_the_program_can_be_drawn() {
    for shipped in SHIPPED {
        let scenario = Scenario::read(shipped.name, shipped.text, &Overrides::default());
        let scenario = scenario.unwrap_or_else(|error| panic!("{error}"));
        let script = Script::draw(&scenario).unwrap_or_else(|error| panic!("{error}"));
        check(&scenario, &script).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(scenario.name, shipped.name);
        assert!(!scenario.description.is_empty(), "{}", shipped.name);
    }
}
