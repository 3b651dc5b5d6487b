//! A text that must not be seen: every frame on the links between nodes is searched for it.

use crate::World;
use anyhow::Result;
use linux::packet::Sniffer;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
use tokio::task::JoinHandle;

/// Watches the links until dropped or asked for its findings.
#[derive(Debug)]
pub struct Canary {
    seen: Arc<AtomicBool>,
    frames: Arc<AtomicUsize>,
    watching: Vec<JoinHandle<()>>,
}

impl Canary {
    /// Begins to look for a text on every node's link.
    pub fn watch(world: &World, text: &str) -> Result<Self> {
        let canary = Self { seen: Arc::default(), frames: Arc::default(), watching: Vec::new() };
        let links = world.links();
        links.iter().try_fold(canary, |mut canary, link| {
            let sniffer = Sniffer::open(&world.hub()?, link)?;
            let (seen, frames, text) = (canary.seen.clone(), canary.frames.clone(), text.to_owned());
            canary.watching.push(tokio::spawn(async move {
                while let Ok(frame) = sniffer.next().await {
                    frames.fetch_add(1, Ordering::Relaxed);
                    if frame.contains(text.as_bytes()) {
                        seen.store(true, Ordering::Relaxed);
                    }
                }
            }));
            Ok(canary)
        })
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
        self.watching.iter().for_each(JoinHandle::abort);
    }
}
