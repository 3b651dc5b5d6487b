//! Tasks with names: one that panics is logged and counted, never silently gone.

use crate::backoff::Backoff;
use futures_util::FutureExt;
use std::{
    any::Any,
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::task::JoinHandle;

static PANICS: AtomicU64 = AtomicU64::new(0);

/// How many tasks of this process have panicked.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Spawns a task on the present runtime. A panic ends only this task; it is logged under the name and counted.
pub fn spawn<F>(name: &'static str, work: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(contained(name, work))
}

/// Spawns a task that must not end while the process lives: when it panics it is started again, after a pause that grows.
/// It ends when the work returns.
pub fn supervise<F, W>(name: &'static str, mut work: W) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
    W: FnMut() -> F + Send + 'static,
{
    tokio::spawn(async move {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(15)).with_jitter(0.2);
        while !contained_ok(name, work()).await {
            tokio::time::sleep(backoff.next_delay()).await;
        }
    })
}

/// The work with its panic caught, for runtimes and task sets that one spawns on oneself.
pub async fn contained(name: &'static str, work: impl Future<Output = ()>) {
    contained_ok(name, work).await;
}

async fn contained_ok(name: &'static str, work: impl Future<Output = ()>) -> bool {
    let outcome = AssertUnwindSafe(work).catch_unwind().await;
    if let Err(panic) = &outcome {
        PANICS.fetch_add(1, Ordering::Relaxed);
        tracing::error!(task = name, "task panicked: {}", panic_text(panic.as_ref()));
    }
    outcome.is_ok()
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, atomic::AtomicUsize};

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_counted_and_a_supervised_task_starts_again() {
        let before = panics();
        spawn("once", async { panic!("on purpose") }).await.unwrap();
        assert!(panics() > before);

        let starts = Arc::new(AtomicUsize::new(0));
        let seen = starts.clone();
        supervise("again", move || {
            let start = seen.fetch_add(1, Ordering::Relaxed);
            async move { assert!(start >= 2, "on purpose") }
        })
        .await
        .unwrap();
        assert_eq!(starts.load(Ordering::Relaxed), 3);
    }
}
