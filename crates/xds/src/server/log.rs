//! Which names recent updates touched, so that a proxy that is a little behind is told only those.
//!
//! Old steps are merged, so that a slow proxy finds its place again at the price of a few names too many; what does not fit is
//! forgotten, and who is that far behind comes back on a new stream and says what it holds.

use model::Str;
use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

/// Steps that are kept before the oldest are merged.
const STEPS: usize = 256;

#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    steps: VecDeque<Step>,
    /// Names in all steps.
    names: usize,
    /// What came up to this revision is forgotten.
    floor: u64,
}

/// What led to a revision, from the one before or, merged, from an earlier one.
#[derive(Debug, Clone)]
struct Step {
    to: u64,
    names: Arc<[Str]>,
}

impl Log {
    /// Notes what led to a revision; at most about `limit` names are kept.
    pub(super) fn push(&mut self, to: u64, names: Vec<Str>, limit: usize) {
        self.names += names.len();
        self.steps.push_back(Step { to, names: names.into() });
        if self.steps.len() > STEPS {
            self.merge();
        }
        while self.names > limit
            && let Some(step) = self.steps.pop_front()
        {
            self.names -= step.names.len();
            self.floor = step.to;
        }
    }

    /// Merges the older half in pairs.
    fn merge(&mut self) {
        let recent = self.steps.split_off(STEPS / 2);
        let old = std::mem::replace(&mut self.steps, VecDeque::with_capacity(STEPS));
        let mut old = old.into_iter();
        while let Some(first) = old.next() {
            self.steps.push_back(match old.next() {
                Some(second) => {
                    let names: HashSet<&Str> = first.names.iter().chain(second.names.iter()).collect();
                    Step { to: second.to, names: names.into_iter().cloned().collect() }
                }
                None => first,
            });
        }
        self.steps.extend(recent);
        self.names = self.steps.iter().map(|step| step.names.len()).sum();
    }

    /// Every name touched since a revision, once; nothing if that is not known any more.
    pub(super) fn since(&self, revision: u64) -> Option<Vec<&Str>> {
        if revision < self.floor {
            return None;
        }
        let place = self.steps.partition_point(|step| step.to <= revision);
        let names = || self.steps.iter().skip(place).flat_map(|step| step.names.iter());
        if self.steps.len() - place <= 1 {
            return Some(names().collect());
        }
        let unique: HashSet<&Str> = names().collect();
        Some(unique.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(log: &Log, revision: u64) -> Option<Vec<&str>> {
        let mut names: Vec<_> = log.since(revision)?.into_iter().map(|name| &**name).collect();
        names.sort_unstable();
        Some(names)
    }

    #[test]
    fn what_was_touched_is_told_once_and_never_too_little() {
        let mut log = Log::default();
        for revision in 1..=1000u64 {
            let touched = vec![format!("r{}", revision % 7).into(), format!("only-{revision}").into()];
            log.push(revision, touched, usize::MAX);
            for behind in [0, 1, 5, 200].into_iter().filter(|behind| *behind < revision) {
                let told = names(&log, revision - behind).unwrap();
                for missed in revision - behind + 1..=revision {
                    assert!(told.contains(&format!("only-{missed}").as_str()), "{revision} {behind} {missed}");
                }
                let unique: HashSet<_> = told.iter().collect();
                assert_eq!(unique.len(), told.len());
            }
        }
        assert!(log.steps.len() <= STEPS);
        assert_eq!(names(&log, 1000).unwrap(), Vec::<&str>::new());
        assert_eq!(names(&log, 999).unwrap(), ["only-1000", "r6"]);
    }

    #[test]
    fn what_does_not_fit_is_forgotten_and_said_to_be() {
        let mut log = Log::default();
        for revision in 1..=100u64 {
            log.push(revision, vec![format!("r{revision}").into()], 10);
        }
        assert_eq!(names(&log, 89), None);
        assert_eq!(names(&log, 90).unwrap().len(), 10);
        // One update that is larger than the limit is not kept either.
        log.push(101, (0..11).map(|name| format!("x{name}").into()).collect(), 10);
        assert_eq!((names(&log, 100), names(&log, 101)), (None, Some(Vec::new())));
    }
}
