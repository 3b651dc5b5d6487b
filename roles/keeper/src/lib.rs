//! The node proxy's keeper: the one process of the data plane with rights, and the one that does not end.
//!
//! It learns from the node agent which pods there are, holds their network namespaces and every socket that listens in them,
//! makes sockets inside them as workers want them, and holds, sealed, what a worker wants to outlive it. It reads no byte from
//! the network: what it understands is the node agent's words and its own workers'. `hold` decides, `worker` talks to one
//! worker, `renew` replaces the program without letting go of anything.

mod hold;
mod renew;
mod worker;

use hold::Hold;
use inpod::{Roster, agent};
use linux::seqpacket::Listener;
use parking_lot::Mutex;
use runtime::{BoxError, Shutdown, Threads, drain::Drain, ready::Ready, task};
use std::{path::PathBuf, sync::Arc};
use tokio::signal::unix::{SignalKind, signal};

/// The roster, shared by every conversation.
type Shared = Arc<Mutex<Roster<Hold>>>;

/// The keeper's command line.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Socket on which workers come
    #[arg(long, env = "KEEPER_UDS", default_value = inpod::words::DEFAULT_PATH)]
    socket: PathBuf,
    /// Socket of the node agent
    #[arg(long, env = "INPOD_UDS", default_value = "/var/run/ztunnel/ztunnel.sock")]
    agent: PathBuf,
    /// User that workers run as; others but root are turned away
    #[arg(long, env = "KEEPER_WORKER_UID", default_value_t = inpod::words::WORKER_UID)]
    worker_uid: u32,
    /// Descriptor of what an earlier program of this process held
    #[arg(long, hide = true)]
    inherited: Option<i32>,
}

impl Args {
    /// A keeper between these two sockets, for workers of this user.
    pub fn new(socket: PathBuf, agent: PathBuf, worker_uid: u32) -> Self {
        Self { socket, agent, worker_uid, inherited: None }
    }
}

/// Runs the keeper as a process of its own.
pub fn main(args: Args) -> Result<(), BoxError> {
    telemetry::log::init_from_env()?;
    runtime::run("keeper", Threads::Current, |shutdown| run(args, shutdown))
}

/// Keeps until told to end.
pub async fn run(args: Args, shutdown: Shutdown) -> Result<(), BoxError> {
    let roster: Shared = Arc::new(Mutex::new(Roster::new(Hold::default())));
    let listener = match args.inherited {
        Some(descriptor) => renew::inherit(descriptor, &roster)?,
        None => {
            if let Some(folder) = args.socket.parent() {
                std::fs::create_dir_all(folder).map_err(|error| format!("creating {}: {error}", folder.display()))?;
            }
            Listener::bind_for(&args.socket, args.worker_uid)?
        }
    };
    tracing::info!(socket = %args.socket.display(), agent = %args.agent.display(), worker_uid = args.worker_uid, "keeping");
    let listener = Arc::new(listener);
    task::spawn("workers", worker::accept(listener.clone(), roster.clone(), args.worker_uid));

    let mut renewal = signal(SignalKind::hangup())?;
    let (end, watch) = Drain::new();
    let agent = async {
        // A pod is only taken on once somebody can serve it: until then the node agent sees nobody.
        let ready = roster.lock().proxies().first_ready();
        ready.notified().await;
        let readiness = Ready::new();
        let block = readiness.block(agent::READINESS);
        agent::run(&args.agent, roster.clone(), &readiness, block, watch).await
    };
    tokio::pin!(agent);
    loop {
        tokio::select! {
            () = shutdown.triggered() => {
                end.start();
                return Ok(());
            }
            outcome = &mut agent => return outcome.map_err(Into::into),
            _ = renewal.recv() => {
                // Returns only if it failed; then everything is as before.
                let error = renew::replace(&args, &listener, &roster);
                tracing::error!("the program was not replaced: {error}");
            }
        }
    }
}
