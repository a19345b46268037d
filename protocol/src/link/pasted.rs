//! Finding the link in what a person pastes, and undoing what happened to it on its way.
//!
//! Mail wraps links and quotes them, chats put them between quotes, brackets and full stops, web
//! pages write `&amp;`, phones begin with a capital. All of it is undone here, before anything is
//! parsed: characters that no printed link holds are no part of one. Where two readings are left,
//! the checks in the link decide; where it has none, the reading with most of the text counts.
//!
//! Nothing here changes a letter. What is not a link any more is refused by the parsers.

use std::borrow::Cow;

use super::{
    Link, LinkError,
    long::{self, Encoding},
    percent_decoded,
    short::{self, Token, is_blank, is_letter},
};
use crate::name::SafeName;

const SHOAL: &str = "shoal:";
const IPFS_URL: &str = "ipfs://";
const IPFS_PATH: &str = "/ipfs/";

/// Shortest text without a scheme that is taken for a damaged address or token, in letters: no file
/// that a person has in mind is called like this.
const BARE_LETTERS_MIN: usize = 32;

/// Readings of a name that are tried: so many words less at its end, so many characters of
/// punctuation less.
const WORDS_LEFT_OUT_MAX: usize = 8;
const PUNCTUATION_LEFT_OUT_MAX: usize = 8;

/// Entities of HTML in which a link's own characters and quotes are written.
const ENTITIES: [(&str, char); 14] = [
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("nbsp", ' '),
    ("shy", '\u{ad}'),
    ("colon", ':'),
    ("sol", '/'),
    ("quest", '?'),
    ("equals", '='),
    ("percnt", '%'),
    ("num", '#'),
    ("period", '.'),
];

/// Longest name or number of an entity, in bytes.
const ENTITY_BYTES_MAX: usize = 8;

/// A link of which at most the scheme is there.
const NOTHING_THERE: LinkError = LinkError::Cut {
    have: 0,
    whole: None,
};

/// The link in a text.
pub(super) fn read(text: &str) -> Result<Link, LinkError> {
    // `&amp;amp;` comes from pages that escape what is escaped.
    let text = unwrapped(&with_entities(&with_entities(text)));
    let trimmed = text.trim_matches(is_outside);
    if let Some(path) = trimmed.strip_prefix(IPFS_PATH) {
        let path = joined(public(path));
        return long::read_target(&path, Encoding::Verbatim);
    }
    match scheme(&text) {
        Some((SHOAL, before, rest)) => {
            let rest = one_link(before, rest)?.trim_start_matches(|c| c == '/' || is_blank(c));
            read_shoal(rest)
        }
        Some((_, before, rest)) => {
            let rest = one_link(before, rest)?;
            first_reading(rest, |text| {
                let target = text.split_once('?').map_or(text, |(target, _)| target);
                long::read_target(target, Encoding::Percent)
            })
        }
        None => read_bare(public(trimmed)),
    }
}

/// Reads what follows `shoal:`.
fn read_shoal(rest: &str) -> Result<Link, LinkError> {
    if short::is_token(rest) {
        return read_short(rest);
    }
    if without_end(rest).is_empty() {
        return Err(NOTHING_THERE);
    }
    first_reading(rest, long::read).map_err(|error| {
        // A CID it is not; it may be a token of which the very first letter is wrong.
        short::mistyped_version(&joined(rest)).unwrap_or(error)
    })
}

/// Reads a link without its scheme.
fn read_bare(text: &str) -> Result<Link, LinkError> {
    let head = text.split(['/', '?']).next().unwrap_or_default();
    let letters = head.chars().filter(|c| !is_blank(*c));
    let is_long = letters.clone().count() >= BARE_LETTERS_MIN;
    if short::is_token(head) && is_long && letters.clone().all(is_letter) {
        return read_short(text);
    }
    if text.len() > 1 && begins(SHOAL, text) {
        return Err(NOTHING_THERE);
    }
    let is_address = is_long && letters.clone().all(|c| c.is_ascii_alphanumeric());
    let is_other = text.contains([':', '/', '?']) && head.parse::<crate::address::Cid>().is_err();
    if text.is_empty() || (is_other && !is_address) {
        return Err(LinkError::Scheme);
    }
    first_reading(text, long::read)
}

/// Reads a token and the names behind it.
fn read_short(text: &str) -> Result<Link, LinkError> {
    let (token, behind) = short::read(text)?;
    let mut link = Link {
        peers: token.peers.clone(),
        marks: token.marks,
        ..Link::new(token.root.clone())
    };
    let Some(names) = behind.trim_start_matches('\n').strip_prefix('/') else {
        return Ok(link);
    };
    let path = if token.name_check.is_some() {
        let (name, path) = names.split_once('/').unwrap_or((names, ""));
        link.name = read_name(&token, name)?;
        path
    } else {
        names
    };
    link.path = long::read_path(without_end(&joined(path)), Encoding::Percent)?;
    Ok(link)
}

/// The reading of a name that is the one the token was made with; none where no name is left.
fn read_name(token: &Token, text: &str) -> Result<Option<SafeName>, LinkError> {
    if without_end(text).is_empty() {
        return Ok(None);
    }
    let blanks = text.char_indices().rev().filter(|(_, c)| is_blank(*c));
    let ends = blanks.map(|(at, _)| at).take(WORDS_LEFT_OUT_MAX);
    for end in std::iter::once(text.len()).chain(ends) {
        let text = text.get(..end).unwrap_or_default();
        let unbroken: String = text.chars().filter(|c| !is_blank(*c)).collect();
        for reading in [unbroken, joined(text), text.replace('\n', " ")] {
            if let Some(name) = punctuated(token, &reading) {
                return Ok(Some(name));
            }
        }
    }
    Err(LinkError::NameChanged)
}

/// The same for a text that may end in the punctuation of a sentence.
fn punctuated(token: &Token, text: &str) -> Option<SafeName> {
    let mut rest = text;
    for _ in 0..PUNCTUATION_LEFT_OUT_MAX {
        let name = percent_decoded(rest).ok();
        let name = name.and_then(|name| SafeName::parse(&name).ok());
        if let Some(name) = name.filter(|name| token.is_name(name)) {
            return Some(name);
        }
        rest = rest.strip_suffix(|c: char| !c.is_alphanumeric())?;
    }
    None
}

/// Parses all of a text; failing that, its first line, and then its first word. The failure is that
/// of the whole.
fn first_reading(
    text: &str,
    parse: impl Fn(&str) -> Result<Link, LinkError>,
) -> Result<Link, LinkError> {
    let whole = parse(without_end(&joined(text)));
    let Err(error) = whole else {
        return whole;
    };
    let line = text.split('\n').next();
    let word = text.split(is_blank).next();
    [line, word]
        .into_iter()
        .flatten()
        .filter(|part| part.len() < text.len())
        .find_map(|part| parse(without_end(part)).ok())
        .ok_or(error)
}

/// Finds the first scheme that a word begins with: it, what is before it and what is behind it.
fn scheme(text: &str) -> Option<(&'static str, &str, &str)> {
    text.char_indices().find_map(|(at, _)| {
        let (before, from) = text.split_at_checked(at)?;
        if before.ends_with(|c: char| c.is_ascii_alphanumeric()) {
            return None;
        }
        [SHOAL, IPFS_URL].into_iter().find_map(|scheme| {
            let (head, rest) = from.split_at_checked(scheme.len())?;
            head.eq_ignore_ascii_case(scheme)
                .then_some((scheme, before, rest))
        })
    })
}

/// Of what follows a scheme, what belongs to the link: up to what closes it, and without a key.
fn one_link<'a>(before: &str, rest: &'a str) -> Result<&'a str, LinkError> {
    let opener = before.chars().next_back();
    let closes: &[char] = match opener {
        Some('\'' | '‘' | '‚') => &['\'', '’', '‘'],
        Some('(') => &[')'],
        Some('[') => &[']'],
        Some('{') => &['}'],
        Some('*') => &['*'],
        _ => &[],
    };
    let mut open = 0_usize;
    let end = rest.char_indices().find(|&(_, c)| {
        if closes.contains(&c) {
            let is_end = open == 0;
            open = open.saturating_sub(1);
            return is_end;
        }
        if opener == Some(c) {
            open = open.saturating_add(1);
        }
        is_never_in_a_link(c)
    });
    let link = end.and_then(|(at, _)| rest.get(..at)).unwrap_or(rest);
    let link = public(link);
    if link
        .split(is_blank)
        .skip(1)
        .any(|word| scheme(word).is_some())
    {
        return Err(LinkError::Several);
    }
    Ok(link)
}

/// What a text says before a `#`: what follows may be a key.
fn public(text: &str) -> &str {
    text.split_once('#')
        .map_or(text, |(public, _secret)| public)
}

/// Undoes line breaks with what surrounds them: white space, the marks with which mail quotes, what
/// joins lines in shells. A `\n` stands where each was.
fn unwrapped(text: &str) -> String {
    let is_break = |c| {
        matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut out = String::with_capacity(text.len());
    for line in text.split(is_break) {
        let ended = line.trim_end_matches(|c| is_blank(c) || c == '\\');
        let line = if out.is_empty() {
            ended
        } else {
            out.push('\n');
            ended.trim_start_matches(|c| is_blank(c) || matches!(c, '>' | '|'))
        };
        // Mail in "quoted-printable" ends broken lines with it; of a long link it may be part.
        let soft = line
            .strip_suffix('=')
            .filter(|line| !line.contains(['?', '&']));
        out.push_str(soft.unwrap_or(line));
    }
    out.truncate(out.trim_end_matches('\n').len());
    out
}

/// A text with its lines put together again.
fn joined(text: &str) -> String {
    text.replace('\n', "")
}

/// A text without the white space, the closing marks and the punctuation of a sentence at its end.
fn without_end(text: &str) -> &str {
    let mut rest = text;
    while let Some((before, last)) = rest
        .chars()
        .next_back()
        .and_then(|last| Some((rest.strip_suffix(last)?, last)))
    {
        let opener = match last {
            ')' => Some('('),
            ']' => Some('['),
            '}' => Some('{'),
            _ => None,
        };
        let is_end = is_outside(last) || is_stop(last);
        if !is_end || opener.is_some_and(|opener| before.contains(opener)) {
            break;
        }
        rest = before;
    }
    rest
}

/// Whether people put a character around links: white space, quotes, brackets, emphasis.
fn is_outside(c: char) -> bool {
    let quotes = matches!(
        c,
        '"' | '\'' | '`' | '´' | '‘'..='‟' | '«' | '»' | '‹' | '›'
    );
    let brackets = matches!(
        c,
        '<' | '>' | '(' | ')' | '[' | ']' | '{' | '}' | '「' | '」' | '（' | '）'
    );
    quotes || brackets || matches!(c, '*' | '|') || is_blank(c)
}

/// Whether a sentence ends or goes on with it.
fn is_stop(c: char) -> bool {
    matches!(
        c,
        '.' | ','
            | ';'
            | ':'
            | '!'
            | '?'
            | '…'
            | '_'
            | '~'
            | '\\'
            | '。'
            | '，'
            | '、'
            | '！'
            | '？'
    )
}

/// Whether a character ends a link wherever it stands.
fn is_never_in_a_link(c: char) -> bool {
    matches!(
        c,
        '<' | '>' | '"' | '`' | '|' | '“'..='‟' | '«' | '»' | '「' | '」'
    )
}

/// Whether a word begins with this text, in whatever case.
fn begins(word: &str, text: &str) -> bool {
    let beginning = word.get(..text.len());
    beginning.is_some_and(|beginning| beginning.eq_ignore_ascii_case(text))
}

/// Replaces entities of HTML.
fn with_entities(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, from)) = rest.split_once('&') {
        out.push_str(before);
        let entity = from
            .split_once(';')
            .filter(|(name, _)| name.len() <= ENTITY_BYTES_MAX)
            .and_then(|(name, after)| Some((entity(name)?, after)));
        match entity {
            Some((c, after)) => {
                out.push(c);
                rest = after;
            }
            None => {
                out.push('&');
                rest = from;
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// What an entity stands for, without its `&` and `;`.
fn entity(name: &str) -> Option<char> {
    let Some(number) = name.strip_prefix('#') else {
        let known = ENTITIES
            .iter()
            .find(|(known, _)| name.eq_ignore_ascii_case(known));
        return known.map(|(_, c)| *c);
    };
    let code = match number.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => number.parse().ok()?,
    };
    char::from_u32(code)
}
