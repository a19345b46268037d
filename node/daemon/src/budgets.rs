//! The budgets in the words of the API.

use shoal_api::{ApiError, types as api};
use shoal_ground::units::Rate;
use shoal_transfer::limits::{Change, Changes, InForce, Origin};

use super::{NodeHandle, errors::IntoApi};

/// From this part of the month's budget on, in percent, a person is warned.
const WARN_PERCENT: u128 = 90;

impl NodeHandle {
    /// The limits in force and their use.
    pub(super) fn limits_now(&self) -> api::Limits {
        let standing = self.inner.limits.standing();
        let (up, down) = self.inner.rates.current();
        let monthly = standing.monthly;
        api::Limits {
            up: rate_limit(standing.up, up),
            down: rate_limit(standing.down, down),
            monthly: api::MonthlyLimit {
                limit: monthly.limit,
                bytes: monthly.limit.bytes(),
                source: source(monthly.origin),
                up: standing.used.0,
                down: standing.used.1,
                since: standing.since,
                resets: standing.resets,
                spent: standing.spent,
            },
        }
    }

    /// Changes limits and says what holds then.
    pub(super) async fn limits_change(
        &self,
        change: api::LimitsChange,
    ) -> Result<api::Limits, ApiError> {
        let changes = Changes {
            up: change_of(change.up),
            down: change_of(change.down),
            monthly: change_of(change.monthly),
        };
        self.inner
            .limits
            .change(changes)
            .await
            .map_err(IntoApi::into_api)?;
        Ok(self.limits_now())
    }
}

/// What a person should know about the month's budget.
pub(super) fn warning(limits: &api::Limits) -> Option<String> {
    let monthly = &limits.monthly;
    let cap = monthly.bytes?;
    let used = monthly.up.saturating_add(monthly.down);
    let (limit, resets) = (monthly.limit, monthly.resets);
    if monthly.spent {
        return Some(format!(
            "the month's budget of {limit} is used up: nothing is served or fetched until {resets}; \
             raise it with `shoal limits --monthly SIZE`"
        ));
    }
    let percent = u128::from(used) * 100 / u128::from(cap.max(1));
    (percent >= WARN_PERCENT).then(|| {
        format!("{percent}% of the month's budget of {limit} is used; it begins anew on {resets}")
    })
}

fn rate_limit(limit: InForce<Rate>, rate: u64) -> api::RateLimit {
    api::RateLimit {
        limit: limit.limit,
        bytes_per_second: limit.limit.bytes_per_second(),
        source: source(limit.origin),
        rate,
    }
}

fn source(origin: Origin) -> api::LimitSource {
    match origin {
        Origin::Default => api::LimitSource::Default,
        Origin::Configuration => api::LimitSource::Configuration,
        Origin::Schedule => api::LimitSource::Schedule,
        Origin::Flag => api::LimitSource::Flag,
        Origin::Live => api::LimitSource::Live,
    }
}

fn change_of<T>(field: Option<Option<T>>) -> Change<T> {
    match field {
        None => Change::Keep,
        Some(None) => Change::Forget,
        Some(Some(limit)) => Change::Set(limit),
    }
}
