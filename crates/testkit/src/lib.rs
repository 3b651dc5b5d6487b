//! For tests of the whole mesh: start the real binary, act on it as a user or as bad luck would, and see what is left of it.
//!
//! A [`World`] is one `ambit up`; [`Traces`] are what a machine shows of meshes, before and after; [`process`] finds the processes of one
//! world and ends them; [`Canary`] looks for a text on the links between nodes. [`http2`] writes and reads HTTP/2 by the byte.

mod canary;
pub mod http2;
pub mod process;
mod traces;
mod world;

pub use canary::Canary;
pub use traces::Traces;
pub use world::{World, unique_name};

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Looks again and again until `look` finds what it looks for; its last complaint becomes the error.
pub async fn until<T>(what: &str, look: impl AsyncFn() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    let mut tick = tokio::time::interval(LOOK_AGAIN);
    loop {
        tick.tick().await;
        match look().await {
            Ok(found) => return Ok(found),
            Err(complaint) if begun.elapsed() > PATIENCE => bail!("waited {PATIENCE:?} for {what}: {complaint:#}"),
            Err(_) => {}
        }
    }
}
