//! Every command, and how it goes well and badly.

use crate::{ABSENT, Line, World};

/// Of a daemon that nobody finds.
const ALONE: &str = "--no-mdns --listen /ip4/127.0.0.1/tcp/0";

/// A command: how it goes well and what it prints then, how it fails and with what.
pub(crate) struct Case {
    pub(crate) command: &'static str,
    pub(crate) schema: &'static str,
    pub(crate) good: fn(&World) -> Line,
    pub(crate) bad: fn(&World) -> Line,
    pub(crate) exit: i32,
    pub(crate) code: &'static str,
}

fn case(
    command: &'static str,
    schema: &'static str,
    good: fn(&World) -> Line,
    bad: fn(&World) -> Line,
    (exit, code): (i32, &'static str),
) -> Case {
    Case {
        command,
        schema,
        good,
        bad,
        exit,
        code,
    }
}

const USAGE: (i32, &str) = (2, "usage");
const NOT_FOUND: (i32, &str) = (3, "not_found");
const NO_DAEMON: (i32, &str) = (4, "no_daemon");
const NO_PATH: (i32, &str) = (1, "path_not_found");
const NO_TRANSFER: (i32, &str) = (1, "no_transfer");
const CONFIG: (i32, &str) = (2, "config");

/// Every command, in an order in which each finds what it needs.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case(
            "daemon",
            "DaemonEvent",
            |it| it.on("foreground", format!("daemon {ALONE}")),
            |it| it.node(format!("daemon {ALONE}")),
            (1, "already_running"),
        ),
        case(
            "daemon",
            "DaemonEvent",
            |it| it.on("detached", format!("daemon --detach {ALONE}")),
            |it| it.on("broken", "daemon --detach"),
            CONFIG,
        ),
        case(
            "logs",
            "LogLine",
            |it| it.node("logs"),
            |it| it.nobody("logs"),
            NO_PATH,
        ),
        case(
            "stop",
            "Stopped",
            |it| it.on("detached", "stop"),
            |it| it.nobody("stop"),
            NO_DAEMON,
        ),
        case(
            "id",
            "Identity",
            |it| it.node("id"),
            |it| it.nobody("id"),
            NO_DAEMON,
        ),
        case(
            "connect",
            "Connected",
            |it| it.node(format!("connect {}", it.sharer.address)),
            |it| it.node("connect localhost:1"),
            USAGE,
        ),
        case(
            "peers",
            "Peers",
            |it| it.node("peers"),
            |it| it.nobody("peers"),
            NO_DAEMON,
        ),
    ];
    cases.extend(cases_of_shares());
    cases.extend(cases_of_fetches());
    cases.extend(cases_of_upkeep());
    cases.extend(cases_of_replicas());
    cases.extend(cases_of_config());
    cases.extend(cases_of_definition());
    cases.extend(cases_of_testnet());
    let status = case(
        "status",
        "Status",
        |it| it.node("status"),
        |it| it.nobody("status"),
        NO_DAEMON,
    );
    cases.push(status);
    cases
}

fn cases_of_shares() -> [Case; 8] {
    [
        case(
            "share",
            "Shared",
            |it| it.node(format!("share {} --qr", it.path("file"))),
            |it| it.node(format!("share {}", it.path("nothing"))),
            NO_PATH,
        ),
        case(
            "show",
            "LinkedShare",
            |it| it.node(format!("show {}", it.shared())),
            |it| it.node(format!("show {ABSENT}")),
            (1, "not_shared"),
        ),
        case(
            "link",
            "Link",
            |it| it.node("link file --qr"),
            |it| it.node("link nothing"),
            (1, "not_shared"),
        ),
        case(
            "link",
            "Links",
            |it| it.node(format!("link file {}", it.path("file"))),
            |it| it.node("link file nothing"),
            (1, "not_shared"),
        ),
        case(
            "rename",
            "Renamed",
            |it| it.node("rename file file"),
            |it| it.node("rename file a/b"),
            (1, "bad_name"),
        ),
        case(
            "ls",
            "MyShares",
            |it| it.nobody("ls"),
            |it| it.nobody(format!("ls {ABSENT}")),
            NO_DAEMON,
        ),
        case(
            "ls",
            "Listing",
            |it| it.node(format!("ls {}", it.link)),
            |it| it.node("ls hello"),
            USAGE,
        ),
        case(
            "find",
            "Found",
            |it| it.node(format!("find {}", it.link)),
            |it| it.node(format!("find {ABSENT} --timeout 200ms")),
            NOT_FOUND,
        ),
    ]
}

fn cases_of_fetches() -> [Case; 9] {
    [
        case(
            "fetch",
            "FetchResult",
            |it| it.node(format!("fetch {} -o {}/", it.link, it.path("into"))),
            |it| it.node(format!("fetch {ABSENT} --timeout 200ms")),
            NOT_FOUND,
        ),
        case(
            "fetch",
            "Transfer",
            |it| {
                let (link, into) = (&it.link, it.path("later"));
                it.node(format!("fetch {link} -o {into} --background"))
            },
            |it| it.nobody(format!("fetch {ABSENT} --background")),
            NO_DAEMON,
        ),
        case(
            "pause",
            "Transfer",
            |it| it.node(format!("pause {}", it.start_waiting())),
            |it| it.node("pause 999"),
            NO_TRANSFER,
        ),
        case(
            "transfers",
            "Transfers",
            |it| it.node("transfers"),
            |it| it.on("broken", "transfers now"),
            USAGE,
        ),
        case(
            "limits",
            "Transfer",
            |it| {
                it.node(format!(
                    "limits --down 5MB/s --transfer {}",
                    it.transfer("paused").unwrap()
                ))
            },
            |it| it.node("limits --down off --transfer 999"),
            NO_TRANSFER,
        ),
        case(
            "resume",
            "Transfer",
            |it| it.node(format!("resume {}", it.transfer("paused").unwrap())),
            |it| it.node("resume 999"),
            NO_TRANSFER,
        ),
        case(
            "cancel",
            "Transfer",
            |it| it.node(format!("cancel {ABSENT}")),
            |it| it.node("cancel"),
            USAGE,
        ),
        case(
            "resume",
            "ToldAll",
            |it| it.node("resume all"),
            |it| it.node("resume"),
            USAGE,
        ),
        case(
            "limits",
            "Limits",
            |it| it.node("limits --up 200MB/s --monthly off"),
            |it| it.node("limits --up fast"),
            USAGE,
        ),
    ]
}

fn cases_of_upkeep() -> [Case; 4] {
    [
        case(
            "db check",
            "DatabaseChecked",
            |it| it.on("detached", "db check"),
            |it| it.node("db check"),
            (1, "already_running"),
        ),
        case(
            "verify",
            "Verified",
            |it| it.node("verify"),
            |it| it.node("verify bafy"),
            (1, "not_shared"),
        ),
        case(
            "unshare",
            "Unshared",
            |it| it.node(format!("unshare {}", it.path("file"))),
            |it| it.node(format!("unshare {ABSENT}")),
            (1, "not_shared"),
        ),
        case(
            "gc",
            "Collected",
            |it| it.node("gc"),
            |it| it.nobody("gc"),
            NO_DAEMON,
        ),
    ]
}

fn cases_of_replicas() -> [Case; 5] {
    [
        case(
            "replicas ls",
            "ReplicaList",
            |it| it.node("replicas ls"),
            |it| it.nobody("replicas ls"),
            NO_DAEMON,
        ),
        case(
            "replicas stats",
            "ReplicaStats",
            |it| it.node("replicas stats"),
            |it| it.nobody("replicas stats"),
            NO_DAEMON,
        ),
        case(
            "replicas drop",
            "ReplicasDropped",
            |it| it.node("replicas drop"),
            |it| it.node("replicas drop 0123456789abcdef"),
            (1, "not_shared"),
        ),
        case(
            "replicas off",
            "ReplicaStats",
            |it| it.node("replicas off"),
            |it| it.nobody("replicas off"),
            NO_DAEMON,
        ),
        case(
            "replicas on",
            "ReplicaStats",
            |it| it.node("replicas on"),
            |it| it.nobody("replicas on"),
            NO_DAEMON,
        ),
    ]
}

fn cases_of_config() -> [Case; 5] {
    [
        case(
            "config set",
            "ConfigChanged",
            |it| it.node("config set limits.up 20mbit"),
            |it| it.node("config set limits.up fast"),
            USAGE,
        ),
        case(
            "config show",
            "ConfigShown",
            |it| it.node("config show"),
            |it| it.on("broken", "config show"),
            CONFIG,
        ),
        case(
            "config get",
            "Setting",
            |it| it.node("config get limits.up"),
            |it| it.node("config get limits.upp"),
            USAGE,
        ),
        case(
            "config check",
            "ConfigChecked",
            |it| it.node("config check"),
            |it| it.node("config check /nowhere.toml"),
            NO_PATH,
        ),
        case(
            "config unset",
            "ConfigChanged",
            |it| it.node("config unset limits.up"),
            |it| it.node("config unset limits"),
            USAGE,
        ),
    ]
}

fn cases_of_definition() -> [Case; 6] {
    [
        case(
            "completions",
            "Completions",
            |it| it.nobody("completions bash"),
            |it| it.nobody("completions sh"),
            USAGE,
        ),
        case(
            "man",
            "ManualPage",
            |it| it.nobody("man"),
            |it| it.nobody("man a b"),
            USAGE,
        ),
        case(
            "man",
            "ManualPages",
            |it| it.nobody(format!("man {}", it.path("pages"))),
            |it| it.nobody(format!("man {}/below", it.path("file"))),
            (1, "internal"),
        ),
        case(
            "service install",
            "UnitPrinted",
            |it| it.nobody("service install --print"),
            |it| it.nobody("service install --prnt"),
            USAGE,
        ),
        case(
            "service install",
            "UnitChanged",
            |it| it.nobody("service install"),
            |it| it.node("service install"),
            (1, "already_running"),
        ),
        case(
            "service uninstall",
            "UnitChanged",
            |it| it.nobody("service uninstall"),
            |it| it.nobody("service uninstall now"),
            USAGE,
        ),
    ]
}

/// A command on the testnet, or on one that is not there.
macro_rules! testnet {
    ($command:literal, $schema:literal, $words:literal) => {
        case(
            concat!("testnet ", $command),
            $schema,
            |it| {
                it.nobody(format!(
                    "testnet --dir {} {} {}",
                    it.path("net"),
                    $command,
                    $words
                ))
            },
            |it| {
                it.nobody(format!(
                    "testnet --dir {} {} {}",
                    it.path("no"),
                    $command,
                    $words
                ))
            },
            NO_PATH,
        )
    };
}

fn cases_of_testnet() -> [Case; 12] {
    [
        case(
            "testnet up",
            "TestnetUp",
            |it| {
                let dir = it.path("net");
                it.nobody(format!("testnet --dir {dir} up --nodes 2 --link mobile"))
            },
            |it| it.nobody(format!("testnet --dir {} up --nodes none", it.path("net"))),
            USAGE,
        ),
        testnet!("kill", "TestnetChanged", "1"),
        testnet!("partition", "TestnetLinks", "0 1"),
        testnet!("heal", "TestnetLinks", "0 1"),
        testnet!("degrade", "TestnetLinks", "1 --profile slow"),
        testnet!("status", "TestnetStatus", "-q"),
        testnet!("start", "TestnetChanged", "1"),
        testnet!("logs", "TestnetLine", "0"),
        case(
            "testnet down",
            "TestnetDown",
            |it| it.nobody(format!("testnet --dir {} down", it.path("net"))),
            |it| it.nobody("testnet down now"),
            USAGE,
        ),
        case(
            "testnet demo",
            "Demo",
            |it| {
                let (dir, tree) = (it.path("demo"), it.path("tree"));
                it.nobody(format!("testnet --dir {dir} demo --nodes 3 {tree}"))
            },
            |it| it.nobody("testnet demo /nowhere"),
            NO_PATH,
        ),
        case(
            "testnet run",
            "TestnetRun",
            |it| {
                let (dir, out) = (it.path("run"), it.path("report"));
                let small = "--nodes 5 --scale 0.01";
                it.nobody(format!("testnet --dir {dir} run demo {small} --out {out}"))
            },
            |it| it.nobody("testnet run /nowhere.toml"),
            NO_PATH,
        ),
        case(
            "testnet scenarios",
            "TestnetScenarios",
            |it| it.nobody("testnet scenarios"),
            |it| it.nobody("testnet scenarios now"),
            USAGE,
        ),
    ]
}
