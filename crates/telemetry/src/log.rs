//! The log: one line per event, in the plain form that upstream's tools read or as JSON.
//!
//! Events come from `tracing`. A layer formats each into a line (see [`mod@line`]) and hands it to a writer thread by a bounded
//! queue: when the queue is full the line is dropped and counted, and the writer says how many went missing. The level of
//! each scope can be changed while running ([`Levels`]).

mod levels;
mod line;
mod writer;

pub use levels::{Directives, DirectivesError, Levels};
pub use line::Format;
pub use writer::{Flush, dropped};

#[cfg(test)]
pub(crate) use line::captured;

use std::io;
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

/// The log of this process, once started.
#[derive(Debug)]
pub struct Log {
    /// Changes levels while running.
    pub levels: Levels,
    /// Writes what is queued when dropped: keep it until the end of `main`.
    pub flush: Flush,
}

/// Why the log could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The directives cannot be understood.
    #[error("starting the log")]
    Directives(#[from] DirectivesError),
    /// The writer thread could not be started.
    #[error("starting the log's writer thread")]
    Writer(#[source] io::Error),
    /// There is a log already.
    #[error("starting the log: it has been started before in this process")]
    Twice,
}

/// Starts the log of this process on stdout, with directives such as `info` or `info,access=debug`.
pub fn init(format: Format, directives: &str) -> Result<Log, LogError> {
    init_to(io::stdout(), format, directives)
}

/// Starts the log of this process on any writer; command-line tools use stderr.
pub fn init_to(to: impl io::Write + Send + 'static, format: Format, directives: &str) -> Result<Log, LogError> {
    let (levels, filter) = Levels::new(directives.parse()?);
    let (lines, flush) = writer::start(to).map_err(LogError::Writer)?;
    let subscriber = tracing_subscriber::registry().with(filter).with(line::Lines::new(format, lines));
    subscriber.try_init().map_err(|_| LogError::Twice)?;
    Ok(Log { levels, flush })
}

/// Format and directives from the environment's `LOG_FORMAT` and `RUST_LOG`, plain and `info` unless told otherwise.
pub fn init_from_env() -> Result<Log, LogError> {
    let format = match std::env::var("LOG_FORMAT").as_deref() {
        Ok("json") => Format::Json,
        _ => Format::Plain,
    };
    init(format, &std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned()))
}
