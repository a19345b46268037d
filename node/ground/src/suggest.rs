//! "Did you mean": the known word nearest to a mistyped one.

use strsim::osa_distance;

/// The nearest of `known` words, if it is near enough to have been meant.
#[must_use]
pub fn closest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (osa_distance(word, candidate), candidate))
        .filter(|&(distance, candidate)| {
            // A third of the letters may be wrong, or one is a part of the other.
            distance * 3 <= candidate.len().max(3)
                || word.contains(candidate)
                || candidate.contains(word)
        })
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
        let known = ["listen", "bootstrap", "mdns", "name"];
        let check =
            |word, expected| assert_eq!(closest(word, known.into_iter()), expected, "{word}");
        check("lisetn", Some("listen"));
        check("listens", Some("listen"));
        check("bootstrap_peers", Some("bootstrap"));
        check("mdsn", Some("mdns"));
        check("port", None);
        check("zzzz", None);
    }
}
