//! A link as a QR code that a terminal shows.

use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};
use serde::Serialize;
use shoal_protocol::link::Link;

use crate::{human, output::Output};

/// The widest code of a short link: version 5 with 37 modules a side and a border of 4 on each. In
/// half blocks it takes 45 columns and 23 rows, so it fits a terminal of 80 x 24.
const SHORT_COLUMNS_MAX: usize = 45;

/// The widest code of all, of links that have no short form: a terminal of 80 columns. The largest
/// version is then 13 with 69 modules and a border of 8, which holds 425 bytes.
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

impl Code {
    fn columns(&self) -> usize {
        self.lines
            .lines()
            .next()
            .map_or(0, |line| line.chars().count())
    }

    fn rows(&self) -> usize {
        self.lines.lines().count()
    }
}

/// The code of a link where there is room for it; what stands against it is said on stderr.
pub(crate) fn shown(output: &Output, link: &str) -> Option<Code> {
    let Some(code) = link.parse().ok().and_then(|link| code(&link)) else {
        output.warning("the link is too long for a QR code");
        return None;
    };
    let (columns, rows) = (code.columns(), code.rows());
    if let Some(terminal) = output.terminal()
        && (terminal.0 < columns || terminal.1 <= rows)
    {
        output.warning(&format!(
            "the QR code takes {columns} columns and {} rows, and this terminal has {} and {}: make \
             it larger, and `shoal link --qr` prints the code again",
            // The line below it is the cursor's.
            rows + 1,
            terminal.0,
            terminal.1,
        ));
        return None;
    }
    if code.peers_left_out > 0 {
        output.note(format_args!(
            "The QR code holds a shorter link; the network finds what it leaves out ({}).",
            human::count(code.peers_left_out as u64, "peer")
        ));
    }
    Some(code)
}

/// The code of `link` with as much of it as there is room for. A short link goes without its name
/// where that would make the code larger than [`SHORT_COLUMNS_MAX`]. Of a long one the last peers
/// are left out first, as the address alone finds them, and then the name. None when not even the
/// rest fits.
fn code(link: &Link) -> Option<Code> {
    let unnamed = Link {
        name: None,
        ..link.clone()
    };
    let short = [link, &unnamed].into_iter().find_map(|link| {
        // The scheme in capitals: the whole token is then of the code's dense alphabet.
        let text = link.short()?.replacen("shoal:", "SHOAL:", 1);
        Some((lines(&text, SHORT_COLUMNS_MAX)?, text))
    });
    match short {
        Some((lines, link)) => Some(Code {
            link,
            lines,
            peers_left_out: 0,
        }),
        None => long_code(link),
    }
}

fn long_code(link: &Link) -> Option<Code> {
    let mut link = link.clone();
    let mut peers_left_out = 0;
    loop {
        let text = link.to_string();
        if let Some(lines) = lines(&text, COLUMNS_MAX) {
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

fn lines(text: &str, columns_max: usize) -> Option<String> {
    // Screens are clean and bright: the lowest level of correction, and so the smallest code.
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    // Most terminals are dark, so what is drawn is the light.
    let lines = code
        .render::<Dense1x2>()
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark)
        .build();
    let columns = lines.lines().next().map_or(0, |line| line.chars().count());
    (columns <= columns_max).then_some(lines)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use shoal_protocol::name::SafeName;

    use super::*;

    const CID: &str = "bafkr4ifpcne3t6mptuzuqtcjltsmtsg5p2wvqsnelpc5gm2yurh6psvs6m";
    const ID: &str = "12D3KooWSHj3RRbBjD15g6wekV8y3mm57Pobmps2g2WJm6F67Lay";

    fn link(peers: &[String], name: &str) -> Link {
        Link {
            name: (!name.is_empty()).then(|| SafeName::parse(name).unwrap()),
            peers: peers.to_vec(),
            ..Link::new(CID.parse().unwrap())
        }
    }

    fn check_shape(code: &Code, columns_max: usize) {
        let widths = || code.lines.lines().map(|line| line.chars().count());
        assert!(code.columns() <= columns_max, "{}", code.columns());
        assert!(widths().all(|width| width == code.columns()));
        assert_eq!(code.rows(), code.columns().div_ceil(2));
    }

    #[test]
    fn a_short_link_fits_80x24_with_its_name_if_there_is_room() {
        let v4 = format!("/ip4/192.0.2.1/tcp/4101/p2p/{ID}");
        let v6 = format!("/ip6/2001:db8::7/tcp/4101/p2p/{ID}");
        let check = |peers: &[&String], name: &str, named: bool| {
            let peers: Vec<_> = peers.iter().copied().cloned().collect();
            let code = code(&link(&peers, name)).unwrap();
            check_shape(&code, 45);
            assert!(code.rows() <= 23, "{}", code.rows());
            let held: Link = code.link.parse().unwrap();
            let kept = if named { name } else { "" };
            assert_eq!(held, link(&peers, kept), "{}", code.link);
            assert_eq!(code.peers_left_out, 0);
        };
        check(&[], "", false);
        check(&[], "photo.jpg", true);
        check(&[&v4], "photo.jpg", true);
        check(&[&v4], &"n".repeat(255), false);
        check(&[&v6, &v4], "", false);
        check(&[&v6, &v4], "photo.jpg", false);
        check(&[&v4], &"ü".repeat(120), false);
    }

    #[test]
    fn a_long_link_fits_80_columns_and_holds_as_much_as_it_can() {
        let check = |peers: usize, name: &str, left_out: usize, named: bool| {
            let peers: Vec<_> = (0..peers)
                .map(|peer| format!("/dns4/host{peer}.example.org/tcp/4101/p2p/{ID}"))
                .collect();
            let code = code(&link(&peers, name)).unwrap();
            check_shape(&code, COLUMNS_MAX);
            assert_eq!(code.peers_left_out, left_out, "{name}");
            let held: Link = code.link.parse().unwrap();
            let kept = if named { name } else { "" };
            assert_eq!(held, link(&peers[..peers.len() - left_out], kept));
        };
        check(1, "photo.jpg", 0, true);
        check(3, "photo.jpg", 0, true);
        check(4, "photo.jpg", 1, true);
        check(4, &"n".repeat(255), 3, true);
    }

    #[test]
    fn a_code_has_its_corners_and_a_light_border() {
        let code = code(&link(&[], "")).unwrap();
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
