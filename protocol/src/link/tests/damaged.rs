//! What happens to links on their way, and what comes out.

use super::*;

/// A link with everything: two addresses, a name of several words, a path.
fn whole() -> Link {
    Link {
        name: Some(name("summer 2026.tar")),
        peers: vec![PEER.into(), PEER.replace("4001", "4002")],
        ..bare()
    }
}

fn short() -> String {
    whole().short().unwrap()
}

fn check_works(text: &str) {
    assert_eq!(text.parse(), Ok(whole()), "{text}");
}

/// A text broken into lines of so many columns.
fn wrapped(text: &str, columns: usize, between: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let lines = letters.chunks(columns).map(|line| line.iter().collect());
    lines.collect::<Vec<String>>().join(between)
}

#[test]
fn wrapped_links_work() {
    for link in [short(), whole().to_string()] {
        for columns in [20, 40, 60, 72, 76, 80] {
            for between in [
                "\n", "\r\n", "\n  ", " \n> ", "\n> > ", "\\\n", "\n\n", "\u{2028}",
            ] {
                check_works(&wrapped(&link, columns, between));
            }
        }
    }
    for columns in [60, 76] {
        check_works(&wrapped(&short(), columns, "=\r\n"));
        check_works(&wrapped(&short(), columns, " "));
        check_works(&wrapped(&short(), columns, "\u{200b}"));
    }
}

#[test]
fn quoted_links_work() {
    for link in [short(), whole().to_string()] {
        for (open, close) in [
            ("\"", "\""),
            ("'", "'"),
            ("`", "`"),
            ("```", "```"),
            ("“", "”"),
            ("„", "“"),
            ("‘", "’"),
            ("«", "»"),
            ("« ", " »"),
            ("<", ">"),
            ("(", ")"),
            ("[", "]"),
            ("{", "}"),
            ("**", "**"),
            ("> ", ""),
            ("  ", " \n"),
            ("", "."),
            ("", ","),
            ("", ";"),
            ("", "!"),
            ("", "?"),
            ("", "…"),
            ("", ").\n"),
            ("\u{feff}", ""),
            ("Here it is: ", ""),
            ("photos (", ") of last summer"),
            ("[photos](", ")"),
            ("<a href=\"", "\">photos</a>"),
            ("<a href='", "'>photos</a>"),
            ("<p>", "</p>\n"),
            ("&lt;", "&gt;"),
            ("&quot;", "&quot;"),
            ("<", "|photos>"),
        ] {
            check_works(&format!("{open}{link}{close}"));
        }
    }
    let link = short();
    check_works(&format!("<a\n href=\"{link}\"\n>{link}</a>"));
    check_works(&format!("[{link}]({link})"));
    check_works(&format!("Hello,\n{link}\nSee you"));
    check_works(&format!("get {link} and tell me"));
}

#[test]
fn ampersands_of_web_pages_are_read() {
    let long = whole().to_string();
    assert!(long.contains('&'));
    check_works(&long.replace('&', "&amp;"));
    check_works(&long.replace('&', "&amp;amp;"));
    check_works(&long.replace('&', "&#38;"));
    check_works(&long.replace('&', "&#x26;").replace('/', "&#x2F;"));
}

#[test]
fn capitals_and_letters_that_look_alike_are_read() {
    let token = whole().short().unwrap();
    let (token, name) = token.split_once('/').unwrap();
    for token in [
        token.to_uppercase(),
        token.to_lowercase(),
        format!("S{}", &token[1..]),
        token.replace('0', "O").replace('1', "l"),
        token.replace('0', "o").replace('1', "I"),
    ] {
        let scheme = token.get(..6).unwrap();
        // The scheme is no place for look-alikes.
        let token = format!("{}{}", scheme.replace('0', "o"), &token[6..]);
        check_works(&format!("{token}/{name}"));
    }
    let shouted: Link = short().to_uppercase().parse().unwrap();
    assert_eq!(shouted.name, Some(name_of("SUMMER 2026.TAR")));
    assert_eq!(shouted.peers, whole().peers);
}

fn name_of(text: &str) -> SafeName {
    super::name(text)
}

#[test]
fn spaces_that_a_chat_decoded_are_read() {
    check_works(&short().replace("%20", " "));
    check_works(&format!("{} when you like", short().replace("%20", " ")));
    check_works(&format!("\"{}\".", short().replace("%20", " ")));
}

#[test]
fn a_link_without_its_scheme_works() {
    let link = short();
    check_works(link.strip_prefix("shoal:").unwrap());
    check_works(&link.replacen("shoal:", "shoal://", 1));
    check_works(&link.replacen("shoal:", "Shoal: ", 1));
}

#[test]
fn a_cut_link_is_told_as_cut() {
    let link = short();
    let token = link.split('/').next().unwrap();
    for letters in 2..token.len() {
        let error = link[..letters].parse::<Link>().unwrap_err();
        assert!(
            matches!(
                error,
                LinkError::Cut { .. } | LinkError::Address(AddressError::Cut)
            ),
            "{letters}: {error:?}"
        );
        assert!(error.to_string().contains("cut"), "{error}");
        let shown = format!("{}…", &link[..letters]);
        assert!(shown.parse::<Link>().is_err(), "{shown}");
    }
    for letters in [token.len(), token.len() + 1] {
        let cut: Link = link[..letters].parse().unwrap();
        assert_eq!(
            cut,
            Link {
                name: None,
                ..whole()
            }
        );
    }
    for letters in token.len() + 2..link.len() {
        assert_eq!(
            link[..letters].parse::<Link>(),
            Err(LinkError::NameChanged),
            "{letters}"
        );
    }
}

/// Links whose token ends with so many zeros, as one in 32 and one in 1,024 do.
fn ending_with(zeros: &str) -> impl Iterator<Item = Link> {
    let links = (0_u32..).map(|content| Link {
        root: Cid::raw(Digest::of(HashFn::Blake3, &content.to_le_bytes())),
        name: None,
        ..whole()
    });
    links.filter(move |link| link.short().unwrap().ends_with(zeros))
}

#[test]
fn a_zero_that_is_lost_or_added_at_the_end_is_told_though_the_checksum_holds() {
    for zeros in ["0", "00"] {
        for link in ending_with(zeros).take(4) {
            let token = link.short().unwrap();
            let whole = token.len() - "shoal:".len();
            for lost in 1..=zeros.len() {
                let cut = &token[..token.len() - lost];
                let expected = LinkError::Cut {
                    have: whole - lost,
                    whole: Some(whole),
                };
                assert_eq!(cut.parse::<Link>(), Err(expected), "{cut}");
            }
            let longer = format!("{token}{zeros}");
            let expected = LinkError::Attached(whole);
            assert_eq!(longer.parse::<Link>(), Err(expected), "{longer}");
        }
    }
}

#[test]
fn a_changed_letter_is_told_with_its_place() {
    let link = short();
    let token = link.split('/').next().unwrap().len() - "shoal:".len();
    for at in 0..token {
        for letter in ['0', '7', 'A', 'Z', 'Q'] {
            let place = at + "shoal:".len();
            let meant = link[place..].chars().next().unwrap();
            if letter == meant {
                continue;
            }
            let changed = format!("{}{letter}{}", &link[..place], &link[place + 1..]);
            let expected = LinkError::Mistyped {
                at: Some(at + 1),
                meant: Some(meant),
            };
            assert_eq!(changed.parse::<Link>(), Err(expected), "{changed}");
        }
        let place = at + "shoal:".len();
        let unknown = format!("{}u{}", &link[..place], &link[place + 1..]);
        assert!(unknown.parse::<Link>().is_err(), "{unknown}");
        // Lost, doubled, and changed with the next.
        let lost = format!("{}{}", &link[..place], &link[place + 1..]);
        assert!(lost.parse::<Link>().is_err(), "{lost}");
        let doubled = format!("{}{}", &link[..=place], &link[place..]);
        assert!(doubled.parse::<Link>().is_err(), "{doubled}");
        if at + 1 < token && link[place..=place] != link[place + 1..place + 2] {
            let mut letters: Vec<char> = link.chars().collect();
            letters.swap(place, place + 1);
            let swapped: String = letters.into_iter().collect();
            assert!(swapped.parse::<Link>().is_err(), "{swapped}");
        }
    }
}

#[test]
fn a_changed_name_is_told_as_such() {
    let link = short();
    for (from, to) in [
        ("summer", "sumner"),
        ("summer", "winter"),
        ("%20", ""),
        (".tar", ".tar.gz"),
    ] {
        let changed = link.replace(from, to);
        assert_eq!(
            changed.parse::<Link>(),
            Err(LinkError::NameChanged),
            "{changed}"
        );
    }
}

#[test]
fn the_long_form_says_where_it_is_cut() {
    let long = whole().to_string();
    // Within the address and within a peer; a cut elsewhere leaves a link that works.
    let address = 2..6 + CID.len();
    let peer = long.len() - 40..long.len();
    for letters in address.chain(peer) {
        let error = long[..letters].parse::<Link>().unwrap_err();
        assert!(error.to_string().contains("cut"), "{letters}: {error}");
    }
}
