//! Which shares are in doubt, and to be looked at again.
//!
//! A reader that comes across a stat that does not vouch says so here, and so does a peer that asks
//! for a share that was found changed: its files may have been put back. Who looks is told by
//! [`LibraryEvent::Doubted`], once until a sweep begins.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use shoal_protocol::address::Cid;
use tokio::sync::watch;

use super::{Library, LibraryEvent, LibraryInner};
use crate::rows::{ShareId, ShareRecord, ShareState};

/// A changed share is looked at again when a peer asks for it, this long after the last look at the
/// least.
const AGAIN_INTERVAL: Duration = Duration::from_secs(1);

/// The least pause after a look, in lengths of that look: peers that ask again and again take 5% of
/// a thread's time.
const AGAIN_LOOKS: u32 = 20;

/// The shares in doubt. As many as there are shares.
#[derive(Default)]
pub(super) struct Doubts {
    state: Mutex<State>,
    /// How many sweeps have ended.
    swept: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    doubted: HashSet<ShareId>,
    /// Whether it is because of a doubt.
    sweeping: HashMap<ShareId, bool>,
    /// When a changed share may be looked at again because somebody asks.
    not_before: HashMap<ShareId, Instant>,
}

/// A sweep in progress over one share, until this is dropped.
pub(super) struct Sweeping<'a> {
    doubts: &'a Doubts,
    share: ShareId,
    began: Instant,
}

impl Doubts {
    /// Takes note of a doubt; false when it is known.
    fn add(&self, share: ShareId) -> bool {
        self.lock().doubted.insert(share)
    }

    /// A sweep begins. What is doubted from now on is to be looked at once more.
    pub(super) fn sweep(&self, share: ShareId) -> Sweeping<'_> {
        let mut state = self.lock();
        let doubted = state.doubted.remove(&share);
        state.sweeping.insert(share, doubted);
        Sweeping {
            doubts: self,
            share,
            began: Instant::now(),
        }
    }

    /// The share is gone.
    pub(super) fn forget(&self, share: ShareId) {
        let mut state = self.lock();
        state.doubted.remove(&share);
        state.not_before.remove(&share);
    }

    fn is_settled(&self, share: ShareId) -> bool {
        let state = self.lock();
        !state.doubted.contains(&share) && !state.sweeping.contains_key(&share)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl Drop for Sweeping<'_> {
    fn drop(&mut self) {
        let pause = self.began.elapsed().saturating_mul(AGAIN_LOOKS);
        let again = Instant::now() + pause.max(AGAIN_INTERVAL);
        {
            let mut state = self.doubts.lock();
            state.sweeping.remove(&self.share);
            state.not_before.insert(self.share, again);
        }
        self.doubts.swept.send_modify(|swept| *swept += 1);
    }
}

impl Library {
    /// Whether a share is to be looked at because its files are in doubt.
    #[must_use]
    pub fn is_doubted(&self, share: ShareId) -> bool {
        self.inner.doubts.lock().doubted.contains(&share)
    }

    /// Whether it is not known if the files of a share are as they were: a look at them is due, or under
    /// way because of a doubt.
    #[must_use]
    pub fn is_in_doubt(&self, share: ShareId) -> bool {
        let state = self.inner.doubts.lock();
        state.doubted.contains(&share) || state.sweeping.get(&share) == Some(&true)
    }

    /// Has the changed shares of a root looked at again, for somebody asks for it, and waits at most
    /// `patience` for what comes of that and of doubts there are: what is said afterwards is true of the
    /// files as they are now. Cancel-safe.
    pub async fn look_again(&self, root: &Cid, patience: Duration) {
        let mut swept = self.inner.doubts.swept.subscribe();
        let is_changed = |share: &ShareRecord| matches!(share.state, ShareState::Changed(_));
        let mut unsettled = self.shares_of(root);
        unsettled.retain(|share| match is_changed(share) {
            true => !share.has_damaged_index(),
            false => self.is_in_doubt(share.id),
        });
        for share in unsettled.iter().filter(|share| is_changed(share)) {
            let not_before = self.inner.doubts.lock().not_before.get(&share.id).copied();
            if not_before.is_none_or(|it| it <= Instant::now()) {
                self.inner.doubt(share);
            }
        }
        if unsettled.is_empty() {
            return;
        }
        let settled = |_: &u64| {
            let ids = unsettled.iter().map(|share| share.id);
            ids.into_iter().all(|id| self.inner.doubts.is_settled(id))
        };
        let settling = swept.wait_for(settled);
        // What takes longer is known to whoever asks later.
        let _ = tokio::time::timeout(patience, settling).await;
    }
}

impl LibraryInner {
    /// Has a share looked at again, unless that was said already.
    pub(super) fn doubt(&self, share: &Arc<ShareRecord>) {
        if share.is_listed() && self.doubts.add(share.id) {
            self.tell(LibraryEvent::Doubted(Arc::clone(share)));
        }
    }
}
