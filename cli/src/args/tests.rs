//! Lines that parse, and lines that do not.

#![allow(clippy::unwrap_used)]

use clap::CommandFactory as _;

use super::*;

#[test]
fn the_definition_holds_together() {
    Cli::command().debug_assert();
}

fn check(line: &str, good: bool) {
    let parsed = Cli::try_parse_from(line.split(' '));
    assert_eq!(parsed.is_ok(), good, "{line}: {parsed:?}");
}

#[test]
fn lines_that_parse_and_lines_that_do_not() {
    check(
        "shoal share a b --preserve mode,mtime --hash sha2-256 --json",
        true,
    );
    check(
        "shoal --json --home x share a --exclude *.o --exclude .git",
        true,
    );
    check(
        "shoal fetch bafy --no-serve --peer /ip4/127.0.0.1/tcp/1 -o dir/ --timeout 5s --patience 1h",
        true,
    );
    check(
        "shoal daemon --listen /ip4/127.0.0.1/tcp/0 --no-mdns --detach",
        true,
    );
    check(
        "shoal daemon --external /ip4/203.0.113.7/tcp/4101 --external /dns/a.example/tcp/1",
        true,
    );
    check("shoal share a --listen /ip4/0.0.0.0/tcp/4101", true);
    check("shoal fetch bafy --listen /ip4/0.0.0.0/tcp/0", true);
    check("shoal share a --external router:4101", false);
    check("shoal daemon --up 20mbit --down off", true);
    check("shoal limits --up off --down 5MB/s --monthly 500GB", true);
    check("shoal limits --up 5", false);
    check("shoal limits --reset --up off", false);
    check("shoal ls", true);
    check("shoal link photos --long --qr", true);
    check("shoal link", false);
    check("shoal link photos videos", true);
    check("shoal rename photos summer", true);
    check("shoal rename photos", false);
    check("shoal unshare photos bafkr4ifpcne3 ./videos", true);
    check("shoal unshare", false);
    check("shoal verify photos", true);
    check("shoal logs --follow -n 20", true);
    check("shoal logs -n many", false);
    check("shoal send a", true);
    check("shoal get bafy", true);
    check("shoal rm photos", true);
    check("shoal fetch shoal:S00AY 4T9Q7 -o dir", true);
    check("shoal config", true);
    check("shoal config set network.mdns off", true);
    check("shoal config set network.mdns", false);
    check("shoal completions zsh", true);
    check("shoal completions sh", false);
    check("shoal transfers", true);
    check("shoal pause 7", true);
    check("shoal pause 7 photos all", true);
    check("shoal share a --once --expires 2h --keep", true);
    check("shoal share a --until 3", true);
    check("shoal share a --until 0", false);
    check("shoal share a --until many", false);
    check("shoal share a --once --until 3", false);
    check("shoal share a --expires 0s", false);
    check("shoal fetch bafy --background", true);
    check("shoal fetch bafy --background --on-done x", false);
    check("shoal fetch bafy --stdout --on-done x", false);
    check("shoal status --watch --json", true);
    check("shoal cancel", false);
    check("shoal service install --print", true);
    check("shoal service uninstall", true);
    check("shoal", false);
    check("shoal share", false);
    check("shoal share a --hash md5", false);
    check("shoal share a --wait --no-announce", false);
    check("shoal fetch bafy --peer localhost:1", false);
    check("shoal fetch bafy --stdout", true);
    check("shoal fetch bafy --only a/* --only **/*.md --stdout", true);
    check("shoal fetch bafy --rename-unsafe --only a", true);
    check("shoal fetch bafy --stdout --rename-unsafe", false);
    check("shoal fetch bafy --stdout -o x", false);
    check("shoal fetch bafy --stdout --json", false);
    check("shoal fetch bafy --timeout 0s", false);
    check("shoal fetch bafy --timeout soon", false);
    check("shoal fetch bafy --patience 0s", false);
    check("shoal find bafy --patience 1h", false);
    check("shoal status -q -v", false);
    check("shoal service", false);
    check("shoal frobnicate", false);
}

#[test]
fn lines_of_the_testnet_that_parse_and_that_do_not() {
    check("shoal testnet up --nodes 4 --dir d --json", true);
    check("shoal testnet --dir d kill node-03", true);
    check("shoal testnet up --link home --up 20mbit --seed 7", true);
    check("shoal testnet up --up 20mbit", false);
    check("shoal testnet up --link dsl", false);
    check("shoal testnet partition 0-4 node-05,7 --one-way", true);
    check("shoal testnet partition 0-4", false);
    check("shoal testnet heal", true);
    check("shoal testnet heal 0 1", true);
    check("shoal testnet heal 0", false);
    check(
        "shoal testnet degrade 1-3 --latency 0s --stall off --loss 1%",
        true,
    );
    check("shoal testnet degrade all --profile slow --up 2mbit", true);
    check("shoal testnet degrade all", false);
    check("shoal testnet degrade 3 --stall 2s", false);
    check("shoal daemon --links-node 3", false);
    check("shoal testnet demo", true);
    check("shoal testnet demo --json --keep --nodes 3 photos", true);
    check("shoal testnet", false);
    check("shoal testnet kill", false);
    check("shoal testnet demo --nodes 2", false);
    check("shoal testnet start three", false);
}

#[test]
fn a_typo_finds_the_nearest_command() {
    let check = |typed: &str, meant: &str| {
        let error = Cli::try_parse_from(["shoal", typed])
            .unwrap_err()
            .to_string();
        assert!(error.contains(&format!("'{meant}'")), "{typed}: {error}");
    };
    check("shrae", "share");
    check("fetsh", "fetch");
    check("unshar", "unshare");
    check("stat", "status");
    check("log", "logs");
    check("renam", "rename");
}

#[test]
fn every_example_in_the_help_is_a_command_line() {
    let command = Cli::command();
    let mut helps = vec![("shoal", command.get_after_help())];
    let visible = command.get_subcommands().filter(|it| !it.is_hide_set());
    helps.extend(visible.map(|it| (it.get_name(), it.get_after_help())));
    for (name, help) in helps {
        if ["completions", "man"].contains(&name) {
            continue;
        }
        let help = help.unwrap_or_else(|| panic!("{name} has no examples"));
        let help = help.to_string();
        let lines: Vec<_> = help
            .lines()
            .filter(|it| it.starts_with("  shoal"))
            .collect();
        assert!(!lines.is_empty(), "{name}: {help}");
        for line in lines {
            // What a shell does with it.
            let line = line.split(" | ").next().unwrap_or_default();
            let peer = "12D3KooWSHj3RRbBjD15g6wekV8y3mm57Pobmps2g2WJm6F67Lay";
            let line = line.trim().replace("12D3Koo…", peer);
            let mut words = Vec::new();
            for (index, part) in line.split('\'').enumerate() {
                match index % 2 {
                    0 => words.extend(part.split_whitespace().map(str::to_owned)),
                    _ => words.push(part.to_owned()),
                }
            }
            let parsed = Cli::try_parse_from(&words);
            assert!(parsed.is_ok(), "{name}: {line}: {parsed:?}");
            assert!(
                name == "shoal" || words.iter().any(|it| it == name),
                "{name}: {line}"
            );
        }
    }
}
