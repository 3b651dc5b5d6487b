//! When each identity's certificate is asked for: priorities, half-lives, back-off.
//!
//! A state machine without clock, task or channel. Callers tell it what is wanted and how attempts ended, and ask what to start now
//! and when to look again. One entry per identity; a generation number tells a late answer from a wanted one.

use model::Identity;
use std::{collections::HashMap, time::Duration};
use tokio::time::Instant;

/// First pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(150);
/// After failing for this long every pause is the longest.
const GIVEN_UP: Duration = Duration::from_secs(15 * 60);
/// How soon after a failure a waiting connection may cause the next attempt.
pub(super) const EARLIEST_RETRY: Duration = Duration::from_secs(1);

/// How urgent a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// A renewal, with half a life left.
    Background,
    /// A workload is here and will probably speak soon.
    Warmup,
    /// A connection waits for it.
    RealTime,
}

/// One identity's place in the schedule.
#[derive(Debug)]
struct Entry {
    priority: Priority,
    due: Instant,
    running: bool,
    generation: u64,
    failing: Option<Failing>,
}

#[derive(Debug, Clone, Copy)]
struct Failing {
    since: Instant,
    last: Instant,
    pause: Duration,
}

/// What to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) identity: Identity,
    pub(super) generation: u64,
}

/// The whole schedule.
#[derive(Debug)]
pub(super) struct Schedule {
    entries: HashMap<Identity, Entry>,
    running: usize,
    limit: usize,
    generations: u64,
}

impl Schedule {
    /// At most `limit` attempts run at once.
    pub(super) fn new(limit: usize) -> Self {
        Self { entries: HashMap::new(), running: 0, limit, generations: 0 }
    }

    /// Wants a certificate that is not there: makes it due, or more urgent. Returns whether anything changed.
    ///
    /// After a failure only a waiting connection shortens the pause, and not below [`EARLIEST_RETRY`] after the failure.
    pub(super) fn want(&mut self, identity: &Identity, priority: Priority, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(identity) else {
            self.generations += 1;
            let entry = Entry { priority, due: now, running: false, generation: self.generations, failing: None };
            self.entries.insert(identity.clone(), entry);
            return true;
        };
        let before = (entry.priority, entry.due);
        entry.priority = entry.priority.max(priority);
        if !entry.running {
            let earliest = match entry.failing {
                None => now,
                Some(failing) if priority == Priority::RealTime => failing.last + EARLIEST_RETRY,
                Some(_) => entry.due,
            };
            entry.due = entry.due.min(earliest.max(now));
        }
        before != (entry.priority, entry.due)
    }

    /// When the next attempt for an identity begins; `None` if it runs or is unknown.
    pub(super) fn due(&self, identity: &Identity) -> Option<Instant> {
        self.entries.get(identity).filter(|entry| !entry.running).map(|entry| entry.due)
    }

    /// The attempts to start now: what is due, the most urgent first, then the longest due, within the limit.
    pub(super) fn start(&mut self, now: Instant) -> Vec<Attempt> {
        let room = self.limit.saturating_sub(self.running);
        let mut ready: Vec<_> =
            self.entries.iter_mut().filter(|(_, entry)| !entry.running && entry.due <= now).collect();
        ready.sort_by_key(|(_, entry)| (std::cmp::Reverse(entry.priority), entry.due, entry.generation));
        let attempts: Vec<Attempt> = ready
            .into_iter()
            .take(room)
            .map(|(identity, entry)| {
                entry.running = true;
                Attempt { identity: identity.clone(), generation: entry.generation }
            })
            .collect();
        self.running += attempts.len();
        attempts
    }

    /// When to look again if nothing else happens; `None` while no room is left or nothing is scheduled.
    pub(super) fn next(&self) -> Option<Instant> {
        if self.running >= self.limit {
            return None;
        }
        self.entries.values().filter(|entry| !entry.running).map(|entry| entry.due).min()
    }

    /// Has a certificate from elsewhere, to be renewed at `renewal`; one that is wanted already is left alone.
    pub(super) fn hold(&mut self, identity: &Identity, renewal: Instant) -> bool {
        if self.entries.contains_key(identity) {
            return false;
        }
        self.generations += 1;
        let (priority, generation) = (Priority::Background, self.generations);
        let entry = Entry { priority, due: renewal, running: false, generation, failing: None };
        self.entries.insert(identity.clone(), entry);
        true
    }

    /// An attempt succeeded; the next is a renewal at `renewal`. `false` if nobody wants the answer any more.
    pub(super) fn succeeded(&mut self, attempt: &Attempt, renewal: Instant) -> bool {
        self.finish(attempt, |entry| {
            entry.failing = None;
            entry.due = renewal;
        })
    }

    /// An attempt failed. The next follows after a growing pause, but not after `expiry` of a certificate still held.
    /// `spread` is a random number from -1 to 1.
    pub(super) fn failed(&mut self, attempt: &Attempt, now: Instant, expiry: Option<Instant>, spread: f64) -> bool {
        self.finish(attempt, |entry| {
            let failing = match entry.failing {
                None => Failing { since: now, last: now, pause: FIRST_PAUSE },
                Some(before) if now.duration_since(before.since) >= GIVEN_UP => {
                    Failing { last: now, pause: LONGEST_PAUSE, ..before }
                }
                Some(before) => Failing { last: now, pause: (before.pause * 2).min(LONGEST_PAUSE), ..before },
            };
            entry.failing = Some(failing);
            let pause = failing.pause.mul_f64(1.0 + 0.2 * spread.clamp(-1.0, 1.0)).min(LONGEST_PAUSE);
            let due = now + pause;
            entry.due = expiry.map_or(due, |expiry| due.min(expiry.max(now + EARLIEST_RETRY)));
        })
    }

    /// Nobody wants the identity any more; an attempt under way counts until it ends.
    pub(super) fn forget(&mut self, identity: &Identity) {
        self.entries.remove(identity);
    }

    fn finish(&mut self, attempt: &Attempt, settle: impl FnOnce(&mut Entry)) -> bool {
        self.running -= 1;
        let entry = self.entries.get_mut(&attempt.identity).filter(|entry| entry.generation == attempt.generation);
        let Some(entry) = entry else {
            return false;
        };
        entry.running = false;
        entry.priority = Priority::Background;
        settle(entry);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(account: &str) -> Identity {
        Identity::new("cluster.local", "shop", account).unwrap()
    }

    fn names(attempts: &[Attempt]) -> Vec<&str> {
        attempts.iter().map(|attempt| &*attempt.identity.service_account).collect()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_urgent_go_first_and_ties_by_time() {
        let now = Instant::now();
        let mut schedule = Schedule::new(2);
        schedule.want(&identity("renewal"), Priority::Background, now);
        schedule.want(&identity("warm-1"), Priority::Warmup, now);
        schedule.want(&identity("warm-2"), Priority::Warmup, now + SECOND);
        schedule.want(&identity("real"), Priority::RealTime, now + SECOND);
        let first = schedule.start(now + SECOND);
        assert_eq!(names(&first), ["real", "warm-1"]);
        assert_eq!((schedule.start(now + SECOND), schedule.next()), (vec![], None), "no room");
        assert!(schedule.want(&identity("renewal"), Priority::RealTime, now + SECOND), "raised");
        assert!(schedule.succeeded(&first[0], now + SECOND * 100));
        assert_eq!(names(&schedule.start(now + SECOND)), ["renewal"]);
    }

    #[test]
    fn wanting_twice_asks_once() {
        let now = Instant::now();
        let mut schedule = Schedule::new(8);
        assert!(schedule.want(&identity("web"), Priority::Warmup, now));
        assert!(!schedule.want(&identity("web"), Priority::Warmup, now));
        assert!(schedule.want(&identity("web"), Priority::RealTime, now));
        assert_eq!(schedule.start(now).len(), 1);
        schedule.want(&identity("web"), Priority::RealTime, now);
        assert!(schedule.start(now).is_empty());
    }

    #[test]
    fn pauses_double_to_the_cap_and_success_clears_them() {
        let mut now = Instant::now();
        let mut schedule = Schedule::new(1);
        schedule.want(&identity("web"), Priority::Warmup, now);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            let attempt = schedule.start(now).remove(0);
            schedule.failed(&attempt, now, None, 0.0);
            let due = schedule.due(&identity("web")).unwrap();
            pauses.push((due - now).as_secs());
            now = due;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 150, 150]);
        let attempt = schedule.start(now).remove(0);
        schedule.succeeded(&attempt, now + SECOND * 3_600);
        now += SECOND * 3_600;
        let attempt = schedule.start(now).remove(0);
        schedule.failed(&attempt, now, None, 0.0);
        assert_eq!(schedule.due(&identity("web")), Some(now + SECOND));
    }

    #[test]
    fn a_waiting_connection_shortens_the_pause_but_not_below_the_bound() {
        let start = Instant::now();
        let mut schedule = Schedule::new(1);
        schedule.want(&identity("web"), Priority::Warmup, start);
        let mut now = start;
        for _ in 0..8 {
            let attempt = schedule.start(now).remove(0);
            schedule.failed(&attempt, now, None, 0.0);
            now = schedule.due(&identity("web")).unwrap();
        }
        let attempt = schedule.start(now).remove(0);
        schedule.failed(&attempt, now, None, 0.0);
        schedule.want(&identity("web"), Priority::Warmup, now);
        assert_eq!(schedule.due(&identity("web")), Some(now + LONGEST_PAUSE), "a prefetch waits");
        schedule.want(&identity("web"), Priority::RealTime, now);
        assert_eq!(schedule.due(&identity("web")), Some(now + EARLIEST_RETRY));
        schedule.want(&identity("web"), Priority::RealTime, now + SECOND * 60);
        assert_eq!(schedule.due(&identity("web")), Some(now + EARLIEST_RETRY), "never later");
    }

    #[test]
    fn a_certificate_still_held_is_looked_at_when_it_ends() {
        let now = Instant::now();
        let mut schedule = Schedule::new(1);
        schedule.want(&identity("web"), Priority::Background, now);
        let mut at = now;
        for _ in 0..6 {
            let attempt = schedule.start(at).remove(0);
            schedule.failed(&attempt, at, Some(now + SECOND * 40), 0.0);
            at = schedule.due(&identity("web")).unwrap();
        }
        assert_eq!(at, now + SECOND * 40);
    }

    #[test]
    fn an_answer_for_a_forgotten_identity_is_not_wanted() {
        let now = Instant::now();
        let mut schedule = Schedule::new(1);
        schedule.want(&identity("web"), Priority::Warmup, now);
        let old = schedule.start(now).remove(0);
        schedule.forget(&identity("web"));
        schedule.want(&identity("web"), Priority::Warmup, now);
        assert!(!schedule.succeeded(&old, now + SECOND), "the old answer");
        let new = schedule.start(now).remove(0);
        assert!(schedule.succeeded(&new, now + SECOND));
    }
}
