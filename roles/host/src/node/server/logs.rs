//! Logs of a container, as far as they go or as they grow.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::route::{LogOptions, Target};
use super::{Reply, text};
use crate::node::context::Context;
use crate::node::log::{self, Selection};

/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(100);

pub(super) async fn answer(context: &Arc<Context>, target: &Target, options: &LogOptions) -> Reply {
    let (path, restart) = match find(context, target, options.previous) {
        Ok(found) => found,
        Err((status, problem)) => return text(status, problem),
    };
    let file = match File::open(&path).await {
        Ok(file) => file,
        Err(error) => {
            return text(StatusCode::NOT_FOUND, format!("cannot read the log of {}: {error}", target.container));
        }
    };
    let (sender, body) = Channel::<Bytes>::new(16);
    let (context, target, options) = (context.clone(), target.clone(), options.clone());
    runtime::task::spawn("log reader", async move {
        let runs = || {
            let pod = context.running.find(&target.namespace, &target.pod);
            pod.is_some_and(|pod| {
                pod.containers.contains_key(&target.container) && pod.restarts.get(&target.container) == Some(&restart)
            })
        };
        let reader = Reader { sender, left: options.limit_bytes.unwrap_or(u64::MAX) };
        if let Err(error) = reader.run(file, &options, runs).await {
            tracing::debug!(%error, path = %path.display(), "log reader ended");
        }
    });
    http::Response::new(body.boxed_unsync())
}

fn find(context: &Context, target: &Target, previous: bool) -> Result<(PathBuf, i32), (StatusCode, String)> {
    let none = |problem: String| (StatusCode::NOT_FOUND, problem);
    let pod = context.running.find(&target.namespace, &target.pod);
    let pod = pod.ok_or_else(|| none(format!("pod {}/{} does not run on this node", target.namespace, target.pod)))?;
    let restart = pod.restarts.get(&target.container).copied();
    let bad = |problem: String| (StatusCode::BAD_REQUEST, problem);
    let waiting = || format!("container {:?} in pod {:?} is waiting to start", target.container, target.pod);
    let restart = restart.ok_or_else(|| bad(waiting()))?;
    let wanted = if previous { restart - 1 } else { restart };
    if wanted < 0 {
        let problem = format!("previous terminated container {:?} in pod {:?} not found", target.container, target.pod);
        return Err(bad(problem));
    }
    let folder = log::folder(&context.logs, &target.namespace, &target.pod, &pod.uid, &target.container);
    Ok((log::file(Path::new(&folder), wanted), wanted))
}

/// Sends a log to whoever asked.
struct Reader {
    sender: Sender<Bytes>,
    left: u64,
}

impl Reader {
    async fn run(mut self, file: File, options: &LogOptions, runs: impl Fn() -> bool) -> std::io::Result<()> {
        let selection = Selection { since: options.since, timestamps: options.timestamps };
        let mut lines = BufReader::new(file);
        let mut line = Vec::new();
        let mut tail = options.tail.map(|count| (count, VecDeque::new()));
        loop {
            // Asked first: what the container wrote before it ended is then in the file.
            let still = runs();
            while lines.read_until(b'\n', &mut line).await? > 0 && line.ends_with(b"\n") {
                let shown = log::shown(line.strip_suffix(b"\n").unwrap_or(&line), &selection);
                line.clear();
                match (&mut tail, shown) {
                    (_, None) => {}
                    (None, Some(shown)) => {
                        if !self.send(shown).await {
                            return Ok(());
                        }
                    }
                    (Some((count, kept)), Some(shown)) => {
                        kept.push_back(shown);
                        if kept.len() > *count {
                            kept.pop_front();
                        }
                    }
                }
            }
            for shown in tail.take().into_iter().flat_map(|(_, kept)| kept) {
                if !self.send(shown).await {
                    return Ok(());
                }
            }
            if !options.follow || !still {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether more is wanted.
    async fn send(&mut self, mut shown: Vec<u8>) -> bool {
        let fits = usize::try_from(self.left).unwrap_or(usize::MAX);
        shown.truncate(fits);
        self.left -= shown.len() as u64;
        self.sender.send_data(shown.into()).await.is_ok() && self.left > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str =
        "2026-01-01T00:00:01Z stdout F one\n2026-01-01T00:00:02Z stdout F two\n2026-01-01T00:00:03Z stderr F three\n";

    async fn read(options: LogOptions) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let (sender, body) = Channel::<Bytes>::new(16);
        let reader = Reader { sender, left: options.limit_bytes.unwrap_or(u64::MAX) };
        let file = File::open(path).await.unwrap();
        let (ended, body) = tokio::join!(reader.run(file, &options, || false), body.collect());
        ended.unwrap();
        String::from_utf8(body.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[rstest::rstest]
    #[case::all(LogOptions::default(), "one\ntwo\nthree\n")]
    #[case::tail(LogOptions { tail: Some(2), ..Default::default() }, "two\nthree\n")]
    #[case::no_tail(LogOptions { tail: Some(0), ..Default::default() }, "")]
    #[case::bytes(LogOptions { limit_bytes: Some(5), ..Default::default() }, "one\nt")]
    #[case::since(LogOptions { since: Some("2026-01-01T00:00:03Z".parse().unwrap()), ..Default::default() }, "three\n")]
    #[case::followed_to_the_end(LogOptions { follow: true, ..Default::default() }, "one\ntwo\nthree\n")]
    #[tokio::test]
    async fn parts(#[case] options: LogOptions, #[case] expected: &str) {
        assert_eq!(read(options).await, expected);
    }
}
