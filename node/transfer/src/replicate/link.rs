//! Our stream to one peer: what this node asks, offers and tells there.
//!
//! A link is opened when it is needed and kept while the connection lives. It has at most
//! [`OPEN_MAX`] questions without an answer; one more is refused. A question that has no answer after
//! [`DEADLINE`] has none. The task of a link ends with its stream, with the node, or when the link is
//! dropped.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::PeerId;
use parking_lot::{Mutex, MutexGuard};
use shoal_ground::deadline::within;
use shoal_protocol::{
    exchange::List,
    replicate::{Answer, HELD_MAX, Held, Hello, Key, Offer, Reply, Request, Response, Saying},
};
use tokio::sync::{mpsc, oneshot};

use super::{
    ReplicatorInner,
    talk::{self, DEADLINE, Ear, Ended, Mouth},
};

/// Questions without an answer on one stream.
const OPEN_MAX: usize = 16;

/// What waits to be said on one stream: as many questions, and as much to tell.
const QUEUED_MAX: usize = 2 * OPEN_MAX;

/// Between two tellings of what is held: as often as a peer may tell.
const HOLDS_APART: Duration = Duration::from_millis(250);

/// Answers to nothing that a peer may send: some come after their deadline.
const STRAY_MAX: usize = 64;

/// The handle to a stream; its task ends when it is dropped.
#[derive(Clone, Debug)]
pub(super) struct Link {
    words: mpsc::Sender<Word>,
}

/// What is to be said.
#[derive(Debug)]
pub(super) enum Word {
    Hello(Hello),
    Ask {
        key: Key,
        stays: bool,
        answer: oneshot::Sender<Answer>,
    },
    Offer {
        /// Its id is set when it is sent.
        offer: Box<Offer>,
        reply: oneshot::Sender<Reply>,
    },
    Hold(List<Held, HELD_MAX>),
}

/// Who waits for an answer.
enum Waiting {
    Answer(oneshot::Sender<Answer>),
    Reply(oneshot::Sender<Reply>),
}

impl Link {
    /// Asks about a key; none without an answer in time.
    pub(super) async fn ask(&self, key: Key, stays: bool) -> Option<Answer> {
        let (answer, answered) = oneshot::channel();
        self.say(Word::Ask { key, stays, answer }).then_some(())?;
        within(DEADLINE, answered).await?.ok()
    }

    /// Offers a root; none without a reply in time.
    pub(super) async fn offer(&self, offer: Offer) -> Option<Reply> {
        let (reply, replied) = oneshot::channel();
        let offer = Box::new(offer);
        self.say(Word::Offer { offer, reply }).then_some(())?;
        within(DEADLINE, replied).await?.ok()
    }

    /// Has something said; false where too much waits, or the stream has ended.
    pub(super) fn say(&self, word: Word) -> bool {
        self.words.try_send(word).is_ok()
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.words.same_channel(&other.words)
    }

    pub(super) fn is_open(&self) -> bool {
        !self.words.is_closed()
    }
}

/// A link to a peer, whose task is still to be run.
pub(super) fn link(
    inner: &Arc<ReplicatorInner>,
    peer: PeerId,
) -> (Link, impl Future<Output = ()> + use<>) {
    let (words, inbox) = mpsc::channel(QUEUED_MAX);
    let link = Link { words };
    let talker = Talker {
        inner: Arc::clone(inner),
        peer,
        open: Mutex::default(),
    };
    let itself = link.words.downgrade();
    let running = async move {
        let ended = talker
            .inner
            .shutdown
            .run_until_cancelled(talker.run(inbox))
            .await;
        if let Some(Err(ended)) = ended {
            tracing::debug!(%peer, %ended, "a stream about replicas has ended");
        }
        let words = itself.upgrade();
        talker
            .inner
            .link_ended(&peer, words.map(|words| Link { words }).as_ref());
    };
    (link, running)
}

/// What works on one stream.
struct Talker {
    inner: Arc<ReplicatorInner>,
    peer: PeerId,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    waiting: HashMap<u32, (Waiting, Instant)>,
    next_id: u32,
}

impl Talker {
    async fn run(&self, mut inbox: mpsc::Receiver<Word>) -> Result<(), Ended> {
        let opening = self.inner.net.open_replicate(self.peer);
        let stream = within(DEADLINE, opening).await.ok_or(Ended::TooSlow)?;
        let stream = stream.map_err(|error| Ended::Protocol(error.to_string()))?;
        let (mut ear, mut mouth) = talk::both(stream);
        let hello = self.inner.hello(self.peer).await;
        mouth.say(&Request::Hello(hello)).await?;
        // Neither half waits for the other, and none is dropped in the middle of a message unless
        // the stream is over.
        tokio::select! {
            ended = self.hear(&mut ear) => ended,
            ended = self.speak(&mut mouth, &mut inbox) => ended,
        }
    }

    async fn speak(
        &self,
        mouth: &mut Mouth<Request>,
        inbox: &mut mpsc::Receiver<Word>,
    ) -> Result<(), Ended> {
        let mut holds = VecDeque::new();
        let mut hold_at = tokio::time::Instant::now();
        loop {
            let word = tokio::select! {
                word = inbox.recv(), if holds.len() < QUEUED_MAX => word.ok_or(Ended::Dropped)?,
                () = tokio::time::sleep_until(hold_at), if !holds.is_empty() => {
                    if let Some(held) = holds.pop_front() {
                        hold_at = tokio::time::Instant::now() + HOLDS_APART;
                        mouth.say(&Request::Holding { held }).await?;
                    }
                    continue;
                }
            };
            match word {
                Word::Hold(held) => holds.push_back(held),
                word => {
                    if let Some(request) = self.request(word) {
                        mouth.say(&request).await?;
                    }
                }
            }
        }
    }

    /// The message of a word; none where too many questions are open.
    fn request(&self, word: Word) -> Option<Request> {
        match word {
            Word::Hello(hello) => Some(Request::Hello(hello)),
            Word::Ask { key, stays, answer } => {
                let id = self.lock().begin(Waiting::Answer(answer))?;
                Some(Request::Ask { id, key, stays })
            }
            Word::Offer { mut offer, reply } => {
                offer.id = self.lock().begin(Waiting::Reply(reply))?;
                Some(Request::Offer(*offer))
            }
            Word::Hold(held) => Some(Request::Holding { held }),
        }
    }

    async fn hear(&self, ear: &mut Ear<Response>) -> Result<(), Ended> {
        let (mut strays, mut is_greeted) = (0, false);
        loop {
            let response = ear.next().await?;
            if !is_greeted && !matches!(response, Response::Hello(_)) {
                return Err(Ended::Protocol("it does not greet first".to_owned()));
            }
            let is_awaited = match response {
                Response::Hello(hello) => {
                    // The first one answers ours.
                    if !is_greeted || self.inner.may_say(&self.peer, Saying::Hello)? {
                        self.inner.greeted(self.peer, &hello);
                    }
                    is_greeted = true;
                    true
                }
                Response::Answer { id, answer } => match self.lock().end(id) {
                    Some(Waiting::Answer(waiting)) => {
                        // Nobody has to wait for it any more.
                        let _ = waiting.send(answer);
                        true
                    }
                    _ => false,
                },
                Response::Reply { id, reply } => match self.lock().end(id) {
                    Some(Waiting::Reply(waiting)) => {
                        let _ = waiting.send(reply);
                        true
                    }
                    _ => false,
                },
                Response::Tell { key, .. } => {
                    if self.inner.may_say(&self.peer, Saying::Holding)? {
                        self.inner.tell(&self.peer, key);
                    }
                    true
                }
            };
            strays += usize::from(!is_awaited);
            if strays > STRAY_MAX {
                return Err(Ended::Protocol("it answers what nobody asked".to_owned()));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock()
    }
}

impl Open {
    fn begin(&mut self, waiting: Waiting) -> Option<u32> {
        // Who waits hears of it when the entry goes.
        self.waiting
            .retain(|_, (waiting, since)| since.elapsed() < DEADLINE && !waiting.is_given_up());
        if self.waiting.len() >= OPEN_MAX {
            return None;
        }
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        self.waiting.insert(id, (waiting, Instant::now()));
        Some(id)
    }

    fn end(&mut self, id: u32) -> Option<Waiting> {
        self.waiting.remove(&id).map(|(waiting, _)| waiting)
    }
}

impl Waiting {
    fn is_given_up(&self) -> bool {
        match self {
            Self::Answer(sender) => sender.is_closed(),
            Self::Reply(sender) => sender.is_closed(),
        }
    }
}
