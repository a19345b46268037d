//! `shoal fetch --background`: leaves a transfer to the daemon and returns at once.

use std::pin::pin;

use shoal_api::{ApiError, ErrorCode, types::FetchRequest};
use tokio::sync::watch;

use super::{interruptible, transfers::transfer_lines};
use crate::{
    app::App,
    args::WithoutDaemon,
    session::{Purpose, Session},
};

pub(super) async fn run(app: &App, request: &FetchRequest) -> Result<(), ApiError> {
    let session = Session::open(app, Purpose::Fetching, &WithoutDaemon::never()).await;
    let session = session.map_err(|error| match error.code {
        ErrorCode::NoDaemon => error.hint(
            "only a daemon goes on when this command has ended: start one with `shoal daemon \
             --detach`, or fetch without --background",
        ),
        _ => error,
    })?;
    let (knows, mut transfer) = watch::channel(None);
    let fetching = session.client.fetch(request, |update| {
        knows.send_replace(Some(update.transfer));
    });
    let mut fetching = pin!(fetching);
    let leaving = async {
        let id = transfer.wait_for(Option::is_some).await.map(|id| *id);
        let id = id.ok().flatten().unwrap_or_default().to_string();
        // It runs on when nobody waits for it from now on.
        session.client.tell_transfer(&id, "resume").await
    };
    let left = interruptible(app, async {
        tokio::select! {
            // What is there already, or cannot be, is over before it is left.
            biased;
            left = leaving => left.map(Some),
            fetched = fetching.as_mut() => fetched.map(|_| None),
        }
    });
    let left = match left.await {
        // It was done in between.
        Err(error) if error.code == ErrorCode::NoTransfer => {
            fetching.await?;
            None
        }
        left => left?,
    };
    let transfer = match left {
        Some(left) => left,
        None => {
            let id = *transfer.borrow();
            let listed = session.client.transfers().await?.transfers;
            let found = listed.into_iter().find(|it| Some(it.id) == id);
            found.ok_or_else(|| {
                ApiError::new(ErrorCode::NoTransfer, "the transfer is not listed any more")
            })?
        }
    };
    let id = transfer.id;
    app.output.note(format_args!(
        "The daemon fetches it: `shoal transfers` shows how far it is, `shoal cancel {id}` ends it."
    ));
    app.output
        .result(&transfer, |text| transfer_lines(text, &transfer));
    Ok(())
}
