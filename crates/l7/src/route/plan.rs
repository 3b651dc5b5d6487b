//! What is done with one request: answered here, or sent to a backend with edits.

use super::{
    Head, Selected,
    filter::{Direct, HeaderEdit, PathEdit, Redirect, Rewrite},
    rule::{Abort, Backend, Rule},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri, header};
use std::{sync::Arc, time::Duration};

/// What is done with one request.
#[derive(Debug)]
pub enum Plan {
    /// It is answered here.
    Reply(Reply),
    /// It is sent on.
    Forward(Forward),
}

/// An answer of our own.
#[derive(Debug)]
pub struct Reply {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// What metrics and logs call it: `NR`, `FI`, ….
    pub flags: &'static str,
    /// Why, in one word for logs.
    pub details: &'static str,
}

/// Where a request is sent, and how it is changed.
#[derive(Debug)]
pub struct Forward {
    /// The rule that it follows.
    pub rule: Arc<Rule>,
    /// Which of the rule's backends.
    pub backend: usize,
    /// Another path.
    pub path: Option<String>,
    /// Another host.
    pub host: Option<HeaderValue>,
}

impl Reply {
    /// An answer with a text.
    pub fn text(status: u16, body: &'static str, flags: &'static str, details: &'static str) -> Self {
        let mut headers = HeaderMap::new();
        if !body.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        }
        Self { status, headers, body: Bytes::from_static(body.as_bytes()), flags, details }
    }

    /// No rule matches.
    pub fn no_route() -> Self {
        Self::text(404, "", "NR", "route_not_found")
    }

    /// The rule leads nowhere.
    fn no_backend() -> Self {
        Self::text(500, "", "NC", "direct_response")
    }

    fn direct(direct: &Direct) -> Self {
        Self { body: direct.body.clone(), ..Self::text(direct.status, "", "-", "direct_response") }
    }
}

impl Forward {
    /// The backend.
    pub fn backend(&self) -> &Backend {
        &self.rule.backends[self.backend]
    }

    /// Edits of the request's headers: the rule's, then the backend's.
    pub fn request_edits(&self) -> impl Iterator<Item = &HeaderEdit> {
        self.rule.filters.request.iter().chain(&self.backend().filters.request)
    }

    /// Edits of the response's headers: the backend's, then the rule's.
    pub fn response_edits(&self) -> impl Iterator<Item = &HeaderEdit> {
        self.backend().filters.response.iter().chain(&self.rule.filters.response)
    }
}

/// What is done with a request that follows a rule. `random` gives a number below its argument.
pub fn plan(selected: &Selected, head: &Head<'_>, mut random: impl FnMut(u64) -> u64) -> Plan {
    let Selected { rule, prefix } = selected;
    if let Some(cors) = &rule.filters.cors
        && let Some(headers) = cors.preflight(head.method, head.headers)
    {
        return Plan::Reply(Reply { headers, ..Reply::text(200, "", "-", "cors_preflight") });
    }
    if let Some(direct) = &rule.filters.direct {
        return Plan::Reply(Reply::direct(direct));
    }
    if let Some(redirect) = &rule.filters.redirect {
        return Plan::Reply(redirection(redirect, head, *prefix));
    }
    let Some(backend) = rule.backend(&mut random) else { return Plan::Reply(Reply::no_backend()) };
    if let Some(redirect) = &backend.filters.redirect {
        return Plan::Reply(redirection(redirect, head, *prefix));
    }
    if backend.invalid.is_some() {
        return Plan::Reply(Reply::no_backend());
    }
    let index = rule.backends.iter().position(|other| std::ptr::eq(other, backend)).unwrap_or_default();
    let (host, path) = rewriting(backend.filters.rewrite.as_ref().or(rule.filters.rewrite.as_ref()), head, *prefix);
    Plan::Forward(Forward { rule: rule.clone(), backend: index, path, host })
}

/// Faults that this request meets: how long it waits, and how it fails.
pub fn fault(rule: &Rule, mut random: impl FnMut(u64) -> u64) -> (Option<Duration>, Option<Abort>) {
    let mut hit = |share: u32| random(1_000_000) < u64::from(share);
    let fault = rule.fault.as_ref();
    let delay = fault.and_then(|fault| fault.delay).filter(|(share, _)| hit(*share)).map(|(_, time)| time);
    let abort = fault.and_then(|fault| fault.abort).filter(|(share, _)| hit(*share)).map(|(_, abort)| abort);
    (delay, abort)
}

fn rewriting(rewrite: Option<&Rewrite>, head: &Head<'_>, prefix: usize) -> (Option<HeaderValue>, Option<String>) {
    let Some(rewrite) = rewrite else { return (None, None) };
    let path = rewrite.path.as_ref().map(|edit| with_query(edit, head, prefix));
    (rewrite.host.clone(), path)
}

fn with_query(edit: &PathEdit, head: &Head<'_>, prefix: usize) -> String {
    let path = edit.apply(head.path, prefix);
    match head.query {
        Some(query) if !path.contains('?') => format!("{path}?{query}"),
        _ => path,
    }
}

/// The answer that sends the client elsewhere. A port that its scheme implies is not written.
fn redirection(redirect: &Redirect, head: &Head<'_>, prefix: usize) -> Reply {
    let scheme = redirect.scheme.as_deref().unwrap_or(head.scheme);
    let host = redirect.host.as_deref().unwrap_or_else(|| head.host());
    let own = if redirect.keep_port { written_port(head.authority) } else { Some(head.port) };
    let port = match (redirect.port, &redirect.scheme) {
        (Some(port), _) => Some(port),
        (None, Some(_)) => None,
        (None, None) => own,
    };
    let path = match &redirect.path {
        Some(edit) => with_query(edit, head, prefix),
        None => head.query.map_or_else(|| head.path.to_owned(), |query| format!("{}?{query}", head.path)),
    };
    let implied = |port: &u16| matches!((scheme, port), ("http", 80) | ("https", 443));
    let location = match port.filter(|port| !implied(port)) {
        Some(port) => format!("{scheme}://{host}:{port}{path}"),
        None => format!("{scheme}://{host}{path}"),
    };
    let mut reply = Reply::text(redirect.status, "", "-", "direct_response");
    match location.parse::<Uri>().ok().and_then(|_| HeaderValue::try_from(location).ok()) {
        Some(location) => {
            reply.headers.insert(header::LOCATION, location);
            reply
        }
        // What the client sent cannot stand in a location: it is told nothing rather than something else.
        None => Reply::text(400, "", "-", "bad_redirect"),
    }
}

fn written_port(authority: &str) -> Option<u16> {
    let host = super::host(authority);
    authority[host.len()..].strip_prefix(':')?.parse().ok()
}
