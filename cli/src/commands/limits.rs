//! `shoal limits`: shows the budgets of the running node and their use, or changes them.

use shoal_api::{
    ApiError,
    types::{LimitSource, Limits, LimitsChange, MonthlyLimit, RateLimit},
};

use super::interruptible;
use crate::{app::App, args::LimitsArgs, daemon, human, output::Text};

pub(crate) async fn run(app: &App, args: LimitsArgs) -> Result<(), ApiError> {
    if let (Some(transfer), Some(down)) = (&args.transfer, args.down) {
        return super::transfers::limit(app, transfer, down).await;
    }
    let client = daemon::connect(app).await?;
    let change = change(&args);
    let limits = interruptible(app, async {
        if change == LimitsChange::default() {
            client.limits().await
        } else {
            client.change_limits(&change).await
        }
    })
    .await?;
    app.output.result(&limits, |text| lines(text, &limits));
    Ok(())
}

fn change(args: &LimitsArgs) -> LimitsChange {
    if args.reset {
        return LimitsChange {
            up: Some(None),
            down: Some(None),
            monthly: Some(None),
        };
    }
    LimitsChange {
        up: args.up.map(Some),
        down: args.down.map(Some),
        monthly: args.monthly.map(Some),
    }
}

fn lines(text: &mut Text, limits: &Limits) {
    rate_line(text, "up", &limits.up);
    rate_line(text, "down", &limits.down);
    monthly_lines(text, &limits.monthly);
}

fn rate_line(text: &mut Text, name: &str, limit: &RateLimit) {
    let now = human::size(limit.rate);
    let of = limit.bytes_per_second.map_or(String::new(), |allowed| {
        format!(" of {}/s", human::size(allowed))
    });
    let source = text.dim(source(limit.source));
    let limit = text.bold(limit.limit);
    text.line(format_args!("{name:9}  {limit}, now {now}/s{of}{source}"));
}

fn monthly_lines(text: &mut Text, limit: &MonthlyLimit) {
    let used = limit.up.saturating_add(limit.down);
    let left = match limit.bytes {
        Some(_) if limit.spent => {
            format!(
                ", {}",
                text.alert("used up: nothing is sent or received until it begins anew")
            )
        }
        Some(cap) => format!(", {} left", human::size(cap.saturating_sub(used))),
        None => String::new(),
    };
    let source = text.dim(source(limit.source));
    let name = text.bold(limit.limit);
    text.line(format_args!("monthly    {name}{left}{source}"));
    text.line(format_args!(
        "used       {} since {}: {} sent, {} received; begins anew on {}",
        human::size(used),
        limit.since,
        human::size(limit.up),
        human::size(limit.down),
        limit.resets,
    ));
}

fn source(source: LimitSource) -> &'static str {
    match source {
        LimitSource::Default => "",
        LimitSource::Configuration => " (configuration)",
        LimitSource::Schedule => " (schedule)",
        LimitSource::Flag => " (set at start)",
        LimitSource::Live => " (set by `shoal limits`)",
    }
}
