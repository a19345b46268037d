//! Links as they arrive: broken, quoted, cut and mistyped on their way. Each works, or is refused
//! before anything else happens, with what is wrong with it.

use std::fs;

use super::World;

/// What becomes of a damaged link.
enum Outcome {
    /// It leads to the share.
    Works,
    /// It is refused with these words.
    Says(&'static str),
}
use Outcome::{Says, Works};

const CUT: Outcome = Says("it is cut: only");
const MISTYPED: Outcome = Says("it is mistyped: letter");

/// A text in lines of so many columns.
fn wrapped(text: &str, columns: usize, between: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let lines = letters.chunks(columns).map(|line| line.iter().collect());
    lines.collect::<Vec<String>>().join(between)
}

/// A text with the letter at a place changed.
fn changed(text: &str, at: usize) -> String {
    let other = if &text[at..=at] == "7" { "8" } else { "7" };
    format!("{}{other}{}", &text[..at], &text[at + 1..])
}

/// Damages that leave all that a link says.
fn harmless(link: &str, long: &str, cid: &str) -> Vec<String> {
    let mut all = Vec::new();
    for columns in [60, 76] {
        for between in ["\n", "\r\n", "\r\n> ", "\n    ", "=\r\n", " "] {
            all.push(wrapped(link, columns, between));
        }
        all.push(wrapped(long, columns, "\n"));
    }
    for (open, close) in [
        ("\"", "\""),
        ("'", "'"),
        ("“", "”"),
        ("«", "»"),
        ("`", "`"),
        ("<", ">"),
        ("(", ")"),
        ("[photos](", ")"),
        ("<a href=\"", "\">photos</a>"),
        ("<p>", "</p>"),
        ("&lt;", "&gt;"),
        ("", "."),
        ("", ","),
        ("", "!\n"),
        ("Look: ", ""),
    ] {
        all.push(format!("{open}{link}{close}"));
    }
    let (token, name) = link.rsplit_once('/').unwrap();
    all.extend([
        long.replace('&', "&amp;"),
        format!("{}/{name}", token.to_uppercase()),
        format!("{}/{name}", token.to_lowercase()),
        link.replacen("shoal:", "Shoal: ", 1),
        link.replacen("shoal:", "shoal://", 1),
        link.replacen("shoal:", "", 1),
        link.replace("%20", " "),
        token.to_owned(),
        format!("{token}/"),
        cid.to_owned(),
        cid.to_uppercase(),
    ]);
    all
}

/// Damages that take something away, and what is said of them.
fn harmful(link: &str, long: &str, cid: &str) -> Vec<(String, Outcome)> {
    let token = link.rfind('/').unwrap();
    let mut all = Vec::new();
    for letters in (14..token).step_by(11) {
        all.push((link[..letters].to_owned(), CUT));
    }
    all.push((link[..token - 1].to_owned(), CUT));
    all.push((format!("{}…", &link[..80]), CUT));
    for letters in [token + 2, link.len() - 4, link.len() - 1] {
        all.push((
            link[..letters].to_owned(),
            Says("the name at its end is cut"),
        ));
    }
    for at in ["shoal:".len(), 7, 8, 9, 30, 60, 90, token - 1] {
        all.push((changed(link, at), MISTYPED));
    }
    let peer = long.len() - 10;
    all.extend([
        (changed(link, token + 1), Says("the name at its end is")),
        (format!("{}U{}", &link[..40], &link[41..]), MISTYPED),
        (format!("{}{}", &link[..40], &link[41..]), CUT),
        (
            format!("{}77{}", &link[..40], &link[40..]),
            Says("it has too many letters"),
        ),
        (format!("{link} {link}"), Says("it holds several links")),
        (
            cid[..40].to_owned(),
            Says("the content address is cut short"),
        ),
        (
            format!("shoal:{}", &cid[..58]),
            Says("the content address is cut short"),
        ),
        (
            long[..peer].to_owned(),
            Says("is illegible, cut or mistyped"),
        ),
        (
            long.replace("/tcp/", "/tpc/"),
            Says("is illegible, cut or mistyped"),
        ),
    ]);
    all
}

#[test]
fn each_damaged_link_works_or_says_what_is_wrong_with_it() {
    let world = World::new();
    let daemon = world.daemon();
    fs::write(world.beside("my photos.txt"), "of last summer").unwrap();
    let shared = daemon.share(&world.beside("my photos.txt"));
    let listed = daemon.run(&["link", "my photos.txt"]).ok();
    assert_eq!(listed["link"], shared["link"]);
    let [link, long] = ["link", "link_long"].map(|form| listed[form].as_str().unwrap());
    let cid = shared["cid"].as_str().unwrap();
    assert!(
        link.starts_with("shoal:S") && link.ends_with("/my%20photos.txt"),
        "{link}"
    );
    assert!(
        long.starts_with(&format!("shoal:{cid}?name=my%20photos.txt&peer=")),
        "{long}"
    );

    // A script can take apart what `--quiet` prints.
    for command in ["link", "share"] {
        let path = world.beside("my photos.txt");
        let mut quiet = world
            .ground
            .command(&["--quiet".into(), command.into(), path.into()]);
        let printed = String::from_utf8(quiet.output().unwrap().stdout).unwrap();
        assert_eq!(printed.trim_end(), long, "{command}");
    }

    let works = harmless(link, long, cid).into_iter().map(|it| (it, Works));
    let all: Vec<_> = works.chain(harmful(link, long, cid)).collect();
    assert!(all.len() >= 40, "{}", all.len());
    for (text, outcome) in all {
        match outcome {
            Works => {
                let listing = daemon.run(&["ls", &text]).ok();
                assert_eq!(listing["cid"], cid, "{text}");
            }
            Says(words) => {
                for command in ["fetch", "find"] {
                    world.check(
                        &[command, &text],
                        2,
                        "usage",
                        &["is not a link", words],
                        &[],
                    );
                }
            }
        }
    }
}

#[test]
fn the_pieces_that_a_shell_makes_of_a_link_are_put_together() {
    let world = World::new();
    let daemon = world.daemon();
    fs::write(world.beside("my photos.txt"), "of last summer").unwrap();
    let shared = daemon.share(&world.beside("my photos.txt"));
    let link = shared["link"].as_str().unwrap();
    for text in [
        wrapped(link, 60, " "),
        wrapped(link, 76, " "),
        link.replace("%20", " "),
    ] {
        let words = std::iter::once("ls").chain(text.split(' '));
        let listing = daemon.run(&words.collect::<Vec<_>>()).ok();
        assert_eq!(listing["cid"], shared["cid"], "{text}");
    }
    let says = ["`there` is no part of the link"];
    world.check(&["fetch", link, "there"], 2, "usage", &says, &["-o PATH"]);
}

#[test]
fn a_link_that_the_shell_has_halved_gets_a_hint_about_quotes() {
    let world = World::new();
    let daemon = world.daemon();
    fs::write(world.beside("f"), "of last summer").unwrap();
    let shared = daemon.share(&world.beside("f"));
    let cid = shared["cid"].as_str().unwrap();
    let check = |link: &str, hint: bool| {
        let listed = daemon.run(&["ls", link]);
        let says = listed.stderr.contains("put the whole link in quotes");
        assert_eq!(says, hint, "{link}: {listed:?}");
        listed.ok();
    };
    check(&format!("shoal:{cid}?name=f"), true);
    check(shared["link"].as_str().unwrap(), false);
    check(cid, false);
}
