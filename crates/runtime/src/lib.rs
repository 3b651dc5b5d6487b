//! The life of a process: settings, tasks, signals, drain, readiness, the small HTTP servers that people and probes talk to.
//!
//! Every role is one process. It reads its [`settings`], calls [`process::run`], spawns named tasks with [`task::spawn`],
//! tells [`ready::Ready`] what it still waits for, and at the end lets [`drain::Drain`] bring its connections to an end.
//! Time comes from a [`clock::Clock`], so that expiry and skew can be tested.
//! What is served over HTTP, and what a log line or a metric looks like, is left to the roles and to `telemetry`.

pub mod backoff;
pub mod clock;
pub mod drain;
pub mod http;
pub mod process;
pub mod ready;
pub mod settings;
pub mod task;
pub mod workers;

pub use process::{Shutdown, Threads, run};

/// An error that ends a role; its text is what the user reads.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
