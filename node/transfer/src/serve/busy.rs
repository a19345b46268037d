//! Telling a peer that there is nothing for it now: no room for its stream, or no traffic left.

use std::{sync::Arc, time::Duration};

use shoal_net::ExchangeStream;
use shoal_protocol::exchange::{Availability, Reason, Request, Response};
use tokio::io::{AsyncWriteExt as _, BufReader};

use super::{
    news::{News, Sources},
    outgoing::Outgoing,
    wire::{Ended, Writer, encode, read_request, write, write_frames},
};

/// The whole conversation with one stream too many: one message read, three written.
pub(super) const TIMEOUT: Duration = Duration::from_secs(3);
/// When such a peer is to come back: a chunk for each of 256 streams takes 2 s on a line of
/// 1 Gbit/s.
pub(super) const ROOM_RETRY: Duration = Duration::from_secs(2);

/// Says that this node is busy, when to come back, and who else deals with the root.
pub(super) async fn say(
    news: &mut News,
    writer: &mut Writer,
    retry_after: Duration,
) -> Result<(), Ended> {
    let retry_after_ms = u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX);
    let busy = Response::status(Availability::Busy { retry_after_ms });
    let mut frames = Vec::new();
    for message in [Some(busy), news.hint_of_copies().await]
        .into_iter()
        .flatten()
    {
        encode(&message, &mut frames);
    }
    write_frames(writer, &frames).await
}

/// Answers a stream that there is no room for, as far as that takes next to no time.
pub(super) async fn turn_away(sources: &Arc<Sources>, stream: ExchangeStream) {
    let client = (stream.peer(), stream.remote_ip());
    let (reader, writer) = tokio::io::split(stream);
    let (mut reader, mut writer) = (BufReader::new(reader), Outgoing::new(writer));
    let conversation = async {
        if let Some(Request::Open { root }) = read_request(&mut reader).await? {
            let mut news = News::new(sources, root, client);
            say(&mut news, &mut writer, ROOM_RETRY).await?;
            write(&mut writer, &Response::Close(Reason::Busy)).await?;
        }
        writer.shutdown().await.map_err(|_| Ended::Lost)
    };
    // A peer that does not listen knows as much as one whose stream was reset.
    let _ = tokio::time::timeout(TIMEOUT, conversation).await;
}
