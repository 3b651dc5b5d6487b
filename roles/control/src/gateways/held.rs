//! What the cluster holds of the objects that are deployed for gateways.

use api::{Deployment, HorizontalPodAutoscaler, PodDisruptionBudget, Resource, Service, ServiceAccount};
use cluster::{Client, Scope, Store};
use serde_json::{Value, json};
use std::hash::{DefaultHasher, Hash, Hasher};
use tokio::sync::watch;

/// Marks what was deployed for a gateway.
pub(super) const MANAGED: &str = "gateway.istio.io/managed";

/// A store of each kind that is deployed.
pub(super) struct Held {
    pub(super) accounts: Store<ServiceAccount>,
    pub(super) services: Store<Service>,
    pub(super) deployments: Store<Deployment>,
    pub(super) autoscalers: Store<HorizontalPodAutoscaler>,
    pub(super) budgets: Store<PodDisruptionBudget>,
}

impl Held {
    pub(super) fn watch(client: &Client) -> Self {
        let ours = || Scope::all().labels(MANAGED);
        Self {
            accounts: client.watch(ours()),
            services: client.watch(ours()),
            deployments: client.watch(ours()),
            autoscalers: client.watch(ours()),
            budgets: client.watch(ours()),
        }
    }

    pub(super) async fn synced(&self) {
        self.accounts.synced().await;
        self.services.synced().await;
        self.deployments.synced().await;
        self.autoscalers.synced().await;
        self.budgets.synced().await;
    }

    pub(super) fn versions(&self) -> [watch::Receiver<u64>; 5] {
        [
            self.accounts.version(),
            self.services.version(),
            self.deployments.version(),
            self.autoscalers.version(),
            self.budgets.version(),
        ]
    }
}

/// A kind that is deployed, and where what the cluster holds of it is looked up.
pub(super) trait Deployed: Resource {
    fn store(held: &Held) -> &Store<Self>;
}

macro_rules! deployed {
    ($($kind:ty => $field:ident),+) => { $(
        impl Deployed for $kind {
            fn store(held: &Held) -> &Store<Self> {
                &held.$field
            }
        }
    )+ };
}

deployed!(
    ServiceAccount => accounts, Service => services, Deployment => deployments,
    HorizontalPodAutoscaler => autoscalers, PodDisruptionBudget => budgets
);

/// What of an object somebody may have changed: without its status and what the server counts.
pub(super) fn bare<T: Resource>(object: &T) -> Value {
    let mut value = object.to_value();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
    }
    let metadata = object.metadata();
    value["metadata"] =
        json!({"labels": metadata.labels, "annotations": metadata.annotations, "owners": metadata.owner_references});
    value
}

pub(super) fn digest(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}
