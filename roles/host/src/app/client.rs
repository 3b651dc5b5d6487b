//! `app client`: asks again and again, prints one line per answer, and says at the end how it went.

mod attempt;
mod hold;

use std::time::{Duration, Instant};

use super::duration::{self, latency};

/// What to ask, how often and how hard.
#[derive(Debug, Clone, clap::Args)]
#[command(group(clap::ArgGroup::new("target").required(true).args(["url", "tcp"])))]
pub(crate) struct Args {
    /// HTTP address to ask, as in `http://server.shop:8080/`
    #[arg(long)]
    url: Option<http::Uri>,
    /// TCP echo to ask, as in server.shop:9000
    #[arg(long)]
    tcp: Option<String>,
    /// How many requests; 0 means until stopped
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Time from one request to the next
    #[arg(long, default_value = "1s", value_parser = duration::parse)]
    interval: Duration,
    /// Requests per second, instead of an interval
    #[arg(long, conflicts_with = "interval")]
    rate: Option<u32>,
    /// Longest wait for one answer
    #[arg(long, default_value = "5s", value_parser = duration::parse)]
    timeout: Duration,
    /// Send all requests on one connection while it lasts
    #[arg(long)]
    keep_alive: bool,
    /// Keep one TCP connection open and send a heartbeat line at every interval, until it breaks
    #[arg(long, requires = "tcp")]
    hold: bool,
    /// A header to send, as in `name: value`; may be given again
    #[arg(long = "header", value_parser = header)]
    headers: Vec<(http::HeaderName, http::HeaderValue)>,
    /// Text to send: the body of a POST, or the line of a TCP request
    #[arg(long)]
    body: Option<String>,
}

fn header(text: &str) -> Result<(http::HeaderName, http::HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| format!("`{text}` is not of the form name: value"))?;
    let name = name.trim().parse().map_err(|error| format!("`{name}`: {error}"))?;
    let value = value.trim().parse().map_err(|error| format!("`{value}`: {error}"))?;
    Ok((name, value))
}

/// Why a client run was no success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{failed} of {total} requests failed; the lines above say why")]
    Failed { failed: usize, total: usize },
    #[error("the held connection to {target} ended: {cause}")]
    Broken { target: String, cause: String },
}

pub(super) async fn run(args: Args) -> Result<(), Error> {
    if args.hold {
        return hold::run(&args).await;
    }
    let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
    let mut ticks = tokio::time::interval(period(&args).max(Duration::from_micros(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut target = attempt::Target::new(&args);
    let mut tally = Tally::default();
    let mut number = 0;
    while args.count == 0 || number < args.count {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = &mut stop => break,
        }
        number += 1;
        let started = Instant::now();
        let outcome = tokio::time::timeout(args.timeout, target.ask()).await;
        let elapsed = started.elapsed();
        let outcome = outcome.unwrap_or_else(|_| {
            target.forget();
            Err(format!("no answer within {:?}", args.timeout))
        });
        println!("n={number} {}", line(&outcome, elapsed));
        tally.count(outcome.is_ok_and(|answer| answer.good()), elapsed);
    }
    println!("{}", tally.summary());
    match tally.failed {
        0 => Ok(()),
        failed => Err(Error::Failed { failed, total: tally.total() }),
    }
}

fn period(args: &Args) -> Duration {
    args.rate.map_or(args.interval, |rate| Duration::from_secs(1) / rate.max(1))
}

fn line(outcome: &Result<attempt::Answer, String>, elapsed: Duration) -> String {
    match outcome {
        Ok(answer) => {
            let status = answer.status.map_or_else(|| "ok".to_owned(), |status| format!("status={status}"));
            let (server, peer) = (&answer.server, &answer.peer);
            format!("{status} latency={} server={server} peer={peer} body={:?}", latency(elapsed), answer.text)
        }
        Err(error) => format!("error={error:?} latency={}", latency(elapsed)),
    }
}

/// How many requests went well, and how long they took.
#[derive(Debug, Default)]
struct Tally {
    latencies: Vec<Duration>,
    failed: usize,
}

/// Latencies kept for the summary; enough for any percentile and small for an endless run.
const KEPT: usize = 100_000;

impl Tally {
    fn count(&mut self, good: bool, elapsed: Duration) {
        if !good {
            self.failed += 1;
        } else if self.latencies.len() < KEPT {
            self.latencies.push(elapsed);
        } else {
            let slot = rand::random_range(0..KEPT);
            self.latencies[slot] = elapsed;
        }
    }

    fn total(&self) -> usize {
        self.latencies.len() + self.failed
    }

    fn summary(&self) -> String {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let at = |share: usize| sorted.get((sorted.len() * share / 100).min(sorted.len().saturating_sub(1)));
        let show = |value: Option<&Duration>| value.map_or_else(|| "-".to_owned(), |value| latency(*value));
        format!(
            "summary requests={} ok={} failed={} p50={} p99={} max={}",
            self.total(),
            self.latencies.len(),
            self.failed,
            show(at(50)),
            show(at(99)),
            show(sorted.last()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_tells_percentiles_and_failures() {
        let mut tally = Tally::default();
        (1..=100).for_each(|millis| tally.count(true, Duration::from_millis(millis)));
        tally.count(false, Duration::from_secs(9));
        assert_eq!(tally.summary(), "summary requests=101 ok=100 failed=1 p50=51ms p99=100ms max=100ms");
        assert_eq!(Tally::default().summary(), "summary requests=0 ok=0 failed=0 p50=- p99=- max=-");
    }

    #[test]
    fn lines_have_the_fields_that_scripts_read() {
        let answer = attempt::Answer {
            status: Some(200),
            server: "web-1".to_owned(),
            peer: "10.244.1.2:4000".to_owned(),
            text: "hello".to_owned(),
        };
        let took = Duration::from_millis(12);
        assert_eq!(line(&Ok(answer), took), "status=200 latency=12ms server=web-1 peer=10.244.1.2:4000 body=\"hello\"");
        assert_eq!(line(&Err("connection refused".to_owned()), took), "error=\"connection refused\" latency=12ms");
    }
}
