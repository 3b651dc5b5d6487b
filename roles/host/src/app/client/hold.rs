//! `app client --hold`: one connection with heartbeats, to see whether something cuts it and when.

use tokio::io::BufReader;

use super::{Args, Error, attempt, period};

/// Sends a numbered line at every interval until the connection breaks or `--count` is reached.
pub(super) async fn run(args: &Args) -> Result<(), Error> {
    let target = args.tcp.clone().unwrap_or_default();
    let mut number = 0;
    let cause = match beat(args, &target, &mut number).await {
        Ok(()) => return Ok(()),
        Err(cause) => cause,
    };
    println!("closed at={} after={number} error={cause:?}", jiff::Timestamp::now());
    Err(Error::Broken { target, cause })
}

async fn beat(args: &Args, target: &str, number: &mut u64) -> Result<(), String> {
    let stream = tokio::time::timeout(args.timeout, attempt::connect(target)).await;
    let stream = stream.map_err(|_| format!("cannot connect to {target} within {:?}", args.timeout))??;
    println!("open at={} target={target}", jiff::Timestamp::now());
    let mut stream = BufReader::new(stream);
    let mut ticks = tokio::time::interval(period(args).max(std::time::Duration::from_millis(1)));
    while args.count <= 1 || *number < args.count {
        ticks.tick().await;
        let line = args.body.as_deref().map_or_else(|| format!("beat {}", *number + 1), str::to_owned);
        let answer = tokio::time::timeout(args.timeout, attempt::exchange(&mut stream, &line)).await;
        answer.map_err(|_| format!("no answer within {:?}", args.timeout))??;
        *number += 1;
        println!("n={number} ok at={}", jiff::Timestamp::now());
    }
    Ok(())
}
