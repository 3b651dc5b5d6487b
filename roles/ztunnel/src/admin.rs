//! What people and tools ask the proxy over HTTP: admin on localhost (ztunnel.md §12.1), metrics for everybody (§11.1).

mod dump;
mod dump_config;
mod dump_mesh;

use crate::{pod::Starter, proxy::Proxy};
use ::http::{Method, StatusCode, header};
use inpod::agent::SharedRoster;
use runtime::{
    Shutdown,
    http::{self, Request, Response},
};
use std::sync::Arc;
use telemetry::{
    log::Levels,
    metrics::{self, Registry},
};

const LOGGING_HELP: &str = "usage: POST /logging                     (what is in force)
usage: POST /logging?level=<level>       (for everything)
usage: POST /logging?level=<target>=<level>,<target>=<level>
usage: POST /logging?reset               (as at the start; may be followed by level=…)
levels: error, warn, info, debug, trace, off
";

const INDEX: &str = "<html><head><title>ztunnel</title></head><body><ul>
<li><a href=\"/config_dump\">/config_dump</a>: what the proxy knows</li>
<li>POST /logging: show or change log levels</li>
<li>POST /quitquitquit: drain and end</li>
</ul></body></html>
";

/// Everything that can be asked about or changed.
#[derive(Debug)]
pub(crate) struct Admin {
    /// The proxy.
    pub proxy: Arc<Proxy>,
    /// Its pods.
    pub roster: SharedRoster<Starter>,
    /// Its log levels.
    pub levels: Option<Levels>,
    /// Ends it.
    pub shutdown: Shutdown,
    /// Its metrics.
    pub registry: Registry,
}

/// Answers on the admin port.
pub(crate) fn admin<B>(admin: &Admin, request: &Request<B>) -> Response {
    match request.uri().path() {
        "/" => http::with_type(StatusCode::OK, "text/html; charset=utf-8", INDEX),
        "/config_dump" => dump(admin),
        "/logging" => logging(admin.levels.as_ref(), request),
        "/quitquitquit" if request.method() == Method::POST => {
            admin.shutdown.trigger();
            http::text(StatusCode::OK, "shutdown now\n")
        }
        "/quitquitquit" => http::text(StatusCode::METHOD_NOT_ALLOWED, "use POST\n"),
        _ => http::text(StatusCode::NOT_FOUND, "not found\n"),
    }
}

fn dump(admin: &Admin) -> Response {
    let pending: Vec<_> = {
        let roster = admin.roster.lock();
        roster.pending().map(|(uid, info)| (uid.clone(), info.clone())).collect()
    };
    match serde_json::to_vec_pretty(&dump::dump(&admin.proxy, &pending)) {
        Ok(json) => http::json(StatusCode::OK, json),
        Err(error) => http::text(StatusCode::INTERNAL_SERVER_ERROR, format!("writing the dump: {error}\n")),
    }
}

fn logging<B>(levels: Option<&Levels>, request: &Request<B>) -> Response {
    if request.method() != Method::POST {
        return http::text(StatusCode::METHOD_NOT_ALLOWED, LOGGING_HELP);
    }
    let Some(levels) = levels else {
        return http::text(StatusCode::NOT_FOUND, "the log of this process is not the proxy's\n");
    };
    if http::query(request.uri(), "reset").is_some() {
        levels.reset();
    }
    if let Some(directives) = http::query(request.uri(), "level").filter(|directives| !directives.is_empty())
        && let Err(error) = levels.set(&directives)
    {
        return http::text(StatusCode::BAD_REQUEST, format!("{error}\n{LOGGING_HELP}"));
    }
    http::text(StatusCode::OK, format!("current log level is {}\n", levels.show()))
}

/// Answers on the metrics port.
pub(crate) fn stats<B>(admin: &Admin, request: &Request<B>) -> Response {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics" | "/stats/prometheus") => {
            admin.proxy.count_bytes();
            let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
            let body = admin.registry.encode().into_bytes();
            http::compressed(request.headers(), metrics::content_type(accept), body)
        }
        _ => http::text(StatusCode::NOT_FOUND, "not found\n"),
    }
}
