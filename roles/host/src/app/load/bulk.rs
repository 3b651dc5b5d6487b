//! Bytes in one direction. The sink tells at the end how many it got: that number counts, and the time until it is told.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Tally, open};

const CHUNK: usize = 256 * 1024;

pub(super) async fn run(target: SocketAddr, connections: u16, duration: Duration) -> io::Result<Tally> {
    let mut streams = Vec::new();
    for _ in 0..connections {
        streams.push(open(target).await?);
    }
    let begun = Instant::now();
    let mut pushing: JoinSet<_> = streams.into_iter().map(|stream| push(stream, begun + duration)).collect();
    let mut tally = Tally::default();
    while let Some(pushed) = pushing.join_next().await {
        tally.bytes += pushed.map_err(io::Error::other)??;
        tally.operations += 1;
    }
    tally.elapsed = begun.elapsed();
    Ok(tally)
}

/// Sends zeroes until the time is over; how many arrived.
async fn push(mut stream: TcpStream, until: Instant) -> io::Result<u64> {
    let chunk = vec![0; CHUNK];
    let mut sent = 0;
    while Instant::now() < until {
        sent += stream.write(&chunk).await? as u64;
    }
    stream.shutdown().await?;
    let arrived = stream.read_u64().await?;
    if arrived != sent {
        let told = format!("{sent} bytes were sent and {arrived} arrived");
        return Err(io::Error::new(io::ErrorKind::InvalidData, told));
    }
    Ok(arrived)
}
