//! `host pause`: a process that does nothing, so that a pod's network namespace has a path while the pod lives.

use crate::AnyError;

/// Which pod it is of: for people who read the process list.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Uid of the pod
    #[arg(long)]
    pod_uid: String,
    /// Namespace and name of the pod
    #[arg(long)]
    pod: String,
}

/// Waits until it is killed.
pub(crate) fn main(args: &Args) -> Result<(), AnyError> {
    tracing::trace!(pod = args.pod, uid = args.pod_uid, "holding a namespace");
    let signals = nix::sys::signal::SigSet::from_iter([nix::sys::signal::Signal::SIGTERM]);
    signals.thread_block()?;
    signals.wait()?;
    Ok(())
}
