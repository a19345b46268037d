//! What a fetch has heard of its root's marks.
//!
//! A sharer may ask that its root is not announced, or that no copies of it are kept for others. The
//! link says so, or the first provider that has something of the root, or the record of an earlier
//! run. Until one of them has spoken, what lands is not offered and so not announced; and once one
//! has asked for silence, nothing makes it louder.

use shoal_protocol::link::Marks;
use tokio::sync::watch;

/// What was heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Word {
    /// Whether somebody who knows has said anything: a link without marks is no word.
    is_spoken: bool,
    /// All marks that somebody has named.
    marks: Marks,
}

/// The word on one root, for all that work for one fetch.
#[derive(Debug)]
pub(super) struct Heard {
    word: watch::Sender<Word>,
}

impl Heard {
    /// With the marks that the link or this node's own shares have.
    pub(super) fn new(marks: Marks) -> Self {
        let word = Word {
            // Without that mark, a provider is waited for before anything is announced.
            is_spoken: marks.no_announce,
            marks,
        };
        Self {
            word: watch::Sender::new(word),
        }
    }

    /// A provider, or the record of an earlier run, says which marks the root has.
    pub(super) fn hear(&self, marks: Marks) {
        self.word.send_if_modified(|word| {
            let before = *word;
            *word = Word {
                is_spoken: true,
                marks: before.marks.with(marks),
            };
            *word != before
        });
    }

    /// All marks that somebody has named so far.
    pub(super) fn marks(&self) -> Marks {
        self.word.borrow().marks
    }

    pub(super) fn is_concealed(&self) -> bool {
        self.marks().no_announce
    }

    /// Whether somebody has said that it may be announced, and nobody that it may not.
    pub(super) fn is_open(&self) -> bool {
        let word = *self.word.borrow();
        word.is_spoken && !word.marks.no_announce
    }

    /// Waits until somebody has spoken. Cancel-safe.
    pub(super) async fn spoken(&self) {
        self.until(|word| word.is_spoken).await;
    }

    /// Waits until a mark is known beside these, and returns all. Cancel-safe.
    pub(super) async fn marked_beyond(&self, known: Marks) -> Marks {
        self.until(|word| known.with(word.marks) != known).await;
        known.with(self.marks())
    }

    async fn until(&self, is_so: impl Fn(&Word) -> bool) {
        // The sender is this one's.
        let _ = self.word.subscribe().wait_for(is_so).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Marks = Marks {
        no_announce: false,
        no_replicate: false,
    };
    const CONCEALED: Marks = Marks {
        no_announce: true,
        ..OPEN
    };
    const UNIQUE: Marks = Marks {
        no_replicate: true,
        ..OPEN
    };

    #[test]
    fn who_asks_for_silence_has_the_last_word() {
        let check = |link, said: &[Marks], expected| {
            let heard = Heard::new(link);
            said.iter().for_each(|marks| heard.hear(*marks));
            let found = (heard.is_open(), heard.is_concealed());
            assert_eq!(found, expected, "{link:?}, {said:?}");
        };
        check(OPEN, &[], (false, false));
        check(OPEN, &[OPEN], (true, false));
        check(OPEN, &[OPEN, CONCEALED], (false, true));
        check(OPEN, &[CONCEALED, OPEN], (false, true));
        check(CONCEALED, &[], (false, true));
        check(CONCEALED, &[OPEN], (false, true));
        check(UNIQUE, &[], (false, false));
        check(UNIQUE, &[OPEN], (true, false));
    }

    #[tokio::test]
    async fn each_mark_stays_whoever_says_otherwise() {
        let heard = Heard::new(UNIQUE);
        heard.hear(OPEN);
        assert_eq!(heard.marks(), UNIQUE);
        let waiting = heard.marked_beyond(UNIQUE);
        heard.hear(CONCEALED);
        let both = waiting.await;
        assert_eq!(both, UNIQUE.with(CONCEALED));
        assert!(!both.may_replicate() && !CONCEALED.may_replicate() && OPEN.may_replicate());
        heard.hear(OPEN);
        assert_eq!(heard.marks(), both);
    }
}
