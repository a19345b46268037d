//! What a meter says, against the truth, in virtual time.

use proptest::prelude::*;

use super::*;

/// How often a transfer looks at its counter.
const LOOK: Duration = Duration::from_millis(250);
/// From a change on, the meter has so long to find out.
const GRACE: Duration = Duration::from_secs(10);

/// A line that brings lumps of bytes, and a meter that looks at what it brought.
struct Line {
    now: Duration,
    start: Instant,
    lump: u64,
    /// Bytes that are due, as a fraction of the lump that comes next.
    due: f64,
    total: u64,
    meter: Meter,
}

impl Line {
    /// A line that brings `lump` bytes at a time, of a counter that stood at `resumed`.
    fn new(lump: u64, resumed: u64) -> Self {
        let mut line = Self {
            now: Duration::ZERO,
            start: Instant::now(),
            lump,
            due: 0.0,
            total: resumed,
            meter: Meter::default(),
        };
        assert_eq!(line.look(), 0, "one look says nothing");
        line
    }

    fn look(&mut self) -> u64 {
        self.meter.rate(self.total, self.start + self.now)
    }

    /// Brings `rate` bytes per second for `time`; what the meter said at each look once it has had
    /// its grace, and the last of all.
    fn bring(&mut self, rate: f64, time: Duration) -> (Vec<u64>, u64) {
        let (until, sure_from) = (self.now + time, self.now + GRACE);
        let mut said = Vec::new();
        let mut last = 0;
        while self.now < until {
            self.now += LOOK;
            self.due += rate * LOOK.as_secs_f64();
            let lumps = (self.due / as_float(self.lump)).floor();
            self.due -= lumps * as_float(self.lump);
            self.total += as_count(lumps) * self.lump;
            last = self.look();
            if self.now >= sure_from {
                said.push(last);
            }
        }
        (said, last)
    }
}

fn is_within(said: u64, truth: f64, factor: f64) -> bool {
    (truth / factor..=truth * factor).contains(&as_float(said))
}

/// From 10 KB/s to 1 GB/s, with a resume, a lost and a returning source: the rate and the time that
/// is left are right within a factor of 1.5, ten seconds after each change.
#[test]
fn rate_and_time_left_are_right_ten_seconds_after_a_change() {
    let check = |what: &str, lump: u64, rates: &[f64]| {
        let mut line = Line::new(lump, 700 << 20);
        for &rate in rates {
            let (said, last) = line.bring(rate, 2 * GRACE);
            assert!(said.len() > 30, "{what}");
            for said in said {
                assert!(is_within(said, rate, 1.5), "{what}, {rate}: {said}");
            }
            let left = 1 << 30;
            let truth = as_float(left) / rate;
            match time_for(left, last) {
                Some(time) => {
                    let ratio = time.as_secs_f64() / truth;
                    assert!(
                        (1.0 / 1.5..=1.5).contains(&ratio),
                        "{what}, {rate}: {time:?}"
                    );
                }
                None => assert!(truth.is_infinite(), "{what}, {rate}"),
            }
        }
    };
    for rate in [10e3, 100e3, 10e6, 1e9] {
        for lump in [1, 1448, 16 << 10] {
            check("alone", lump, &[rate]);
            check("a source is lost", lump, &[rate, rate / 2.0]);
            check("a source returns", lump, &[rate / 2.0, rate]);
            check(
                "the only source is lost, and returns",
                lump,
                &[rate, 0.0, rate],
            );
        }
    }
    check("it falls by far", 1448, &[1e9, 10e3]);
    check("it rises by far", 1448, &[10e3, 1e9]);
    // The slowest line there is, by whole TLS records.
    check("records of 4 s each", 16 << 10, &[4.1e3]);
}

#[test]
fn what_was_there_before_is_no_rate() {
    let mut line = Line::new(1, 1 << 40);
    assert_eq!(line.bring(0.0, Duration::from_secs(30)).1, 0);
    // The first bytes begin the measuring, so the search before them does not count.
    let (_, rate) = line.bring(1e6, Duration::from_secs(2));
    assert!(is_within(rate, 1e6, 1.01), "{rate}");
}

#[test]
fn silence_ends_a_rate_and_its_prediction() {
    let mut line = Line::new(1448, 0);
    let (_, running) = line.bring(1e6, GRACE);
    assert!(time_for(1, running).is_some());
    let (_, silent) = line.bring(0.0, SILENCE + LOOK);
    assert_eq!((silent, time_for(1, silent)), (0, None));
    // The silence does not count once bytes come again.
    let (_, again) = line.bring(1e6, Duration::from_secs(2));
    assert!(is_within(again, 1e6, 1.05), "{again}");
}

/// A process that was stopped looks again after a long time, and bytes have come meanwhile.
#[test]
fn a_gap_in_the_looks_begins_anew() {
    let mut line = Line::new(1, 0);
    line.bring(1e6, GRACE);
    line.now += Duration::from_secs(70);
    line.total += 5;
    assert_eq!(line.look(), 20, "at most one interval");
    let (_, again) = line.bring(1e6, Duration::from_secs(2));
    assert!(is_within(again, 1e6, 1.2), "{again}");
}

#[test]
fn what_cannot_be_predicted_is_unknown() {
    let check = |rate: u64, left: u64, expected: Option<u64>| {
        let expected = expected.map(Duration::from_secs);
        assert_eq!(time_for(left, rate), expected, "{left} at {rate}");
    };
    check(10, 1000, Some(100));
    check(10, 0, Some(0));
    check(0, 0, Some(0));
    check(0, 1, None);
    check(1, 9 * 30 * 24 * 60 * 60, None);
    check(1, u64::MAX, None);
}

#[test]
fn looks_cost_no_memory() {
    let mut line = Line::new(1, 0);
    for _ in 0..100_000 {
        line.now += Duration::from_millis(1);
        line.total += 1000;
        line.look();
    }
    assert!(line.meter.edges.len() <= 34, "{}", line.meter.edges.len());
    assert!(is_within(line.look(), 1e6, 1.01));
}

proptest! {
    /// Whatever comes whenever, nothing overflows, and no rate is said that there never was.
    #[test]
    fn a_rate_lies_between_what_there_was(
        looks in prop::collection::vec((0_u64..20_000, 0_u64..=1 << 40), 1..100),
    ) {
        let (mut meter, mut now, mut total) = (Meter::default(), Instant::now(), 0_u64);
        let (mut seen, mut fastest): (Vec<Edge>, f64) = (Vec::new(), 0.0);
        let mut at_once = 0;
        for (millis, grown) in looks {
            now += Duration::from_millis(millis);
            total += grown;
            for before in seen.iter().filter(|before| before.at < now) {
                let time = (now - before.at).as_secs_f64();
                fastest = fastest.max(as_float(total - before.total) / time);
            }
            // The first bytes, after a silence too, count for one interval; what grows at one moment
            // has grown at once.
            at_once = if millis == 0 { at_once + grown } else { grown };
            fastest = fastest.max(as_float(at_once) / EDGE_INTERVAL.as_secs_f64());
            seen.push(Edge { at: now, total });
            let rate = meter.rate(total, now);
            prop_assert!(as_float(rate) <= fastest * 1.001, "{rate} {fastest}");
        }
    }
}
