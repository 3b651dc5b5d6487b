//! What every request works on: the store, the catalog, keys and settings.

use crate::authn::Signer;
use crate::catalog::Catalog;
use crate::store::Store;
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// More watches than this are refused.
const MOST_WATCHES: usize = 4096;

/// The state behind every request.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) store: Store,
    catalog: RwLock<Arc<Catalog>>,
    pub(crate) signer: Signer,
    pub(crate) admin_token: Option<String>,
    pub(crate) service_range: ipnet::Ipv4Net,
    watches: Arc<AtomicUsize>,
}

impl Api {
    pub(crate) fn new(
        store: Store,
        signer: Signer,
        admin_token: Option<String>,
        service_range: ipnet::Ipv4Net,
    ) -> Self {
        let catalog = RwLock::new(Arc::new(Catalog::built_in()));
        Self { store, catalog, signer, admin_token, service_range, watches: Arc::default() }
    }

    /// The resources served at this moment.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read())
    }

    /// Serves another set of resources from now on.
    pub(crate) fn change_catalog(&self, change: impl FnOnce(&Catalog) -> Catalog) {
        let mut catalog = self.catalog.write();
        *catalog = Arc::new(change(&catalog));
    }

    /// A place among the watches, given back when it is dropped; none when all are taken.
    pub(crate) fn watch_slot(&self) -> Option<WatchSlot> {
        let slot = WatchSlot(Arc::clone(&self.watches));
        (self.watches.fetch_add(1, Ordering::Relaxed) < MOST_WATCHES).then_some(slot)
    }

    /// The audiences of a token that is meant for this server.
    pub(crate) fn audiences(&self) -> Vec<String> {
        vec![self.signer.issuer().to_owned()]
    }
}

/// One of the watches that may be open at a time.
#[derive(Debug)]
pub(crate) struct WatchSlot(Arc<AtomicUsize>);

impl Drop for WatchSlot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
