//! A text that must not be seen: every frame on the link of a node is searched for it.
//!
//! Watch the node that answers, not the one that asks: a command that the API server has executed in a pod travels to the asking
//! node as text, with whatever it is told to ask for.

use crate::World;
use anyhow::Result;
use linux::packet::Sniffer;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
use tokio::task::JoinHandle;

/// Watches the link until dropped.
#[derive(Debug)]
pub struct Canary {
    seen: Arc<AtomicBool>,
    frames: Arc<AtomicUsize>,
    watching: JoinHandle<()>,
}

impl Canary {
    /// Begins to look for a text on the link between a node and the others.
    pub fn watch(world: &World, node: &str, text: &str) -> Result<Self> {
        let sniffer = Sniffer::open(&world.hub()?, &format!("to-{node}"))?;
        let (seen, frames) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (tell, count, text) = (seen.clone(), frames.clone(), text.to_owned());
        let watching = tokio::spawn(async move {
            while let Ok(frame) = sniffer.next().await {
                count.fetch_add(1, Ordering::Relaxed);
                if frame.contains(text.as_bytes()) {
                    tell.store(true, Ordering::Relaxed);
                }
            }
        });
        Ok(Self { seen, frames, watching })
    }

    /// Whether the text has been seen.
    pub fn is_seen(&self) -> bool {
        self.seen.load(Ordering::Relaxed)
    }

    /// How many frames have been searched.
    pub fn frames(&self) -> usize {
        self.frames.load(Ordering::Relaxed)
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.watching.abort();
    }
}
