//! From `main` to the role's own future and back: runtimes, signals, limits, the last word.
//!
//! [`run`] gives the role a [`Shutdown`] that SIGTERM, SIGINT or the role itself triggers; a second SIGINT ends the process
//! on the spot. What the role returns is what the process ends with.

use crate::BoxError;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::{panic, process::ExitCode, sync::Arc, time::Duration};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Time for blocking work to end after the role's future has returned.
const LAST_WORK: Duration = Duration::from_secs(1);

/// How many threads a runtime has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The calling one.
    Current,
    /// A pool of this many.
    Many(usize),
    /// A pool with one per core.
    PerCore,
}

/// The wish to end. Clones share it.
#[derive(Debug, Clone)]
pub struct Shutdown {
    wish: Arc<watch::Sender<bool>>,
}

impl Shutdown {
    /// A wish that nobody has uttered.
    pub fn new() -> Self {
        Self { wish: Arc::new(watch::Sender::new(false)) }
    }

    /// Utters it.
    pub fn trigger(&self) {
        self.wish.send_replace(true);
    }

    /// Whether it has been uttered.
    pub fn is_triggered(&self) -> bool {
        *self.wish.borrow()
    }

    /// Returns once it is uttered.
    pub async fn triggered(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.wish.subscribe().wait_for(|wish| *wish).await;
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs a role: builds its runtime, turns signals into `Shutdown`, waits for its future.
pub fn run<M, F>(name: &str, threads: Threads, main: M) -> Result<(), BoxError>
where
    M: FnOnce(Shutdown) -> F,
    F: Future<Output = Result<(), BoxError>>,
{
    log_panics();
    raise_open_files();
    let runtime = build(name, threads)?;
    let outcome = runtime.block_on(async {
        let shutdown = Shutdown::new();
        watch_signals(shutdown.clone())?;
        main(shutdown).await
    });
    runtime.shutdown_timeout(LAST_WORK);
    outcome
}

/// A tokio runtime with named threads.
pub fn build(name: &str, threads: Threads) -> Result<Runtime, BoxError> {
    let mut builder = match threads {
        Threads::Current => Builder::new_current_thread(),
        Threads::Many(_) | Threads::PerCore => Builder::new_multi_thread(),
    };
    if let Threads::Many(count) = threads {
        builder.worker_threads(count.max(1));
    }
    let runtime = builder.enable_all().thread_name(name).build();
    runtime.map_err(|error| format!("starting the threads of {name}: {error}").into())
}

/// The exit status for what a role returned; an error is told on stderr in one sentence with its causes.
pub fn exit_code(outcome: Result<(), BoxError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", sentence(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes, each said once.
pub fn sentence(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        cause = inner.source();
    }
    text
}

fn watch_signals(shutdown: Shutdown) -> Result<(), BoxError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            // A command that took no interest in the wish is simply ended.
            let nobody_listens = Arc::strong_count(&shutdown.wish) == 1;
            let second = shutdown.is_triggered();
            tokio::select! {
                _ = terminate.recv() => {
                    if nobody_listens {
                        leave_at_once(SignalKind::terminate());
                    }
                    tracing::info!("received SIGTERM, shutting down");
                }
                _ = interrupt.recv() => {
                    if nobody_listens || second {
                        leave_at_once(SignalKind::interrupt());
                    }
                    tracing::info!("received SIGINT, shutting down; once more to leave at once");
                }
            }
            shutdown.trigger();
        }
    });
    Ok(())
}

#[expect(clippy::exit, reason = "nothing may hold the process any longer")]
fn leave_at_once(because_of: SignalKind) -> ! {
    std::process::exit(128 + because_of.as_raw_value())
}

/// Many connections need many files; the soft limit is for programs that still use `select`.
fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(soft, hard)| if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) });
    if let Err(error) = raised {
        tracing::warn!("raising the limit of open files: {error}");
    }
}

/// A panic becomes a line of the log once there is one.
fn log_panics() {
    let plain = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if tracing::dispatcher::has_been_set() {
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            tracing::error!(place, "panic: {}", info.payload_as_str().unwrap_or("no text"));
        } else {
            plain(info);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("reading the configuration")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_sentence_holds_every_cause_once() {
        let error = Outer(std::io::Error::other("the disk is gone"));
        assert_eq!(sentence(&error), "reading the configuration: the disk is gone");
    }

    #[test]
    fn a_role_ends_with_what_it_returned() {
        let ended = run("test", Threads::Current, |shutdown| async move {
            shutdown.trigger();
            shutdown.triggered().await;
            Err("told to".into())
        });
        assert_eq!(ended.unwrap_err().to_string(), "told to");
    }

    #[test]
    fn sigterm_is_the_wish_to_end() {
        run("test", Threads::Many(1), |shutdown| async move {
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM)?;
            shutdown.triggered().await;
            Ok(())
        })
        .unwrap();
    }
}
