//! `shoal gc`: takes out what nothing needs, and says what that was.

use shoal_api::{
    ApiError,
    types::{Collected, GcRequest},
};

use super::interruptible;
use crate::{app::App, args::GcArgs, daemon, human, output::Text, progress::Bar};

pub(crate) async fn run(app: &App, args: GcArgs) -> Result<(), ApiError> {
    let request = GcRequest {
        dry_run: args.dry_run,
    };
    let client = daemon::connect(app).await?;
    let bar = Bar::start(&app.output, "looking");
    let collecting = client.gc(&request, |progress| bar.gc(&progress));
    let collected = interruptible(app, collecting).await?;
    drop(bar);
    app.output
        .result(&collected, |text| lines(text, &collected));
    Ok(())
}

fn lines(text: &mut Text, collected: &Collected) {
    let verb = match collected.dry_run {
        true => "would delete",
        false => "deleted",
    };
    let parts = [
        (collected.shares, "share", None),
        (collected.rows, "row", None),
        (collected.blocks, "block", Some(collected.block_bytes)),
        (collected.copies, "copy", Some(collected.copy_bytes)),
    ];
    let mut nothing = true;
    for (count, noun, bytes) in parts {
        if count > 0 {
            nothing = false;
            let bytes = bytes.map_or(String::new(), |bytes| format!(", {}", human::size(bytes)));
            text.line(format_args!("{verb} {}{bytes}", things(count, noun)));
        }
    }
    if nothing {
        text.line("nothing to delete: all index data is in use");
    }
    if !collected.dry_run {
        text.line(format_args!(
            "freed {}; the database takes {} now",
            human::size(collected.freed_bytes),
            human::size(collected.database_bytes_after),
        ));
    }
}

fn things(count: u64, noun: &str) -> String {
    match (count, noun) {
        (1, "copy") => "1 copy".to_owned(),
        (_, "copy") => format!("{count} copies"),
        _ => human::count(count, noun),
    }
}
