//! Keys that somebody waits for, and those of them that a provider was heard of.
//!
//! A peer can send provider records as fast as its line allows. What it says is remembered as a set
//! of keys that were asked for, so it costs no queue, and whoever listens is woken once for all.

use std::{collections::HashSet, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::Key;

/// Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(super) struct Heard {
    keys: Arc<Mutex<Keys>>,
    news: Arc<Notify>,
}

/// `heard` is a part of `wanted`.
#[derive(Default)]
struct Keys {
    wanted: HashSet<Key>,
    heard: HashSet<Key>,
}

impl Heard {
    /// Waits for these keys from now on, and for no others.
    pub(super) fn listen_for(&self, wanted: HashSet<Key>) {
        let mut keys = self.lock();
        keys.heard.retain(|key| wanted.contains(key));
        keys.wanted = wanted;
    }

    /// A peer says that it provides a key.
    pub(super) fn note(&self, key: &[u8]) {
        let Ok(key) = Key::try_from(key) else {
            return;
        };
        let mut keys = self.lock();
        if keys.wanted.contains(&key) && keys.heard.insert(key) {
            self.news.notify_one();
        }
    }

    /// The keys that were heard of since it was asked last, once there are any. Cancel-safe; for one
    /// listener.
    pub(super) async fn next(&self) -> HashSet<Key> {
        loop {
            let heard = std::mem::take(&mut self.lock().heard);
            if !heard.is_empty() {
                return heard;
            }
            self.news.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_is_waited_for_is_told_and_once() {
        let heard = Heard::default();
        heard.note(&[1; 32]);
        heard.listen_for(HashSet::from([[1; 32], [2; 32]]));
        for key in [&[1; 32][..], &[1; 32], &[3; 32], b"no key"] {
            heard.note(key);
        }
        assert_eq!(heard.next().await, HashSet::from([[1; 32]]));
        heard.note(&[1; 32]);
        heard.note(&[2; 32]);
        heard.listen_for(HashSet::from([[2; 32]]));
        assert_eq!(heard.next().await, HashSet::from([[2; 32]]));
    }
}
