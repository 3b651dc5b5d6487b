//! Groups of variables that belong together: tunnels, sockets, threads, the time to drain.

use super::{ConfigError, Environment, Mode, OwnWorkload, ProxyConfig, TunnelConfig, conflict, threads};
use inpod::SocketConfig;
use model::well_known;
use std::time::Duration;

/// What one pod may hold at a time of the proxy that all pods share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaConfig {
    /// Captured connections.
    pub connections: usize,
    /// TLS handshakes with its peers.
    pub handshakes: usize,
    /// Tunnels that its peers have opened.
    pub streams: usize,
    /// Bytes that its peers may have in flight, over all their tunnel connections.
    pub buffered_bytes: usize,
}

impl super::Config {
    /// Whether framing has the keys of its connections: our own does, where there is only TLS 1.3.
    pub(crate) fn seals(&self) -> bool {
        self.tunnels.engine == hbone::Engine::Own && !self.certificates.tls12
    }
}

pub(super) fn tunnels(environment: &Environment) -> Result<TunnelConfig, ConfigError> {
    let engine = environment.with("HBONE_ENGINE", |text| match text {
        "own" => Ok(hbone::Engine::Own),
        "h2" => Ok(hbone::Engine::Reference),
        _ => Err("it is own or h2".to_owned()),
    })?;
    let same_node = environment.with("SAME_NODE_TUNNEL", |text| match text {
        "always" => Ok(true),
        "never" => Ok(false),
        _ => Err("it is always or never".to_owned()),
    })?;
    let config = TunnelConfig {
        engine: engine.unwrap_or_default(),
        same_node: same_node.unwrap_or(false),
        stream_window: environment.parse("HTTP2_STREAM_WINDOW_SIZE", 4 << 20)?,
        connection_window: environment.parse("HTTP2_CONNECTION_WINDOW_SIZE", 16 << 20)?,
        frame_size: environment.parse("HTTP2_FRAME_SIZE", 1 << 20)?,
        max_streams: environment.parse("POOL_MAX_STREAMS_PER_CONNECTION", 100)?,
        unused_release: environment.duration("POOL_UNUSED_RELEASE_TIMEOUT")?.unwrap_or(Duration::from_secs(300)),
    };
    if config.max_streams == 0 {
        return conflict("POOL_MAX_STREAMS_PER_CONNECTION=0 would open no tunnel; use 1 or more");
    }
    if !(16_384..=16_777_215).contains(&config.frame_size) {
        return conflict("HTTP2_FRAME_SIZE must lie between 16384 and 16777215");
    }
    Ok(config)
}

/// Limits of one pod; none may be so low that nothing passes.
pub(super) fn quotas(environment: &Environment) -> Result<QuotaConfig, ConfigError> {
    let config = QuotaConfig {
        connections: environment.parse("POD_MAX_CONNECTIONS", 32 << 10)?,
        handshakes: environment.parse("POD_MAX_HANDSHAKES", 256)?,
        streams: environment.parse("POD_MAX_STREAMS", 32 << 10)?,
        buffered_bytes: environment.parse("POD_MAX_BUFFERED_BYTES", 1 << 30)?,
    };
    if config.connections == 0 || config.handshakes == 0 || config.streams == 0 || config.buffered_bytes < 1 << 20 {
        return conflict("POD_MAX_* of 0, or POD_MAX_BUFFERED_BYTES below 1 MiB, would let nothing pass; raise it");
    }
    Ok(config)
}

/// One proxy for a node's pods, or one for a single workload.
pub(super) fn mode(environment: &Environment) -> Result<Mode, ConfigError> {
    let dedicated = |text: &str| match text.to_ascii_lowercase().as_str() {
        "shared" => Ok(false),
        "dedicated" => Ok(true),
        _ => Err("the modes are shared and dedicated".to_owned()),
    };
    let dedicated = environment.with("PROXY_MODE", dedicated)?.unwrap_or(false);
    match (dedicated, environment.with("PROXY_WORKLOAD_INFO", workload)?) {
        (false, None) => Ok(Mode::Shared),
        (true, Some(workload)) => Ok(Mode::Dedicated(workload)),
        (true, None) => conflict("PROXY_MODE=dedicated needs PROXY_WORKLOAD_INFO=<namespace>/<name>/<service account>"),
        (false, Some(_)) => conflict("PROXY_WORKLOAD_INFO belongs to PROXY_MODE=dedicated; set that, or unset it"),
    }
}

fn workload(text: &str) -> Result<OwnWorkload, String> {
    match text.split('/').collect::<Vec<_>>()[..] {
        [namespace, name, service_account] if ![namespace, name, service_account].contains(&"") => {
            let (namespace, name) = (namespace.into(), name.into());
            Ok(OwnWorkload { name, namespace, service_account: service_account.into() })
        }
        _ => Err("it is <namespace>/<name>/<service account>".to_owned()),
    }
}

pub(super) fn sockets(environment: &Environment, mode: &Mode) -> Result<SocketConfig, ConfigError> {
    let flag = |text: &str| text.parse::<bool>().map_err(|error| error.to_string());
    Ok(SocketConfig {
        mark: mark(environment, mode)?,
        port_reuse: environment.parse("INPOD_PORT_REUSE", true)?,
        original_source: environment.with("ENABLE_ORIG_SRC", flag)?,
        ipv6: environment.parse("IPV6_ENABLED", true)?,
        keepalive: environment.parse("KEEPALIVE_ENABLED", true)?,
        keepalive_time: environment.duration("KEEPALIVE_TIME")?.unwrap_or(Duration::from_secs(180)),
        keepalive_interval: environment.duration("KEEPALIVE_INTERVAL")?.unwrap_or(Duration::from_secs(180)),
        keepalive_retries: environment.parse("KEEPALIVE_RETRIES", 9)?,
        user_timeout: environment.parse("USER_TIMEOUT_ENABLED", false)?,
    })
}

/// Only where the proxy shares its place with none of its workloads can it do without a mark.
fn mark(environment: &Environment, mode: &Mode) -> Result<Option<u32>, ConfigError> {
    let given = environment.with("PACKET_MARK", |text| text.parse::<u32>().map_err(|error| error.to_string()))?;
    Ok(given.or_else(|| (*mode == Mode::Shared).then_some(well_known::PROXY_MARK)))
}

pub(super) fn worker_threads(environment: &Environment, proxy_config: &ProxyConfig) -> Result<usize, ConfigError> {
    let setting = environment.text("ZTUNNEL_WORKER_THREADS");
    let limit = environment.text("ZTUNNEL_RESOURCE_CPU_LIMIT");
    let request = environment.text("ZTUNNEL_RESOURCE_CPU_REQUEST");
    let limit_cores = environment.text("ZTUNNEL_CPU_LIMIT");
    threads::worker_threads(&threads::Sizing {
        setting: setting.as_deref(),
        concurrency: proxy_config.concurrency,
        limit: limit.as_deref(),
        request: request.as_deref(),
        limit_cores: limit_cores.as_deref(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
    })
}

pub(super) fn termination_deadline(environment: &Environment) -> Result<Duration, ConfigError> {
    let grace: u64 = environment.parse("TERMINATION_GRACE_PERIOD_SECONDS", 0)?;
    let from_grace = match grace {
        0 => 5,
        grace if grace > 10 => grace - 5,
        grace => (grace - 1).max(1),
    };
    Ok(environment.duration("CONNECTION_TERMINATION_DEADLINE")?.unwrap_or_else(|| Duration::from_secs(from_grace)))
}

/// Whether log lines are JSON.
pub(super) fn log_format(text: &str) -> Result<bool, String> {
    match text {
        "json" => Ok(true),
        "plain" => Ok(false),
        _ => Err("the formats are plain and json".to_owned()),
    }
}
