//! Whether the process can do its work, and what it still waits for.
//!
//! Each thing that has to happen first holds a [`Block`] under a name; when it happens, the block is dropped. The same name can
//! be blocked again later, so readiness may be lost. [`routes`] answers probes as ztunnel.md §12.2 says.

use crate::http::{self, Request, Response};
use ::http::{Method, StatusCode};
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};

/// What is being waited for. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Ready {
    blocks: Arc<Mutex<BTreeMap<String, usize>>>,
}

/// One thing that is being waited for; dropping it says that it has happened.
#[derive(Debug)]
#[must_use = "dropping the block at once means that nothing is waited for"]
pub struct Block {
    name: String,
    ready: Ready,
}

impl Ready {
    /// Nothing to wait for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Not ready until the block is dropped.
    pub fn block(&self, name: impl Into<String>) -> Block {
        let name = name.into();
        *self.blocks.lock().entry(name.clone()).or_default() += 1;
        Block { name, ready: self.clone() }
    }

    /// Names of what is being waited for, sorted.
    pub fn pending(&self) -> Vec<String> {
        self.blocks.lock().keys().cloned().collect()
    }

    /// Whether nothing is being waited for.
    pub fn is_ready(&self) -> bool {
        self.blocks.lock().is_empty()
    }

    /// The probe's answer: 200, or 500 with the names.
    pub fn response(&self) -> Response {
        let pending = self.pending();
        if pending.is_empty() {
            http::text(StatusCode::OK, "ready\n")
        } else {
            http::text(StatusCode::INTERNAL_SERVER_ERROR, format!("not ready, pending: {}\n", pending.join(", ")))
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut blocks = self.ready.blocks.lock();
        if let Some(count) = blocks.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                blocks.remove(&self.name);
            }
        }
    }
}

/// Answers `GET /healthz/ready`: give it to [`http::serve`] on port 15021.
pub fn routes<B>(ready: &Ready, request: &Request<B>) -> Response {
    match (request.uri().path(), request.method()) {
        ("/healthz/ready", &Method::GET) => ready.response(),
        ("/healthz/ready", _) => http::text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n"),
        _ => http::text(StatusCode::NOT_FOUND, "not found\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn ready_when_the_last_block_of_each_name_is_gone() {
        let ready = Ready::new();
        let (state, dns) = (ready.block("state manager"), ready.block("dns proxy"));
        let again = ready.block("dns proxy");
        assert_eq!(ready.pending(), ["dns proxy", "state manager"]);
        drop(dns);
        drop(state);
        assert_eq!(ready.pending(), ["dns proxy"]);
        drop(again);
        assert!(ready.is_ready());
    }

    #[rstest]
    #[case("GET", "/healthz/ready", 500)]
    #[case("POST", "/healthz/ready", 405)]
    #[case("GET", "/", 404)]
    fn answers_probes(#[case] method: &str, #[case] path: &str, #[case] status: u16) {
        let ready = Ready::new();
        let _block = ready.block("proxy");
        let request = ::http::Request::builder().method(method).uri(path).body(()).unwrap();
        assert_eq!(routes(&ready, &request).status(), status);
    }
}
