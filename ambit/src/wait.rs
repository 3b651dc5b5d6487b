//! Waiting until something is so.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// How long anything may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(40);

/// Looks again and again until `look` finds what it looks for; its last complaint becomes the error.
pub(crate) async fn until<T>(what: &str, look: impl AsyncFn() -> Result<T, String>) -> Result<T> {
    let begun = Instant::now();
    let mut tick = tokio::time::interval(LOOK_AGAIN);
    loop {
        tick.tick().await;
        match look().await {
            Ok(found) => return Ok(found),
            Err(complaint) if begun.elapsed() > PATIENCE => bail!("waited {PATIENCE:?} for {what}: {complaint}"),
            Err(_) => {}
        }
    }
}
