//! `ambit-ptp`, the base CNI plugin of the pod network: a veth pair, one address and a default route per pod.
//!
//! Pods share no link: each has a /32 and reaches everything, its neighbour too, through its node. So the node sees every
//! packet of every connection in both directions, which service routing by connection tracking needs.
//! It follows the CNI specification (ADD, DEL, CHECK, VERSION; JSON on standard input and output) and keeps its
//! addresses as files, so it needs no daemon. Who calls it, and what is chained behind it, is left to `node`.

mod ipam;
mod link;
mod protocol;

use std::io::Read;

use protocol::{Command, Request};

/// Longest configuration that is read.
const CONFIG_LIMIT: u64 = 1024 * 1024;

pub(crate) use protocol::{SUPPORTED_VERSIONS, result_addresses};

/// What stopped the plugin; the number is the specification's error code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the CNI variable {0} is not set; the plugin is run by a container runtime, not by hand")]
    Variable(&'static str),
    #[error("the CNI request is malformed: {0}")]
    Malformed(String),
    #[error("CNI version {0} is not supported; use one of {list}", list = SUPPORTED_VERSIONS.join(", "))]
    Version(String),
    #[error("no address is left in {0}; delete pods or give the node a larger pod range")]
    Exhausted(ipnet::Ipv4Net),
    #[error("cannot keep addresses in {path}: {source}")]
    Store { path: std::path::PathBuf, source: std::io::Error },
    #[error(transparent)]
    Kernel(#[from] linux::Error),
    #[error("pod {0} is not as it was set up: {1}")]
    Changed(String, String),
}

impl Error {
    const fn code(&self) -> u32 {
        match self {
            Self::Version(_) => 1,
            Self::Variable(_) => 4,
            Self::Malformed(_) => 7,
            Self::Store { .. } => 5,
            Self::Exhausted(_) => 11,
            Self::Kernel(_) | Self::Changed(..) => 100,
        }
    }
}

/// Answers the one request that the environment and standard input carry.
pub(crate) fn main() -> Result<(), crate::AnyError> {
    let mut config = Vec::new();
    std::io::stdin().take(CONFIG_LIMIT).read_to_end(&mut config)?;
    match answer(|name| std::env::var(name).ok(), &config) {
        Ok(Some(answer)) => {
            println!("{answer}");
            Ok(())
        }
        Ok(None) => Ok(()),
        Err(error) => {
            println!("{}", protocol::error_answer(&config, error.code(), &error.to_string()));
            Err(error.into())
        }
    }
}

pub(crate) fn answer(
    variable: impl Fn(&str) -> Option<String>,
    config: &[u8],
) -> Result<Option<serde_json::Value>, Error> {
    let request = Request::read(variable, config)?;
    match request.command {
        Command::Version => Ok(Some(protocol::version_answer(&request.version))),
        Command::Add => add(&request).map(Some),
        Command::Del => delete(&request).map(|()| None),
        Command::Check => check(&request).map(|()| None),
    }
}

fn add(request: &Request) -> Result<serde_json::Value, Error> {
    let namespace = linux::netns::NetNs::open(request.namespace()?)?;
    let pool = ipam::Pool::open(&request.data_dir, request.pod_range()?)?;
    let address = pool.take(&request.container)?;
    match link::connect(request, &namespace, address) {
        Ok(link) => Ok(protocol::add_answer(request, &link, address)),
        Err(error) => {
            // The address must not stay taken for a pod that does not exist; the first error is the one to tell.
            if let Err(error) = pool.release(&request.container) {
                tracing::warn!(%error, "an address stays taken");
            }
            Err(error)
        }
    }
}

/// Succeeds also if part or all of it is gone: a runtime may ask again, and after a failed ADD.
fn delete(request: &Request) -> Result<(), Error> {
    link::disconnect(&request.container)?;
    ipam::Pool::open(&request.data_dir, request.pod_range()?)?.release(&request.container)
}

fn check(request: &Request) -> Result<(), Error> {
    let namespace = linux::netns::NetNs::open(request.namespace()?)?;
    let pool = ipam::Pool::open(&request.data_dir, request.pod_range()?)?;
    let held = pool.held_by(&request.container)?;
    let address = held.ok_or_else(|| Error::Changed(request.container.clone(), "it holds no address".to_owned()))?;
    link::check(request, &namespace, address)
}
