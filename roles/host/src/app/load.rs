//! `app load`: as much traffic as one thread makes, for a given time, against `app sink`; one JSON line tells what came of it.
//!
//! Each connection is a task on one thread: what is measured is the path, so the maker must cost as little as it can. Nothing is
//! counted that the sink has not confirmed. Comparing paths, and saying what is good, is left to whoever runs this.

mod bulk;
mod histogram;
mod requests;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use tokio::net::TcpStream;

use super::duration;
use histogram::Histogram;

/// What traffic to make.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Kind of traffic
    #[arg(long, value_enum)]
    mode: Mode,
    /// An `app sink` to send it to, as in 10.244.2.5:9100
    #[arg(long)]
    target: String,
    /// How many at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// How long
    #[arg(long, default_value = "2s", value_parser = duration::parse)]
    duration: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// Bytes, as many as go through
    Bulk,
    /// One HTTP request after the other on connections that stay open
    Http,
    /// A connection for each HTTP request
    Connect,
}

/// How long after its end a run may take to be confirmed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot find {target}: {source}; name it as HOST:PORT")]
    Resolve { target: String, source: io::Error },
    #[error("a connection to {target} failed: {source}; does `app sink` listen there?")]
    Connection { target: SocketAddr, source: io::Error },
    #[error("{target} did not confirm the end within {PATIENCE:?} after {duration:?} of traffic; the path is stuck")]
    Stuck { target: SocketAddr, duration: Duration },
}

/// What went through.
#[derive(Debug, Default)]
struct Tally {
    bytes: u64,
    operations: u64,
    errors: u64,
    latencies: Histogram,
    elapsed: Duration,
}

/// The line that is printed.
#[derive(Debug, Serialize)]
struct Report {
    mode: Mode,
    connections: u16,
    seconds: f64,
    bytes: u64,
    operations: u64,
    errors: u64,
    bytes_per_second: f64,
    operations_per_second: f64,
    p50_us: f64,
    p99_us: f64,
}

pub(super) fn main(args: &Args) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let thread = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tally = thread.block_on(run(args))?;
    println!("{}", serde_json::to_string(&report(args, &tally))?);
    Ok(())
}

async fn run(args: &Args) -> Result<Tally, Error> {
    let target = resolve(&args.target).await?;
    let traffic = async {
        match args.mode {
            Mode::Bulk => bulk::run(target, args.connections, args.duration).await,
            Mode::Http => requests::keep_alive(target, args.connections, args.duration).await,
            Mode::Connect => requests::connect(target, args.connections, args.duration).await,
        }
    };
    match tokio::time::timeout(args.duration + PATIENCE, traffic).await {
        Ok(tally) => tally.map_err(|source| Error::Connection { target, source }),
        Err(_) => Err(Error::Stuck { target, duration: args.duration }),
    }
}

async fn resolve(target: &str) -> Result<SocketAddr, Error> {
    let fail = |source| Error::Resolve { target: target.to_owned(), source };
    let mut found = tokio::net::lookup_host(target).await.map_err(fail)?;
    found.next().ok_or_else(|| fail(io::Error::new(io::ErrorKind::NotFound, "the name has no address")))
}

fn report(args: &Args, tally: &Tally) -> Report {
    let seconds = tally.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
    let micros = |share| tally.latencies.quantile(share).as_secs_f64() * 1e6;
    Report {
        mode: args.mode,
        connections: args.connections,
        seconds,
        bytes: tally.bytes,
        operations: tally.operations,
        errors: tally.errors,
        bytes_per_second: tally.bytes as f64 / seconds,
        operations_per_second: tally.operations as f64 / seconds,
        p50_us: micros(0.50),
        p99_us: micros(0.99),
    }
}

async fn open(target: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::super::sink;
    use super::*;

    #[rstest::rstest]
    #[case(Mode::Bulk)]
    #[case(Mode::Http)]
    #[case(Mode::Connect)]
    #[tokio::test]
    async fn what_the_sink_confirms_is_counted(#[case] mode: Mode) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string();
        let served = tokio::spawn(sink::serve(listener));
        let args = Args { mode, target, connections: 3, duration: Duration::from_millis(20) };
        let tally = run(&args).await.unwrap();
        served.abort();
        assert_eq!(tally.errors, 0);
        match mode {
            Mode::Bulk => assert!(tally.bytes > 0),
            Mode::Http | Mode::Connect => assert!(tally.operations >= 3 && tally.latencies.count() == tally.operations),
        }
        assert!(report(&args, &tally).seconds > 0.0);
    }

    #[tokio::test]
    async fn nobody_listening_is_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string();
        drop(listener);
        let args = Args { mode: Mode::Http, target, connections: 1, duration: Duration::from_millis(1) };
        assert!(run(&args).await.unwrap_err().to_string().contains("does `app sink` listen"));
    }
}
