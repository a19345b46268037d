//! "Did you mean": the known word nearest to a mistyped one.

/// The nearest of `known` words, if it is near enough to have been meant.
#[must_use]
pub fn closest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|&(distance, candidate)| {
            // A third of the letters may be wrong, or one is a part of the other.
            distance * 3 <= candidate.len().max(3)
                || word.contains(candidate)
                || candidate.contains(word)
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many letters to insert, remove, replace or swap with their neighbour (optimal string
/// alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
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
