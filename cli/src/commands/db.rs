//! `shoal db`: the database of a home that no daemon runs on.

use std::{path::PathBuf, process::ExitCode};

use serde::Serialize;
use shoal_api::{
    ApiError, ErrorCode,
    types::{DatabaseState, LostShare},
};
use shoal_node::HomeChecked;

use crate::{app::App, args::DbCheckArgs, human, output::Text};

/// What `shoal db check` prints as JSON.
#[derive(Debug, Serialize)]
struct Checked {
    state: DatabaseState,
    shares: u64,
    damaged_shares: Vec<String>,
    lost: Vec<LostShare>,
    damage: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<Repaired>,
}

/// What a repair did.
#[derive(Debug, Serialize)]
struct Repaired {
    shares: u64,
    left_out: Vec<String>,
    tables: Vec<&'static str>,
    kept: PathBuf,
}

pub(crate) async fn check(app: &App, args: &DbCheckArgs) -> Result<ExitCode, ApiError> {
    let (home, repair) = (app.home.clone(), args.repair);
    if !home.exists() {
        let message = format!("there is no home at {}", human::path(&home));
        return Err(ApiError::new(ErrorCode::PathNotFound, message)
            .hint("name the home with --home or SHOAL_HOME"));
    }
    let checking = tokio::task::spawn_blocking(move || shoal_node::check_home(&home, repair));
    let checked = checking.await.map_err(|panic| {
        ApiError::new(ErrorCode::Internal, format!("the check failed: {panic}"))
    })??;
    let checked = Checked::from(checked);
    Ok(match problem(&checked) {
        None => {
            app.output.result(&checked, |text| lines(text, &checked));
            ExitCode::SUCCESS
        }
        Some(error) => app
            .output
            .failed_result(&checked, &error, |text| lines(text, &checked)),
    })
}

impl From<HomeChecked> for Checked {
    fn from(checked: HomeChecked) -> Self {
        Self {
            state: checked.database.state,
            shares: checked.shares,
            damaged_shares: checked.damaged_shares,
            lost: checked.database.lost,
            damage: checked.database.damage,
            repaired: checked.repaired.map(|repaired| Repaired {
                shares: repaired.shares,
                left_out: repaired.left_out,
                tables: repaired.tables,
                kept: repaired.kept,
            }),
        }
    }
}

/// The failure that the command ends with: damage, unless it was repaired as far as it can be.
fn problem(checked: &Checked) -> Option<ApiError> {
    let error = |message: String| ApiError::new(ErrorCode::Integrity, message);
    let is_readable = checked.damage.is_empty() && checked.damaged_shares.is_empty();
    if !is_readable {
        return Some(
            error("not all of the database can be read".to_owned()).hint(
                "run `shoal db check --repair`: it keeps what can be read and says what is lost",
            ),
        );
    }
    if checked.lost.is_empty() || checked.repaired.is_some() {
        return None;
    }
    let lost = human::count(checked.lost.len() as u64, "share");
    Some(
        error(format!("the database lacks {lost} that it had")).hint(
            "share the paths again with `shoal share`, or forget them with `shoal unshare CID`",
        ),
    )
}

fn lines(text: &mut Text, checked: &Checked) {
    let shares = human::count(checked.shares, "share");
    text.line(format_args!("{shares} can be read"));
    if let Some(repaired) = &checked.repaired {
        let taken = repaired.shares;
        text.line(format_args!(
            "repaired: {taken} shares and unfinished fetches were taken along"
        ));
        let kept = human::path(&repaired.kept);
        text.line(format_args!("the damaged database is kept in {kept}"));
        for name in &repaired.left_out {
            text.line(format_args!("not taken along: {}", human::escape(name)));
        }
        for table in &repaired.tables {
            text.line(format_args!("some rows were lost of the table {table}"));
        }
    }
    for name in &checked.damaged_shares {
        let alert = text.alert("damaged");
        text.line(format_args!("{alert}  {}", human::escape(name)));
    }
    for damage in &checked.damage {
        let alert = text.alert("damaged");
        text.line(format_args!("{alert}  {}", human::escape(damage)));
    }
    for share in &checked.lost {
        let alert = text.alert("lost");
        let paths: Vec<String> = share.paths.iter().map(|path| human::path(path)).collect();
        let name = human::escape(&share.name);
        text.line(format_args!("{alert}  {name}: {}", paths.join(", ")));
    }
}
