//! Probes of containers: how often they are asked, and when enough answers make a change.
//!
//! Until the first success a probe is also asked in quick succession for a few seconds, so that a pod is ready as soon
//! as it is; those extra questions count only when they succeed.

use std::time::Duration;

use api::Probe;

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Startup,
    Readiness,
    Liveness,
}

impl Purpose {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// The rhythm of quick questions at the start, and for how long.
const QUICK: Duration = Duration::from_millis(100);
const QUICK_COUNT: u32 = 50;

/// When to ask, from the probe's specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rhythm {
    pub(super) initial_delay: Duration,
    pub(super) period: Duration,
    pub(super) timeout: Duration,
    success: u32,
    failure: u32,
}

impl Rhythm {
    pub(super) fn of(probe: &Probe) -> Self {
        let seconds = |value: i32, default: u64| match u64::try_from(value) {
            Ok(0) | Err(_) => Duration::from_secs(default),
            Ok(value) => Duration::from_secs(value),
        };
        let count = |value: i32, default: u32| u32::try_from(value).ok().filter(|value| *value > 0).unwrap_or(default);
        Self {
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            success: count(probe.success_threshold, 1),
            failure: count(probe.failure_threshold, 3),
        }
    }
}

/// Counts answers and says when they change the verdict.
#[derive(Debug)]
pub(super) struct Tally {
    rhythm: Rhythm,
    quick_left: u32,
    run: u32,
    last: Option<bool>,
    verdict: Option<bool>,
    quick_now: bool,
}

impl Tally {
    /// A liveness probe is asked in its own rhythm from the start: failing early must not count, and success changes nothing.
    pub(super) fn new(rhythm: Rhythm, purpose: Purpose) -> Self {
        let quick_left = if purpose == Purpose::Liveness { 0 } else { QUICK_COUNT };
        Self { rhythm, quick_left, run: 0, last: None, verdict: None, quick_now: quick_left > 0 }
    }

    /// The wait before the next question.
    pub(super) fn pause(&mut self) -> Duration {
        self.quick_now = self.quick_left > 0 && self.verdict.is_none();
        if self.quick_now {
            self.quick_left -= 1;
            QUICK.min(self.rhythm.period)
        } else {
            self.rhythm.period
        }
    }

    /// Takes an answer; gives the new verdict if it changed, or a repeated failure past the threshold.
    pub(super) fn observe(&mut self, good: bool) -> Option<bool> {
        if !good && self.quick_now {
            return None;
        }
        self.run = if self.last == Some(good) { self.run.saturating_add(1) } else { 1 };
        self.last = Some(good);
        let enough = if good { self.rhythm.success } else { self.rhythm.failure };
        if self.run < enough || self.verdict == Some(good) {
            return None;
        }
        self.verdict = Some(good);
        Some(good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(success: i32, failure: i32, purpose: Purpose) -> Tally {
        let probe = Probe { success_threshold: success, failure_threshold: failure, ..Probe::default() };
        Tally::new(Rhythm::of(&probe), purpose)
    }

    #[test]
    fn defaults_are_the_kubelets() {
        let rhythm = Rhythm::of(&Probe::default());
        assert_eq!(
            (rhythm.initial_delay, rhythm.period, rhythm.timeout),
            (Duration::ZERO, Duration::from_secs(10), Duration::from_secs(1))
        );
        assert_eq!((rhythm.success, rhythm.failure), (1, 3));
    }

    #[rstest::rstest]
    #[case::fails_after_three(1, 3, &[false, false, false], &[None, None, Some(false)])]
    #[case::success_resets(1, 2, &[false, true, false, false], &[None, Some(true), None, Some(false)])]
    #[case::needs_two_good(2, 1, &[true, true, false], &[None, Some(true), Some(false)])]
    #[case::told_once(1, 1, &[true, true, false, false], &[Some(true), None, Some(false), None])]
    fn thresholds(
        #[case] success: i32,
        #[case] failure: i32,
        #[case] answers: &[bool],
        #[case] verdicts: &[Option<bool>],
    ) {
        let mut tally = tally(success, failure, Purpose::Liveness);
        let observed: Vec<_> = answers.iter().map(|good| tally.observe(*good)).collect();
        assert_eq!(observed, verdicts);
    }

    #[test]
    fn quick_questions_find_success_early_and_forgive_failure() {
        let mut tally = tally(1, 1, Purpose::Readiness);
        for _ in 0..QUICK_COUNT {
            assert_eq!(tally.pause(), QUICK);
            assert_eq!(tally.observe(false), None);
        }
        assert_eq!(tally.pause(), Duration::from_secs(10));
        assert_eq!(tally.observe(false), Some(false), "from now on failures count");

        let mut early = self::tally(1, 1, Purpose::Startup);
        early.pause();
        assert_eq!(early.observe(true), Some(true));
        assert_eq!(early.pause(), Duration::from_secs(10));
    }

    #[test]
    fn liveness_keeps_its_own_rhythm() {
        assert_eq!(tally(1, 3, Purpose::Liveness).pause(), Duration::from_secs(10));
    }
}
