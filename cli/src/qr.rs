//! A link as a QR code that a terminal shows.

use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};
use serde::Serialize;
use shoal_protocol::link::Link;

/// The widest code: a terminal of 80 columns, of which a code takes one a module. The largest
/// version is then 13 with 69 modules and a border of 8, which holds 425 bytes: a link with three
/// peers of IPv4 addresses.
const COLUMNS_MAX: usize = 80;

/// A code, and what it stands for.
#[derive(Serialize)]
pub(crate) struct Code {
    /// The link that it holds.
    pub(crate) link: String,
    /// Its lines of half blocks, for light on dark.
    pub(crate) lines: String,
    /// Peers of the whole link for which there was no room.
    pub(crate) peers_left_out: usize,
}

/// The code of `link` with as much of it as there is room for: the last peers are left out first,
/// as the address alone finds them, and then the name. None when not even the rest fits.
pub(crate) fn code(link: &Link) -> Option<Code> {
    let mut link = link.clone();
    let mut peers_left_out = 0;
    loop {
        let text = link.to_string();
        if let Some(lines) = lines(&text) {
            return Some(Code {
                link: text,
                lines,
                peers_left_out,
            });
        }
        if link.peers.pop().is_some() {
            peers_left_out += 1;
        } else {
            link.name.take()?;
        }
    }
}

fn lines(text: &str) -> Option<String> {
    // Screens are clean and bright: the lowest level of correction, and so the smallest code.
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    // Most terminals are dark, so what is drawn is the light.
    let lines = code
        .render::<Dense1x2>()
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark)
        .build();
    let columns = lines.lines().next().map_or(0, |line| line.chars().count());
    (columns <= COLUMNS_MAX).then_some(lines)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use shoal_protocol::name::SafeName;

    use super::*;

    const CID: &str = "bafkr4ifpcne3t6mptuzuqtcjltsmtsg5p2wvqsnelpc5gm2yurh6psvs6m";
    const PEER: &str = "/p2p/12D3KooWSHj3RRbBjD15g6wekV8y3mm57Pobmps2g2WJm6F67Lay";

    fn link(peers: usize, name: &str) -> Link {
        Link {
            name: (!name.is_empty()).then(|| SafeName::parse(name).unwrap()),
            peers: (0..peers)
                .map(|peer| format!("/ip4/192.0.2.{peer}/tcp/4101{PEER}"))
                .collect(),
            ..Link::new(CID.parse().unwrap())
        }
    }

    #[test]
    fn a_code_fits_a_terminal_and_holds_as_much_as_it_can() {
        let check = |peers: usize, name: &str, left_out: usize, named: bool| {
            let code = code(&link(peers, name)).unwrap();
            assert_eq!(code.peers_left_out, left_out, "{peers} {name}");
            let widths = || code.lines.lines().map(|line| line.chars().count());
            assert!(widths().all(|width| width <= COLUMNS_MAX));
            assert_eq!(widths().min(), widths().max());
            assert_eq!(
                code.lines.lines().count(),
                widths().max().unwrap().div_ceil(2)
            );

            let held: Link = code.link.parse().unwrap();
            assert_eq!(held.root.to_string(), CID);
            assert_eq!(held.peers, link(peers - left_out, "").peers);
            assert_eq!(held.name.is_some(), named);
        };
        check(0, "", 0, false);
        check(1, "photo.jpg", 0, true);
        check(3, "photo.jpg", 0, true);
        check(4, "photo.jpg", 1, true);
        check(4, &"n".repeat(255), 3, true);
        // Percent-encoded, it is three times as long.
        check(4, &"ü".repeat(120), 4, false);
    }

    #[test]
    fn a_code_has_its_corners_and_a_light_border() {
        let code = code(&link(0, "")).unwrap();
        let rows: Vec<Vec<char>> = code.lines.lines().map(|it| it.chars().collect()).collect();
        // Four modules of border are two lines and four columns.
        assert!(rows[..2].iter().flatten().all(|&c| c == '█'));
        let corner: Vec<String> = rows[2..6]
            .iter()
            .map(|row| row[4..11].iter().collect())
            .collect();
        assert_eq!(corner, [" ▄▄▄▄▄ ", " █   █ ", " █▄▄▄█ ", "▄▄▄▄▄▄▄"]);
    }
}
