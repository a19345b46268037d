//! What a fetch has heard of its root's marks.
//!
//! A sharer may ask that its root is not announced. The link says so, or the first provider that has
//! something of the root, or the record of an earlier run. Until one of them has spoken, what lands
//! is not offered and so not announced; and once one has asked for silence, nothing makes it louder.

use tokio::sync::watch;

/// What was heard last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Word {
    /// Nobody has said anything.
    #[default]
    Unheard,
    /// It may be announced.
    Open,
    /// It may not, and the DHT is not asked for it.
    Concealed,
}

/// The word on one root, for all that work for one fetch.
#[derive(Debug)]
pub(super) struct Heard {
    word: watch::Sender<Word>,
}

impl Heard {
    /// With `is_concealed`, the link or this node's own shares have said it already.
    pub(super) fn new(is_concealed: bool) -> Self {
        let heard = Self {
            word: watch::Sender::default(),
        };
        if is_concealed {
            heard.hear(true);
        }
        heard
    }

    /// A provider, or the record of an earlier run, says whether the root is not to be announced.
    pub(super) fn hear(&self, no_announce: bool) {
        self.word.send_if_modified(|word| {
            let before = *word;
            *word = match (before, no_announce) {
                (_, true) | (Word::Concealed, _) => Word::Concealed,
                (_, false) => Word::Open,
            };
            *word != before
        });
    }

    pub(super) fn is_concealed(&self) -> bool {
        *self.word.borrow() == Word::Concealed
    }

    /// Whether somebody has said that it may be announced, and nobody that it may not.
    pub(super) fn is_open(&self) -> bool {
        *self.word.borrow() == Word::Open
    }

    /// Waits until somebody has spoken. Cancel-safe.
    pub(super) async fn spoken(&self) {
        // The sender is this one's.
        let _ = self
            .word
            .subscribe()
            .wait_for(|word| *word != Word::Unheard)
            .await;
    }

    /// Waits until it is known that the root is not to be announced. Cancel-safe.
    pub(super) async fn concealed(&self) {
        let _ = self
            .word
            .subscribe()
            .wait_for(|word| *word == Word::Concealed)
            .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_silence_has_the_last_word() {
        let check = |is_concealed, said: &[bool], expected| {
            let heard = Heard::new(is_concealed);
            said.iter().for_each(|no_announce| heard.hear(*no_announce));
            let found = (heard.is_open(), heard.is_concealed());
            assert_eq!(found, expected, "{is_concealed}, {said:?}");
        };
        check(false, &[], (false, false));
        check(false, &[false], (true, false));
        check(false, &[false, true], (false, true));
        check(false, &[true, false], (false, true));
        check(true, &[], (false, true));
        check(true, &[false], (false, true));
    }
}
