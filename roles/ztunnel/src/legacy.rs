//! What outlives this process: the mesh as the control plane said it, and the certificates with their keys, sealed and given to
//! the keeper whenever they change; and their taking over by the next worker, which then serves without anybody's help.

use crate::{
    certificates::{self, Prefetch},
    proxy::Proxy,
    state,
};
use inpod::{
    keeper::{Handle, Legacy},
    words::Part,
};
use linux::sealed::{Draft, Sealed};
use model::Mesh;
use runtime::{BoxError, task};
use std::{
    io::{BufReader, BufWriter},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{self, Instant},
};
use xds::client::{Held, SharedHeld};

/// Changes that come together are written together.
const PAUSE: Duration = Duration::from_millis(100);
/// Writing takes at most this share of the time.
const SHARE: u32 = 20;

/// Takes over what an earlier worker left. What is returned is what the control plane need not say again; `None` if there was
/// no mesh, and serving has to wait for the control plane.
pub(crate) fn restore(proxy: &Proxy, legacy: &Legacy) -> Option<Held> {
    let mut held = None;
    for (part, sealed) in legacy {
        let restored = match part {
            Part::Certificates => certificates::restore(proxy, sealed),
            Part::Mesh => restore_mesh(proxy, sealed).map(|mesh| held = Some(mesh)),
        };
        match restored {
            Ok(()) => tracing::info!(?part, bytes = sealed.len(), "taken over from an earlier worker"),
            Err(error) => tracing::warn!(?part, "not taken over from an earlier worker: {error}"),
        }
    }
    if held.is_some() {
        // Certificates are here by now, whatever came first.
        Prefetch::new(proxy.certificates.clone(), &proxy.config).follow(&Mesh::new(), &proxy.state.mesh());
    }
    held
}

fn restore_mesh(proxy: &Proxy, sealed: &Sealed) -> Result<Held, BoxError> {
    let (held, batches) = xds::store::read(&mut BufReader::new(sealed.reader()))?;
    for batch in batches {
        proxy.state.apply(state::changes(batch));
    }
    Ok(held)
}

/// Keeps the keeper's mesh up to date. It is only written down once all of it is known: half of one would let too much in.
pub(crate) fn keep_mesh(proxy: &Arc<Proxy>, held: SharedHeld, mut synchronised: watch::Receiver<bool>, to: Handle) {
    let mesh = proxy.clone();
    task::spawn("mesh for the next worker", async move {
        if synchronised.wait_for(|synchronised| *synchronised).await.is_err() {
            return;
        }
        let changes = mesh.state.changes();
        let seal = move || seal_mesh(&held, &mesh);
        whenever(changes, Part::Mesh, to, seal).await;
    });
}

/// Keeps the keeper's certificates up to date.
pub(crate) fn keep_certificates(proxy: &Proxy, keeper: Handle) {
    let certificates = proxy.certificates.clone();
    task::spawn("certificates for the next worker", async move {
        let changes = certificates.changes();
        let seal = move || certificates.seal().map_err(BoxError::from);
        whenever(changes, Part::Certificates, keeper, seal).await;
    });
}

async fn whenever<F>(mut changes: watch::Receiver<u64>, part: Part, keeper: Handle, seal: F)
where
    F: Fn() -> Result<Sealed, BoxError> + Clone + Send + 'static,
{
    loop {
        let begun = Instant::now();
        match tokio::task::spawn_blocking(seal.clone()).await {
            Ok(Ok(sealed)) => keeper.keep(part, sealed),
            Ok(Err(error)) => tracing::warn!(?part, "nothing new is kept for the next worker: {error}"),
            Err(_) => tracing::error!(?part, "writing for the next worker ended in a panic, which is a defect"),
        }
        time::sleep(PAUSE.max(begun.elapsed() * SHARE)).await;
        if changes.changed().await.is_err() {
            return;
        }
        time::sleep(PAUSE).await;
        changes.mark_unchanged();
    }
}

fn seal_mesh(held: &SharedHeld, proxy: &Proxy) -> Result<Sealed, BoxError> {
    let mut draft = Draft::new("mesh")?;
    // The mesh is at least as new as versions taken before it: it is applied first, they are remembered second.
    let held = held.lock().clone();
    let mesh = proxy.state.mesh().clone();
    xds::store::write(&held, &mesh, &mut BufWriter::with_capacity(1 << 16, &mut draft))?;
    Ok(draft.seal()?)
}
