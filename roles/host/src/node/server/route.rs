//! What a request to the kubelet's endpoint asks for, read from its address alone.

use http::{StatusCode, Uri};

/// A container of a pod, or a whole pod when the container is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) container: String,
}

/// Which part of a log, and how.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct LogOptions {
    pub(super) follow: bool,
    pub(super) previous: bool,
    pub(super) timestamps: bool,
    pub(super) tail: Option<usize>,
    pub(super) limit_bytes: Option<u64>,
    pub(super) since: Option<jiff::Timestamp>,
}

/// What to run in a container, and with which streams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ExecOptions {
    pub(super) command: Vec<String>,
    pub(super) stdin: bool,
    pub(super) tty: bool,
}

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Route {
    Health,
    Logs(Target, LogOptions),
    Exec(Target, ExecOptions),
    Forward(Target, Vec<u16>),
}

/// Reads a request's address.
pub(super) fn route(uri: &Uri) -> Result<Route, (StatusCode, String)> {
    let bad = |problem: String| (StatusCode::BAD_REQUEST, problem);
    let parts: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
    let target = |namespace: &str, pod: &str, container: &str| Target {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        container: container.to_owned(),
    };
    match parts.as_slice() {
        ["healthz"] => Ok(Route::Health),
        ["containerLogs", namespace, pod, container] => {
            let options = log_options(uri, jiff::Timestamp::now()).map_err(bad)?;
            Ok(Route::Logs(target(namespace, pod, container), options))
        }
        ["exec", namespace, pod, container] => {
            let flag = |name: &str| matches!(runtime::http::query(uri, name).as_deref(), Some("1" | "true"));
            let options = ExecOptions { command: all(uri, "command"), stdin: flag("input"), tty: flag("tty") };
            if options.command.is_empty() {
                return Err(bad("you must specify at least one command for the container".to_owned()));
            }
            Ok(Route::Exec(target(namespace, pod, container), options))
        }
        ["portForward", namespace, pod] => {
            let ports: Result<Vec<u16>, _> = all(uri, "port").iter().map(|port| port.parse()).collect();
            let ports = ports.map_err(|_| bad("port must be a number from 1 to 65535".to_owned()))?;
            Ok(Route::Forward(target(namespace, pod, ""), ports))
        }
        ["attach", ..] => Err((StatusCode::NOT_IMPLEMENTED, "attach is not served here: use logs or exec".to_owned())),
        _ => Err((StatusCode::NOT_FOUND, format!("{} is not served here", uri.path()))),
    }
}

/// Every value of a parameter, in order.
fn all(uri: &Uri, name: &str) -> Vec<String> {
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| pair.split('=').next() == Some(name));
    // One pair at a time through the reader of single parameters, which knows the encoding.
    let single = |pair: &str| format!("/?{pair}").parse::<Uri>().ok();
    pairs.filter_map(|pair| runtime::http::query(&single(pair)?, name)).collect()
}

fn log_options(uri: &Uri, now: jiff::Timestamp) -> Result<LogOptions, String> {
    let value = |name: &str| runtime::http::query(uri, name).filter(|text| !text.is_empty());
    let flag = |name: &str| matches!(value(name).as_deref(), Some("1" | "true"));
    let number = |name: &str| match value(name).map(|text| text.parse::<u64>()) {
        None => Ok(None),
        Some(Ok(number)) => Ok(Some(number)),
        Some(Err(_)) => Err(format!("{name} must be a number that is not negative")),
    };
    let since = match (number("sinceSeconds")?, value("sinceTime")) {
        (Some(seconds), _) => {
            let back = jiff::SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
            Some(now.checked_sub(back).unwrap_or(jiff::Timestamp::MIN))
        }
        (None, Some(text)) => Some(text.parse().map_err(|_| "sinceTime must be an RFC 3339 time".to_owned())?),
        (None, None) => None,
    };
    Ok(LogOptions {
        follow: flag("follow"),
        previous: flag("previous"),
        timestamps: flag("timestamps"),
        tail: number("tailLines")?.and_then(|lines| usize::try_from(lines).ok()),
        limit_bytes: number("limitBytes")?,
        since,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(container: &str) -> Target {
        Target { namespace: "a".to_owned(), pod: "p".to_owned(), container: container.to_owned() }
    }

    fn command(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[rstest::rstest]
    #[case("/healthz", Route::Health)]
    #[case(
        "/containerLogs/a/p/c?follow=true&tailLines=5",
        Route::Logs(target("c"), LogOptions { follow: true, tail: Some(5), ..Default::default() })
    )]
    #[case(
        "/exec/a/p/c?command=sh&command=-c&command=a%20%26+b&input=1&output=1&tty=1",
        Route::Exec(target("c"), ExecOptions { command: command(&["sh", "-c", "a & b"]), stdin: true, tty: true })
    )]
    #[case("/portForward/a/p?port=80&port=81", Route::Forward(target(""), vec![80, 81]))]
    fn routes(#[case] address: &str, #[case] expected: Route) {
        assert_eq!(route(&address.parse().unwrap()), Ok(expected));
    }

    #[rstest::rstest]
    #[case("/", StatusCode::NOT_FOUND)]
    #[case("/exec/a/p/c", StatusCode::BAD_REQUEST)]
    #[case("/portForward/a/p?port=http", StatusCode::BAD_REQUEST)]
    #[case("/containerLogs/a/p/c?tailLines=-1", StatusCode::BAD_REQUEST)]
    #[case("/attach/a/p/c", StatusCode::NOT_IMPLEMENTED)]
    fn refusals(#[case] address: &str, #[case] status: StatusCode) {
        assert_eq!(route(&address.parse().unwrap()).unwrap_err().0, status);
    }
}
