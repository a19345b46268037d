//! Which addresses of this node have been shown to work from the internet, by what. Pure.
//!
//! A connection from a host that this node never sent anything to is the strongest proof: no router
//! lets it in by mistake. A peer that was asked to connect back, and did, is a weaker one: some
//! routers let in every port of a host that was asked. So two sites have to have done it, or one
//! while this node knows no other. A proof holds for a time only. Nobody can have more than
//! [`SHOWN_PER_PATH_MAX`] addresses believed, or push out one that was shown.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::observed::Path;
use crate::scope::{Socket, site_of};

/// How long a proof holds. Every further one begins it anew.
pub(super) const HOLDS: Duration = Duration::from_secs(6 * 3600);

/// Addresses of one family and one transport that may be shown at once: a router forwards one, and
/// one more while it is changed.
pub(super) const SHOWN_PER_PATH_MAX: usize = 2;

/// Sites whose word about an address is kept, the latest.
const WITNESSES_MAX: usize = 8;

/// Addresses that were named and not shown, which wait for a second site. The oldest makes room.
const CLAIMS_MAX: usize = 16;

/// Failed tries that are remembered: only this node's own candidates are tried, and each by a few
/// sites. The oldest makes room.
const FAILURES_MAX: usize = 32;

/// How an address was shown to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Basis {
    /// One peer that was asked has connected back.
    OneDialBack,
    /// Peers of two sites that were asked have connected back.
    DialBacks,
    /// A host that this node never sent anything to has connected.
    Stranger,
}

#[derive(Debug)]
struct Shown {
    at: Socket,
    stranger: Option<Instant>,
    /// Who has connected back, when; one entry for each site.
    dial_backs: Vec<(IpAddr, Instant)>,
}

#[derive(Debug)]
struct Claim {
    at: Socket,
    site: IpAddr,
}

/// A site that was asked to connect, and could not.
#[derive(Debug)]
struct Failure {
    at: Socket,
    site: IpAddr,
    tried: Instant,
}

/// All proofs.
#[derive(Debug, Default)]
pub(crate) struct Proofs {
    shown: Vec<Shown>,
    claims: Vec<Claim>,
    failures: Vec<Failure>,
}

impl Proofs {
    /// A host that was never sent anything has connected, and says that it did so at `at`. That is
    /// believed if others see this node at that IP address (`is_known`), or if a second site says
    /// the same. Says whether anything was shown.
    pub(crate) fn came(&mut self, from: IpAddr, at: Socket, is_known: bool, now: Instant) -> bool {
        let site = site_of(from);
        let same = |it: &Claim| it.at == at && it.site != site;
        if is_known || self.claims.iter().any(same) {
            self.claims.retain(|it| it.at != at);
            self.failures.retain(|it| it.at != at);
            let Some(shown) = self.entry(at, now) else {
                return false;
            };
            shown.stranger = Some(now);
            return true;
        }
        self.claims.retain(|it| it.site != site);
        if self.claims.len() >= CLAIMS_MAX {
            self.claims.remove(0);
        }
        self.claims.push(Claim { at, site });
        false
    }

    /// A peer at `by` was asked to connect to `at`, and has or could not.
    pub(crate) fn tried(&mut self, by: IpAddr, at: Socket, worked: bool, now: Instant) {
        let site = site_of(by);
        self.failures.retain(|it| (it.at, it.site) != (at, site));
        if worked {
            if let Some(shown) = self.entry(at, now) {
                shown.dial_backs.retain(|(it, _)| *it != site);
                if shown.dial_backs.len() >= WITNESSES_MAX {
                    shown.dial_backs.remove(0);
                }
                shown.dial_backs.push((site, now));
            }
            return;
        }
        if self.failures.len() >= FAILURES_MAX {
            self.failures.remove(0);
        }
        self.failures.push(Failure {
            at,
            site,
            tried: now,
        });
        if let Some(shown) = self.shown.iter_mut().find(|it| it.at == at) {
            shown.dial_backs.retain(|(it, _)| *it != site);
        }
        // Two sites that cannot connect any more outweigh what was shown before.
        if self.is_refuted(&at) {
            self.shown.retain(|it| it.at != at);
        }
    }

    /// Whether a host that was never sent anything has connected to `at`.
    pub(crate) fn is_strong(&self, at: &Socket) -> bool {
        let mut shown = self.shown.iter();
        shown.any(|it| it.at == *at && it.stranger.is_some())
    }

    /// Whether peers of two sites were asked to connect to `at` and could not.
    pub(crate) fn is_refuted(&self, at: &Socket) -> bool {
        self.failures.iter().filter(|it| it.at == *at).count() > 1
    }

    /// The entry of an address; none when others have its place.
    fn entry(&mut self, at: Socket, now: Instant) -> Option<&mut Shown> {
        self.sweep(now);
        if let Some(known) = self.shown.iter().position(|it| it.at == at) {
            return self.shown.get_mut(known);
        }
        let path = Path::of(&at);
        let same = self.shown.iter().filter(|it| Path::of(&it.at) == path);
        if same.count() >= SHOWN_PER_PATH_MAX {
            return None;
        }
        self.shown.push(Shown {
            at,
            stranger: None,
            dial_backs: Vec::new(),
        });
        self.shown.last_mut()
    }

    /// Drops what does not hold any more; says whether that was anything.
    pub(crate) fn sweep(&mut self, now: Instant) -> bool {
        let holds = |at: Instant| now.saturating_duration_since(at) < HOLDS;
        self.failures.retain(|it| holds(it.tried));
        let before = self.shown.len();
        self.shown.retain_mut(|it| {
            it.stranger = it.stranger.filter(|at| holds(*at));
            it.dial_backs.retain(|(_, at)| holds(*at));
            it.stranger.is_some() || !it.dial_backs.is_empty()
        });
        self.shown.len() != before
    }

    /// Forgets everything: this node is somewhere else.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The addresses that were shown to work, by what, the surest first. One peer's word is enough
    /// while fewer than two sites are known: a young network has to begin somehow.
    pub(crate) fn shown(&self, sites: usize) -> Vec<(Socket, Basis)> {
        let basis = |it: &Shown| match it.dial_backs.len() {
            _ if it.stranger.is_some() => Some(Basis::Stranger),
            0 => None,
            1 => (sites < 2).then_some(Basis::OneDialBack),
            _ => Some(Basis::DialBacks),
        };
        let mut shown: Vec<_> = self
            .shown
            .iter()
            .filter_map(|it| Some((it.at, basis(it)?)))
            .collect();
        shown.sort_by_key(|(at, basis)| (std::cmp::Reverse(*basis), Path::of(at)));
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ip, socket};
    use super::*;

    const AT: &str = "73.9.0.1:4101";

    fn shown(proofs: &Proofs, sites: usize) -> Vec<(Socket, Basis)> {
        proofs.shown(sites)
    }

    #[test]
    fn a_stranger_shows_an_address_that_others_know() {
        let (mut proofs, now, at) = (Proofs::default(), Instant::now(), socket(AT));
        assert!(!proofs.came(ip("73.1.0.1"), at, false, now), "one word");
        assert!(
            !proofs.came(ip("73.1.0.2"), at, false, now),
            "the same site"
        );
        assert!(shown(&proofs, 9).is_empty());
        assert!(proofs.came(ip("73.2.0.1"), at, false, now), "a second site");
        assert_eq!(shown(&proofs, 9), [(at, Basis::Stranger)]);

        let mut proofs = Proofs::default();
        assert!(proofs.came(ip("73.1.0.1"), at, true, now));
        assert_eq!(shown(&proofs, 9), [(at, Basis::Stranger)]);
        assert!(!proofs.sweep(now + HOLDS / 2));
        assert!(proofs.sweep(now + HOLDS));
        assert!(shown(&proofs, 9).is_empty());
    }

    #[test]
    fn two_sites_have_to_connect_back_or_one_while_there_is_no_other() {
        let (mut proofs, now, at) = (Proofs::default(), Instant::now(), socket(AT));
        proofs.tried(ip("73.1.0.1"), at, true, now);
        assert_eq!(shown(&proofs, 1), [(at, Basis::OneDialBack)]);
        assert!(shown(&proofs, 2).is_empty());
        proofs.tried(ip("73.1.0.2"), at, true, now);
        assert!(shown(&proofs, 2).is_empty(), "the same site");
        proofs.tried(ip("73.2.0.1"), at, true, now);
        assert_eq!(shown(&proofs, 2), [(at, Basis::DialBacks)]);
        // One that cannot any more takes its own word back; two end it.
        proofs.tried(ip("73.2.0.1"), at, false, now);
        assert!(shown(&proofs, 2).is_empty());
        proofs.came(ip("73.3.0.1"), at, true, now);
        assert_eq!(shown(&proofs, 2), [(at, Basis::Stranger)]);
        proofs.tried(ip("73.1.0.1"), at, false, now);
        assert_eq!(shown(&proofs, 2), [(at, Basis::Stranger)]);
        proofs.tried(ip("73.2.0.1"), at, false, now);
        assert!(shown(&proofs, 2).is_empty());
    }

    #[test]
    fn two_sites_that_cannot_connect_refute_an_address() {
        let (mut proofs, now, at) = (Proofs::default(), Instant::now(), socket(AT));
        proofs.tried(ip("73.1.0.1"), at, false, now);
        proofs.tried(ip("73.1.0.2"), at, false, now);
        assert!(!proofs.is_refuted(&at), "the same site");
        proofs.tried(ip("73.2.0.1"), at, false, now);
        assert!(proofs.is_refuted(&at));
        proofs.tried(ip("73.2.0.1"), at, true, now);
        assert!(!proofs.is_refuted(&at));
        proofs.tried(ip("73.2.0.1"), at, false, now);
        proofs.sweep(now + HOLDS);
        assert!(!proofs.is_refuted(&at), "too long ago");
        for n in 0..999 {
            proofs.tried(ip(&format!("73.{}.0.1", n % 200)), at, false, now);
        }
        assert_eq!(proofs.failures.len(), FAILURES_MAX);
    }

    #[test]
    fn nobody_fills_the_list_or_pushes_out_what_was_shown() {
        let (mut proofs, now, at) = (Proofs::default(), Instant::now(), socket(AT));
        proofs.came(ip("73.1.0.1"), at, true, now);
        for n in 1..=200 {
            let lie = socket(&format!("73.9.0.1:{n}"));
            proofs.came(ip(&format!("73.{n}.0.1")), lie, true, now);
            let lie = socket(&format!("74.9.0.1:{n}"));
            proofs.came(ip(&format!("74.{n}.0.1")), lie, false, now);
        }
        assert_eq!(proofs.claims.len(), CLAIMS_MAX);
        assert_eq!(proofs.shown.len(), SHOWN_PER_PATH_MAX);
        assert_eq!(shown(&proofs, 9)[0], (at, Basis::Stranger));
    }
}
