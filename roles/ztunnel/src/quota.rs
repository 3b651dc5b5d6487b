//! What one pod may hold of the proxy that it shares with the node's other pods: connections, handshakes, streams and the bytes that
//! its peers may have in flight. What goes beyond is refused with a reason and counted, and a burst of it is one line in the log.

use crate::{config::QuotaConfig, flow, listener::local_address, pod::Pod};
use hbone::Windows;
use model::Reason;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use telemetry::access::Direction;
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// What is granted of buffers at a time.
const UNIT: u32 = 64 << 10;
/// Windows of a connection for which there is no room for full ones.
const NARROW: Windows = Windows { stream: UNIT, connection: 4 * UNIT, frame: 16 << 10 };
/// One peer's share of a pod's handshakes.
const SOURCE_SHARE: usize = 4;
/// Refusals that follow each other more closely are one burst.
const BURST: Duration = Duration::from_secs(10);

/// A limit of one pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Limit {
    Connections,
    Handshakes,
    Streams,
    BufferedBytes,
}

impl Limit {
    /// The label of its metric.
    fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Handshakes => "handshakes",
            Self::Streams => "streams",
            Self::BufferedBytes => "buffered_bytes",
        }
    }

    fn reason(self) -> Reason {
        Reason::Overloaded(match self {
            Self::Connections => "connections of one pod",
            Self::Handshakes => "TLS handshakes of one pod",
            Self::Streams => "tunnels of one pod",
            Self::BufferedBytes => "buffered bytes of one pod",
        })
    }
}

/// What a pod holds now.
#[derive(Debug)]
pub(crate) struct Quotas {
    connections: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    buffers: Arc<Semaphore>,
    /// What is kept for narrow windows.
    reserve: usize,
    handshakes: Arc<Handshakes>,
    bursts: Mutex<BTreeMap<Limit, Burst>>,
}

/// Handshakes that are going on, by who began them.
#[derive(Debug)]
struct Handshakes {
    most: usize,
    by_source: Mutex<HashMap<IpAddr, usize>>,
}

/// A handshake that is going on.
#[derive(Debug)]
pub(crate) struct Handshake {
    source: IpAddr,
    among: Arc<Handshakes>,
}

/// Refusals for one limit.
#[derive(Debug, Default)]
struct Burst {
    last: Option<Instant>,
    unsaid: u64,
}

impl Quotas {
    pub(crate) fn new(config: &QuotaConfig) -> Self {
        let room = |most: usize| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        Self {
            connections: room(config.connections),
            streams: room(config.streams),
            buffers: room(config.buffered_bytes / UNIT as usize),
            reserve: config.buffered_bytes / UNIT as usize / 4,
            handshakes: Arc::new(Handshakes { most: config.handshakes, by_source: Mutex::default() }),
            bursts: Mutex::default(),
        }
    }

    /// Room for a connection.
    pub(crate) fn connection(&self) -> Result<OwnedSemaphorePermit, Limit> {
        self.connections.clone().try_acquire_owned().map_err(|_| Limit::Connections)
    }

    /// Room for a tunnel.
    pub(crate) fn stream(&self) -> Result<OwnedSemaphorePermit, Limit> {
        self.streams.clone().try_acquire_owned().map_err(|_| Limit::Streams)
    }

    /// Room for a handshake; one source cannot take all of it.
    pub(crate) fn handshake(&self, source: IpAddr) -> Result<Handshake, Limit> {
        let mut by_source = self.handshakes.by_source.lock();
        let all: usize = by_source.values().sum();
        let own = by_source.entry(source).or_default();
        if all >= self.handshakes.most || *own >= (self.handshakes.most / SOURCE_SHARE).max(1) {
            if *own == 0 {
                by_source.remove(&source);
            }
            return Err(Limit::Handshakes);
        }
        *own += 1;
        Ok(Handshake { source, among: self.handshakes.clone() })
    }

    /// What a tunnel connection may have in flight: what is wanted, or little when there is not much left.
    pub(crate) fn windows(&self, wanted: Windows) -> Result<(Windows, OwnedSemaphorePermit), Limit> {
        let narrow = Windows {
            stream: NARROW.stream.min(wanted.stream),
            connection: NARROW.connection.min(wanted.connection),
            frame: wanted.frame,
        };
        let granted = |windows: Windows, left: usize| {
            let units = windows.connection.div_ceil(UNIT);
            let enough = self.buffers.available_permits() >= left + units as usize;
            let room = enough.then(|| self.buffers.clone().try_acquire_many_owned(units).ok()).flatten()?;
            Some((windows, room))
        };
        granted(wanted, self.reserve).or_else(|| granted(narrow, 0)).ok_or(Limit::BufferedBytes)
    }

    /// Notes a refusal; how many were not told of since the last one that was, when this one is to be told of.
    fn note(&self, limit: Limit) -> Option<u64> {
        let mut bursts = self.bursts.lock();
        let burst = bursts.entry(limit).or_default();
        let goes_on = burst.last.replace(Instant::now()).is_some_and(|last| last.elapsed() < BURST);
        if goes_on {
            burst.unsaid += 1;
            return None;
        }
        Some(std::mem::take(&mut burst.unsaid))
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut by_source = self.among.by_source.lock();
        if let Some(count) = by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                by_source.remove(&self.source);
            }
        }
    }
}

/// Counts and, once per burst, records a connection or a request that went beyond a limit.
pub(crate) fn refuse(pod: &Pod, limit: Limit, direction: Direction, source: SocketAddr, local: SocketAddr) {
    let proxy = &pod.proxy;
    proxy.metrics.limits_reached.add(&[limit.name()]);
    let workload = proxy.state.local_workload(&pod.info);
    flow::count_early(&proxy.metrics.traffic, direction, workload.as_deref(), &limit.reason());
    if let Some(unsaid) = pod.quotas.note(limit) {
        flow::log_early(direction, source, local, limit.reason());
        tracing::warn!(pod = %pod.info.name, limit = limit.name(), unsaid, "a pod has reached a limit");
    }
}

/// The same for a connection that was just accepted.
pub(crate) fn refuse_connection(pod: &Pod, limit: Limit, direction: Direction, stream: &TcpStream, source: SocketAddr) {
    refuse(pod, limit, direction, source, local_address(stream));
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Windows = Windows { stream: 4 << 20, connection: 16 << 20, frame: 1 << 20 };

    fn quotas() -> Quotas {
        Quotas::new(&QuotaConfig { connections: 2, handshakes: 8, streams: 3, buffered_bytes: 22 << 20 })
    }

    #[test]
    fn what_is_given_back_can_be_had_again() {
        let quotas = quotas();
        let held: Vec<_> = (0..2).map(|_| quotas.connection().unwrap()).collect();
        assert_eq!(quotas.connection().unwrap_err(), Limit::Connections);
        drop(held);
        assert!(quotas.connection().is_ok());
        let held: Vec<_> = (0..3).map(|_| quotas.stream().unwrap()).collect();
        assert_eq!(quotas.stream().unwrap_err(), Limit::Streams);
        drop(held);
    }

    #[test]
    fn one_source_leaves_handshakes_to_others() {
        let quotas = quotas();
        let source = |n: u8| IpAddr::from([10, 0, 0, n]);
        let greedy: Vec<_> = std::iter::from_fn(|| quotas.handshake(source(1)).ok()).collect();
        assert_eq!(greedy.len(), 2);
        let others: Vec<_> = (2..=4).flat_map(|n| [quotas.handshake(source(n)), quotas.handshake(source(n))]).collect();
        assert!(others.iter().all(Result::is_ok));
        assert_eq!(quotas.handshake(source(9)).unwrap_err(), Limit::Handshakes);
        drop((greedy, others));
        assert!(quotas.handshakes.by_source.lock().is_empty());
    }

    #[test]
    fn windows_become_narrow_before_there_are_none() {
        let quotas = quotas();
        let (full, _first) = quotas.windows(FULL).unwrap();
        assert_eq!(full, FULL);
        let narrow: Vec<_> = std::iter::from_fn(|| quotas.windows(FULL).ok()).collect();
        assert_eq!(narrow.len(), 24);
        assert!(narrow.iter().all(|(windows, _)| windows.connection == NARROW.connection));
        assert_eq!(quotas.windows(FULL).unwrap_err(), Limit::BufferedBytes);
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_told_of_once() {
        let quotas = quotas();
        assert_eq!(quotas.note(Limit::Streams), Some(0));
        for _ in 0..5 {
            tokio::time::advance(Duration::from_secs(5)).await;
            assert_eq!(quotas.note(Limit::Streams), None);
        }
        assert_eq!(quotas.note(Limit::Connections), Some(0));
        tokio::time::advance(BURST).await;
        assert_eq!(quotas.note(Limit::Streams), Some(5));
    }
}
