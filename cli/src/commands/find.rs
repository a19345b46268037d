//! `shoal find`: who provides a link, how complete, how far away.

use shoal_api::{
    ApiError,
    types::{FindRequest, Provider},
};

use super::{given, interruptible};
use crate::{app::App, args::FindArgs, daemon, human, output::Text, progress::Bar};

pub(crate) async fn run(app: &App, args: FindArgs) -> Result<(), ApiError> {
    let request = FindRequest {
        timeout_ms: args.timeout.millis(),
        link: given::link(app, &args.link)?,
    };
    let client = daemon::connect(app).await?;
    let bar = Bar::start(&app.output, "looking for providers");
    let found = interruptible(app, client.find(&request, |progress| bar.find(&progress))).await?;
    drop(bar);
    app.output.result(&found, |text| {
        for provider in &found.providers {
            lines(text, provider);
        }
    });
    let providers = human::count(found.providers.len() as u64, "provider");
    let asked = human::count(found.asked.into(), "peer");
    app.output.note(format_args!("{providers}, asked {asked}"));
    Ok(())
}

fn lines(text: &mut Text, provider: &Provider) {
    text.line(text.bold(provider.peer));
    let has = match (provider.complete, provider.ranges.as_slice()) {
        (Some(true), _) => "has all of it".to_owned(),
        (Some(false), ranges) => {
            let leaves = ranges
                .iter()
                .map(|(start, end)| end.saturating_sub(*start))
                .sum();
            format!("has {} of it", human::count(leaves, "chunk"))
        }
        (None, _) => "has not answered".to_owned(),
    };
    let far = human::distance(provider.rtt_ms, provider.nearness);
    text.line(format_args!("  {has}{far}"));
    for address in &provider.addresses {
        text.line(format_args!("  {}", text.dim(address)));
    }
}
