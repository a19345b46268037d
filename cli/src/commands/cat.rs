//! `shoal fetch --stdout`: the bytes of one file, in order and verified, to standard output.
//!
//! Nothing lands and nothing is kept. A reader that has seen enough (`| head`) is no failure.

use std::io;

use shoal_api::{
    ApiError,
    client::{ByteStream, Part},
    types::{CatRequest, CatResult, FetchProgress},
};

use super::interruptible;
use crate::{
    app::App,
    args::FetchArgs,
    human, output,
    progress::{Bar, Waiting},
    session::{Purpose, Session},
};

pub(super) async fn run(app: &App, link: String, args: FetchArgs) -> Result<(), ApiError> {
    let request = CatRequest {
        timeout_ms: args.deadlines.timeout.millis(),
        patience_ms: args.deadlines.patience_millis(),
        link,
        only: args.only,
        peers: args.peer,
    };
    let session = Session::open(app, Purpose::Fetching, &args.without).await?;
    let copied = interruptible(app, async {
        let bytes = session.client.cat(&request).await?;
        copy(app, bytes, request.patience_ms).await
    });
    let result = copied.await;
    if let Ok(Some(result)) = &result {
        let size = human::size(result.size);
        let time = human::duration(result.elapsed_ms);
        app.output
            .note(format_args!("Wrote {size} to standard output in {time}."));
    }
    session.close().await;
    result.map(drop)
}

/// Copies all bytes to standard output; none if nobody reads them to their end.
async fn copy(
    app: &App,
    mut bytes: ByteStream<FetchProgress, CatResult>,
    patience_ms: u64,
) -> Result<Option<CatResult>, ApiError> {
    let bar = Bar::start(&app.output, "starting");
    let waiting = Waiting::new(&app.output, patience_ms);
    loop {
        match bytes.next().await? {
            Part::Bytes(bytes) => match output::bytes(bytes).await {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(None),
                Err(error) => {
                    return Err(ApiError::of_io(&error, "cannot write to standard output"));
                }
            },
            Part::Progress(progress) => {
                waiting.see(&progress);
                bar.fetch(&progress);
            }
            Part::Done(result) => return Ok(Some(result)),
        }
    }
}
