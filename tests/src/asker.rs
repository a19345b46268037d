//! A stranger that opens a root on a node and asks for blocks, as any peer may.

use std::{io, time::Duration};

use shoal_net::{ExchangeStream, Net};
use shoal_protocol::{
    address::{Cid, Digest},
    exchange::{self, Availability, Event, FrameDecoder, Request, Response, WANTS_PER_MESSAGE_MAX},
    link::Marks,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime::Runtime,
    time::timeout,
};

use crate::{DEADLINE, peer::start_alone};

/// A running stranger; it ends when dropped.
pub struct Asker {
    net: Net,
    runtime: Runtime,
}

/// What a node answered.
#[derive(Debug, Default)]
pub struct Asked {
    /// What it says that it has of the root, in its own order.
    pub has: Vec<Availability>,
    /// The marks that it said last.
    pub marks: Marks,
    /// Which of the blocks it sent: whole ones, which are what they should be.
    pub sent: Vec<Digest>,
    /// How many blocks it sent that are not what they should be.
    pub wrong: usize,
}

impl Asker {
    /// Starts a stranger that knows nobody.
    #[must_use]
    pub fn start() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let (net, _incoming) = start_alone(&runtime);
        Self { net, runtime }
    }

    /// Asks the node at an address for blocks, on a stream of `root`.
    ///
    /// # Panics
    /// When the node does not answer.
    #[must_use]
    pub fn ask(&self, address: &str, root: &Cid, blocks: &[Digest]) -> Asked {
        let asking = async {
            let address = address.parse().expect("an address");
            let peer = self.net.connect(address).await.expect("a connection");
            let mut stream = self.net.open_exchange(peer).await.expect("a stream");
            let mut asked = Asked::default();
            // What was answered before the stream broke counts.
            let _ = converse(&mut stream, root, blocks, &mut asked).await;
            asked
        };
        let within: Duration = DEADLINE;
        let asked = self
            .runtime
            .block_on(async { timeout(within, asking).await });
        let asked = asked.expect("the node answers");
        assert!(!asked.has.is_empty(), "no status: {asked:?}");
        asked
    }
}

async fn converse(
    stream: &mut ExchangeStream,
    root: &Cid,
    blocks: &[Digest],
    asked: &mut Asked,
) -> io::Result<()> {
    let mut frames = Vec::new();
    let open = Request::Open { root: root.clone() };
    exchange::encode(&open, &mut frames).map_err(io::Error::other)?;
    for (at, wants) in blocks.chunks(WANTS_PER_MESSAGE_MAX).enumerate() {
        let want = Request::Want {
            id: u32::try_from(at * WANTS_PER_MESSAGE_MAX).map_err(io::Error::other)?,
            blocks: wants.to_vec().try_into().map_err(io::Error::other)?,
        };
        exchange::encode(&want, &mut frames).map_err(io::Error::other)?;
    }
    exchange::encode(&Request::Close, &mut frames).map_err(io::Error::other)?;
    stream.write_all(&frames).await?;
    stream.flush().await?;
    let mut decoder = FrameDecoder::<Response>::default();
    let mut payload = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let mut input = buffer.get(..count).unwrap_or_default();
        while let Some(event) = decoder.next(&mut input).map_err(io::Error::other)? {
            match event {
                Event::Message(Response::Status {
                    availability,
                    marks,
                }) => {
                    asked.has.push(availability);
                    asked.marks = marks;
                }
                Event::Message(Response::Close(_)) => return Ok(()),
                Event::Message(_) | Event::Cut { .. } => payload.clear(),
                Event::Payload { id, bytes, last } => {
                    payload.extend_from_slice(bytes);
                    let want = usize::try_from(id).ok().and_then(|id| blocks.get(id));
                    match want {
                        Some(want) if last && want.matches(&payload) => asked.sent.push(*want),
                        _ => asked.wrong += usize::from(last),
                    }
                }
            }
        }
    }
}
