//! What `shoal share` does once it has shared: it serves, itself or by the node that it works through,
//! shows who fetches, and ends when the person says so or when the share has ended.

use std::{cell::RefCell, collections::HashSet, time::Duration};

use shoal_api::{ApiError, ErrorCode, client::Client, types::Audience};
use tokio::time::sleep;

use crate::{
    app::App,
    args::WithoutDaemon,
    human,
    output::Output,
    progress::Bar,
    session::{Purpose, Session},
};

/// Between two looks at the share.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// How a look at the share went.
enum Look {
    /// The node says that it is not shared any more, and why.
    Ended(String),
    /// The node does not answer.
    Lost,
}

/// Serves the share of this root until it ends, Ctrl-C, or a request to stop; the session that it was
/// served by last, to be closed.
///
/// # Errors
/// When the node that served it is gone and this process cannot take its place.
pub(super) async fn serve(
    app: &App,
    mut session: Session,
    cid: &str,
    (without, with_bar): (&WithoutDaemon, bool),
) -> Result<Session, ApiError> {
    let audience = Shown::new(&app.output, with_bar);
    loop {
        let look = tokio::select! {
            biased;
            () = app.interrupt.cancelled() => return Ok(session),
            () = session.stop_requested() => return Ok(session),
            look = watch(&session.client, cid, &audience) => look,
        };
        audience.clear();
        match look {
            Look::Ended(why) => {
                app.output.note(format_args!("{}.", capitalised(&why)));
                return Ok(session);
            }
            Look::Lost if session.is_foreground() => return Ok(session),
            Look::Lost => session = session.again(app, Purpose::Serving, without).await?,
        }
    }
}

/// Looks at the share until there is no more to see.
async fn watch(client: &Client, cid: &str, shown: &Shown) -> Look {
    loop {
        match client.shared(cid).await {
            Ok(shared) => shown.see(&shared.share.audience),
            Err(error) if error.code == ErrorCode::NotShared => {
                let why = error.message.split_once("any more: ");
                let why = why.map_or("it is not shared any more", |(_, why)| why);
                return Look::Ended(format!("sharing has ended: {}", human::escape(why)));
            }
            Err(_) => return Look::Lost,
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// Who fetches, as far as it is on the screen.
struct Shown {
    output: Output,
    with_bar: bool,
    bar: RefCell<Option<Bar>>,
    complete: RefCell<Option<HashSet<String>>>,
}

impl Shown {
    fn new(output: &Output, with_bar: bool) -> Self {
        Self {
            output: *output,
            with_bar,
            bar: RefCell::default(),
            complete: RefCell::default(),
        }
    }

    fn see(&self, audience: &Audience) {
        let complete = audience.peers.iter().filter(|peer| peer.complete);
        let complete: HashSet<String> = complete.map(|peer| peer.peer_id.to_string()).collect();
        // What was so before this command is no news.
        let before = self.complete.replace(Some(complete.clone()));
        if let Some(before) = before {
            for peer in complete.difference(&before) {
                self.clear();
                self.output.note(format_args!("{peer} has all of it."));
            }
        }
        if !self.with_bar || audience.sent_bytes == 0 {
            return;
        }
        let mut bar = self.bar.borrow_mut();
        let bar = bar.get_or_insert_with(|| Bar::start(&self.output, "serving"));
        bar.audience(audience);
    }

    fn clear(&self) {
        self.bar.borrow_mut().take();
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}
