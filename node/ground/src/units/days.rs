//! Days of the week as the schedule lists them: `["mon-fri", "sun"]`.

use jiff::civil::Weekday;
use serde::{Deserialize, Serialize};

/// A set of days of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Days([bool; 7]);

const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl Days {
    /// Whether the day is one of them.
    #[must_use]
    pub fn contains(self, day: Weekday) -> bool {
        let index = usize::try_from(day.to_monday_zero_offset()).unwrap_or_default();
        self.0.get(index).copied().unwrap_or_default()
    }
}

impl Default for Days {
    fn default() -> Self {
        Self([true; 7])
    }
}

impl TryFrom<Vec<String>> for Days {
    type Error = String;

    fn try_from(texts: Vec<String>) -> Result<Self, Self::Error> {
        if texts.is_empty() {
            return Err("no day is listed; leave `days` out for every day".to_owned());
        }
        let mut days = [false; 7];
        for text in &texts {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (Some(first), Some(last)) = (index(first), index(last)) else {
                return Err(format!(
                    "`{text}` is no day: write mon, tue, wed, thu, fri, sat, sun, or mon-fri"
                ));
            };
            // A range may go over the end of the week: sat-mon.
            let count = (last + 7 - first) % 7;
            for day in first..=first + count {
                days[day % 7] = true;
            }
        }
        Ok(Self(days))
    }
}

impl From<Days> for Vec<String> {
    fn from(days: Days) -> Self {
        let listed = NAMES.iter().zip(days.0).filter(|(_, listed)| *listed);
        listed.map(|(name, _)| (*name).to_owned()).collect()
    }
}

fn index(name: &str) -> Option<usize> {
    let name = name.trim();
    NAMES
        .iter()
        .position(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn check(texts: &[&str], listed: &[&str]) {
        let texts: Vec<_> = texts.iter().map(|&text| text.to_owned()).collect();
        let days = Days::try_from(texts).unwrap();
        assert_eq!(Vec::<String>::from(days), listed);
    }

    #[test]
    fn days_and_ranges_are_read() {
        check(&["mon-fri"], &["mon", "tue", "wed", "thu", "fri"]);
        check(&["Sat-mon"], &["mon", "sat", "sun"]);
        check(&["sun", "wed"], &["wed", "sun"]);
        check(&["tue-tue"], &["tue"]);
        check(&["mon-sun"], &NAMES);
        assert!(Days::default().contains(Weekday::Sunday));
        let weekend = Days::try_from(vec!["sat-sun".to_owned()]).unwrap();
        assert!(weekend.contains(Weekday::Saturday) && !weekend.contains(Weekday::Monday));
    }

    #[test]
    fn what_is_no_day_is_said_so() {
        for bad in ["monday", "", "mon-", "1-5"] {
            let error = Days::try_from(vec![bad.to_owned()]).unwrap_err();
            assert!(error.contains("is no day"), "{bad}: {error}");
        }
        Days::try_from(Vec::new()).unwrap_err();
    }
}
