//! What a peer may ask of us beyond carrying its bytes: budgets that refill with time, far above what honest peers need.

use tokio::time::Instant;

/// Units that refill at a steady rate.
#[derive(Debug)]
pub(super) struct Budget {
    left: u32,
    most: u32,
    per_second: u32,
    filled: Instant,
}

impl Budget {
    pub(super) fn new(most: u32, per_second: u32) -> Self {
        Self { left: most, most, per_second, filled: Instant::now() }
    }

    /// Takes one; false when there is none.
    pub(super) fn take(&mut self) -> bool {
        if self.left == 0 {
            let passed = self.filled.elapsed().as_millis();
            let refill = passed.saturating_mul(self.per_second.into()) / 1000;
            self.left = u32::try_from(refill).unwrap_or(u32::MAX).min(self.most);
            if self.left == 0 {
                return false;
            }
            self.filled = Instant::now();
        }
        self.left -= 1;
        true
    }
}

/// The budgets of one connection.
#[derive(Debug)]
pub(super) struct Budgets {
    /// PING and SETTINGS, each of which costs an answer.
    pub answers: Budget,
    /// Frames that carry nothing: empty DATA, PRIORITY, unknown ones.
    pub empty: Budget,
    /// WINDOW_UPDATE.
    pub updates: Budget,
    /// Streams that the peer gives up before they were answered.
    pub resets: Budget,
    /// Streams that we end because the peer broke a rule.
    pub faults: Budget,
}

impl Budgets {
    pub(super) fn new() -> Self {
        Self {
            answers: Budget::new(500, 100),
            empty: Budget::new(1_000, 200),
            updates: Budget::new(50_000, 50_000),
            resets: Budget::new(1_000, 200),
            faults: Budget::new(500, 50),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn what_is_spent_comes_back_with_time() {
        let mut budget = Budget::new(3, 2);
        let taken = |budget: &mut Budget| std::iter::from_fn(|| budget.take().then_some(())).take(100).count();
        assert_eq!(taken(&mut budget), 3);
        tokio::time::advance(Duration::from_millis(1_000)).await;
        assert_eq!(taken(&mut budget), 2);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(taken(&mut budget), 3);
    }
}
