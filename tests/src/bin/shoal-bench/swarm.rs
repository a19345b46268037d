//! Eight fetchers that start together, of one origin on a thin line.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use shoal_net::emulation::{Line, Plan};
use shoal_tests::{Daemon, Ran, assert_same_file, command, text, write_content};

use crate::{
    Bench, Result,
    measure::{Bar, Outcome, SHOAL, Series},
    programs::{free_port, remove},
};

const FETCHERS: usize = 8;

/// What they fetch, and over which line.
struct Setting {
    title: &'static str,
    name: &'static str,
    bytes: usize,
    /// Of all bytes on the sockets.
    up_bytes_per_second: f64,
    line: Thin,
    must: f64,
    beyond: f64,
}

/// What makes the origin's line thin.
#[derive(Clone, Copy)]
enum Thin {
    /// Its own limit.
    Limit(&'static str),
    /// An emulated line; the fetchers have good ones.
    Line(&'static str),
}

const SWARM: Setting = Setting {
    title: "8 fetchers of 256 MiB, origin at 50 Mbit/s",
    name: "swarm",
    bytes: 256 << 20,
    up_bytes_per_second: 6_250_000.0,
    line: Thin::Limit("50mbit"),
    must: 1.5,
    beyond: 1.15,
};

const THIN: [Setting; 2] = [
    Setting {
        title: "8 fetchers of 4 MiB, origin with --up 100KB/s",
        name: "thin-limit",
        bytes: 4 << 20,
        up_bytes_per_second: 100_000.0,
        line: Thin::Limit("100KB/s"),
        must: 1.6,
        beyond: 1.2,
    },
    Setting {
        title: "8 fetchers of 4 MiB, origin on a line of 800 kbit/s",
        name: "thin-line",
        bytes: 4 << 20,
        up_bytes_per_second: 100_000.0,
        line: Thin::Line("800kbit"),
        must: 1.6,
        beyond: 1.2,
    },
];

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Outcome>> {
    Ok(vec![measured(bench, &SWARM)?])
}

/// Four chunks for eight, from an origin that takes most of a minute for one copy.
pub(crate) fn measure_thin(bench: &Bench) -> Result<Vec<Outcome>> {
    THIN.iter()
        .map(|setting| measured(bench, setting))
        .collect()
}

fn measured(bench: &Bench, setting: &Setting) -> Result<Outcome> {
    let source = bench.place(&format!("{}/file", setting.name));
    write_content(&source, setting.name, setting.bytes);
    let series = || Series {
        program: SHOAL.into(),
        seconds: Vec::new(),
    };
    let (mut times, mut copies) = (series(), series());
    // Each takes most of a minute, and it is the line that says how long.
    for round in 0..bench.rounds.min(3) {
        let (seconds, uploaded) = once(bench, setting, &source, round)?;
        eprintln!("{}: {seconds:.1} s, {uploaded:.2} copies", setting.name);
        times.seconds.push(seconds);
        copies.seconds.push(uploaded);
    }
    let single = setting.bytes as f64 / setting.up_bytes_per_second;
    let bar = |what: &str, value| Bar {
        what: format!("{}: {what}", setting.title),
        value,
        must: setting.must,
        beyond: setting.beyond,
        at_least: false,
    };
    let bars = vec![
        bar("time of a single copy", times.median() / single),
        bar("copies sent by the origin", copies.median()),
    ];
    Ok(Outcome {
        title: setting.title.into(),
        name: setting.name,
        mib: 0.0,
        series: vec![times],
        bars,
    })
}

/// Seconds until the last is done, and how many copies the origin sent.
fn once(bench: &Bench, setting: &Setting, source: &Path, round: u32) -> Result<(f64, f64)> {
    let dir = bench.place(&format!("{}-{round}", setting.name));
    fs::create_dir_all(&dir)?;
    let homes = Homes::new(&dir, setting.line)?;
    let origin = homes.start(0, None);
    let shared = origin.share(source);
    let cid = shared["cid"].as_str().ok_or("no cid")?;
    let fetchers: Vec<Daemon> = (1..=FETCHERS)
        .map(|node| homes.start(node, Some(&origin)))
        .collect();
    let started = Instant::now();
    let mut running = Vec::new();
    for (n, fetcher) in fetchers.iter().enumerate() {
        let out = dir.join(format!("out-{n}"));
        let mut fetch = command(fetcher.home(), &["fetch", cid, "-o", text(&out)]);
        running.push((
            out,
            fetch.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?,
        ));
    }
    let mut outs = Vec::new();
    for (out, fetch) in running {
        Ran::new(&fetch.wait_with_output()?).ok();
        outs.push(out);
    }
    let seconds = started.elapsed().as_secs_f64();
    for out in outs {
        assert_same_file(source, &out);
    }
    let status = origin.run(&["status"]).ok();
    let uploaded = status["uploaded_bytes"]
        .as_f64()
        .ok_or("no uploaded_bytes")?;
    drop((origin, fetchers));
    remove(&dir)?;
    Ok((seconds, uploaded / setting.bytes as f64))
}

/// Where the nodes of one round are, and over which lines.
struct Homes {
    dir: PathBuf,
    line: Thin,
    ports: Vec<u16>,
    links: PathBuf,
}

impl Homes {
    fn new(dir: &Path, line: Thin) -> Result<Self> {
        let ports: Vec<u16> = (0..=FETCHERS)
            .map(|_| Ok(free_port()?.parse()?))
            .collect::<Result<_>>()?;
        let homes = Self {
            dir: dir.to_owned(),
            line,
            ports,
            links: dir.join("links.json"),
        };
        if let Thin::Line(rate) = line {
            let nodes = homes.ports.iter().enumerate().map(|(node, port)| Line {
                up: match node {
                    0 => rate,
                    _ => "20mbit",
                }
                .parse()
                .expect("a rate"),
                down: "50mbit".parse().expect("a rate"),
                latency: Duration::from_millis(15),
                listen: vec![SocketAddr::from(([127, 0, 0, 1], *port))],
                ..Line::default()
            });
            let plan = Plan {
                version: 1,
                seed: 1,
                nodes: nodes.collect(),
                ..Plan::default()
            };
            fs::write(&homes.links, serde_json::to_vec(&plan)?)?;
        }
        Ok(homes)
    }

    fn start(&self, node: usize, bootstrap: Option<&Daemon>) -> Daemon {
        let listen = format!("/ip4/127.0.0.1/tcp/{}", self.ports[node]);
        let mut options = vec!["--no-mdns".to_owned(), "--listen".to_owned(), listen];
        let mut add = |name: &str, value: &str| {
            options.extend([name.to_owned(), value.to_owned()]);
        };
        match self.line {
            Thin::Limit(rate) if node == 0 => add("--up", rate),
            Thin::Limit(_) => {}
            Thin::Line(_) => {
                add("--links", text(&self.links));
                add("--links-node", &node.to_string());
            }
        }
        if let Some(other) = bootstrap {
            add("--bootstrap", &other.address);
        }
        Daemon::start_with(&self.dir.join(format!("home-{node}")), options)
    }
}
