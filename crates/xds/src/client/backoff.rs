//! How long to wait before the next stream: never not at all, so that no failure becomes a hot loop.

use std::time::Duration;
use tonic::Code;

const FLOOR: Duration = Duration::from_millis(10);
const CEILING: Duration = Duration::from_secs(15);

/// How a stream came to its end.
#[derive(Debug)]
pub enum Ended {
    /// It could not be opened.
    ConnectFailed(String),
    /// The server or the connection ended it with a status.
    Status(tonic::Status),
    /// The server ended it in order.
    Complete,
}

impl Ended {
    /// The `reason` label of upstream's metric (ztunnel.md §1.8).
    pub fn label(&self) -> &'static str {
        match self {
            Self::ConnectFailed(_) => "ConnectionError",
            Self::Status(status) if is_expected(status) => "Reconnect",
            Self::Status(_) => "Error",
            Self::Complete => "Complete",
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ConnectFailed(why) => write!(f, "could not connect: {why}"),
            Self::Status(status) => write!(f, "{}: {}", status.code(), status.message()),
            Self::Complete => f.write_str("the server ended the stream"),
        }
    }
}

/// Statuses that a server restarting or shedding old connections produces.
fn is_expected(status: &tonic::Status) -> bool {
    match status.code() {
        Code::Unknown | Code::Cancelled | Code::DeadlineExceeded => true,
        Code::Unavailable => {
            let text = status.message();
            text.contains("transport is closing") || text.contains("received prior goaway")
        }
        _ => false,
    }
}

/// The delay between streams: doubles from 10 ms to 15 s, and starts over once a stream was of use.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FLOOR }
    }
}

impl Backoff {
    /// The delay after a stream that ended thus; `useful` says whether a response was taken over on it. Expected ends
    /// of a useful stream start over; everything else doubles, because it may repeat at once.
    pub fn after(&mut self, ended: &Ended, useful: bool) -> Duration {
        if useful && !matches!(ended.label(), "ConnectionError" | "Error") {
            self.next = FLOOR;
        }
        let delay = self.next;
        self.next = (delay * 2).min(CEILING);
        delay
    }

    /// A delay between half and all of `delay`, so that a thousand proxies do not return in the same instant.
    pub fn jittered(delay: Duration) -> Duration {
        delay.mul_f64(rand::random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::refused(|| Ended::ConnectFailed("refused".to_owned()), false, [10, 20, 40])]
    #[case::orderly_end_of_a_useful_stream(|| Ended::Complete, true, [10, 10, 10])]
    #[case::orderly_end_at_once(|| Ended::Complete, false, [10, 20, 40])]
    #[case::restart(|| Ended::Status(tonic::Status::unavailable("transport is closing")), true, [10, 10, 10])]
    #[case::not_ready(|| Ended::Status(tonic::Status::unavailable("not ready")), true, [10, 20, 40])]
    #[case::refused_token(|| Ended::Status(tonic::Status::unauthenticated("no")), false, [10, 20, 40])]
    fn delays(#[case] ended: fn() -> Ended, #[case] useful: bool, #[case] milliseconds: [u64; 3]) {
        let mut backoff = Backoff::default();
        let delays = [(); 3].map(|()| backoff.after(&ended(), useful).as_millis() as u64);
        assert_eq!(delays, milliseconds);
    }

    #[test]
    fn the_delay_stays_within_its_bounds() {
        let mut backoff = Backoff::default();
        for _ in 0..40 {
            let delay = backoff.after(&Ended::ConnectFailed(String::new()), false);
            assert!((FLOOR..=CEILING).contains(&delay));
            let jittered = Backoff::jittered(delay);
            assert!(jittered <= delay && jittered * 2 >= delay);
        }
        assert_eq!(backoff.after(&Ended::Complete, false), CEILING);
    }
}
