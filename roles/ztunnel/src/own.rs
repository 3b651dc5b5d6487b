//! Places that are not a pod of the node agent's: the proxy's own pod, and the one workload of a dedicated proxy.

use crate::{
    config::{Config, Mode, OwnWorkload},
    pod::Starter,
};
use inpod::{Listener, Roster, SocketConfig, Sockets, WorkloadInfo, listeners, message::Request};
use linux::netns::NetNs;
use parking_lot::Mutex;
use runtime::BoxError;
use std::sync::Arc;

/// What the proxy's own pod is served with, opened before the mesh is known.
#[derive(Debug)]
pub(crate) struct Own {
    info: WorkloadInfo,
    sockets: Sockets,
    listener: Listener,
}

impl Own {
    /// Opens the HBONE port where the proxy itself runs, so that it can be scraped through the mesh; none where it does not know
    /// its own pod, or serves that place anyway.
    pub(crate) fn bind(config: &Config) -> Result<Option<Self>, BoxError> {
        let Some(own) = config.own.as_ref().filter(|_| config.mode == Mode::Shared && config.proxy) else {
            return Ok(None);
        };
        let namespace = NetNs::current()?;
        // Without rights of our own no packet can be marked; here nothing is redirected, so none has to be.
        let mark = config.sockets.mark.filter(|_| config.keeper.is_none());
        let sockets = SocketConfig { mark, ..config.sockets.clone() };
        let listener = listeners::open_tunnels(&namespace, &sockets)?;
        Ok(Some(Self { info: info(own), sockets: Sockets::own(namespace, sockets), listener }))
    }

    /// Accepts on it.
    pub(crate) fn serve(self, starter: &mut Starter) -> Result<(), BoxError> {
        Ok(starter.start_own(&self.info, self.sockets, self.listener)?)
    }
}

/// Serves the one workload of a dedicated proxy, in the place where the proxy runs.
pub(crate) fn serve_dedicated(roster: &Arc<Mutex<Roster<Starter>>>, workload: &OwnWorkload) -> Result<(), BoxError> {
    let add = Request::Add { uid: workload.name.clone(), info: info(workload), namespace: NetNs::current()?.into() };
    let mut roster = roster.lock();
    roster.handle(add)?;
    roster.handle(Request::SnapshotSent)?;
    Ok(())
}

fn info(workload: &OwnWorkload) -> WorkloadInfo {
    let OwnWorkload { name, namespace, service_account } = workload.clone();
    WorkloadInfo { name, namespace, service_account }
}
