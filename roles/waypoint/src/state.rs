//! What the control plane said: workloads and services into the mesh's snapshot, L7 resources into the configuration's.

use crate::config::Config;
use l7::{config, http::Shared};
use model::Change;
use prost_types::{Struct, Value, value::Kind};
use proto::core::Node;
use std::sync::Arc;
use xds::{
    client::{self, Batch, Named, Rejection, Sink},
    wds::Address,
};

/// Applies what comes.
#[derive(Debug)]
pub(crate) struct Follower(pub(crate) Arc<Shared>);

impl Sink for Follower {
    fn apply(&mut self, batch: Batch) -> Vec<Rejection> {
        // Policies of the node proxy are not ours: what covers a waypoint comes as L7 resources.
        let Batch::Addresses(changes) = batch else { return Vec::new() };
        let changes = changes.into_iter().map(|change| match change {
            client::Change::Upsert(Address::Workload(workload)) => Change::Workload(workload.into()),
            client::Change::Upsert(Address::Service(service)) => Change::Service(service.into()),
            client::Change::Remove(name) => Change::RemoveAddress(name),
        });
        let before = self.0.mesh.load();
        let (mesh, generation) = &**before;
        self.0.mesh.store(Arc::new((mesh.apply(changes), generation + 1)));
        Vec::new()
    }

    fn apply_l7(&mut self, changes: Vec<client::Change<Named>>) -> Vec<Rejection> {
        let changes = changes.into_iter().map(|change| match change {
            client::Change::Upsert(Named { name, resource }) => config::Change::Set(name, Box::new(resource)),
            client::Change::Remove(name) => config::Change::Remove(name),
        });
        let (next, refused) = self.0.config.load().apply(changes);
        self.0.config.store(Arc::new(next));
        refused.into_iter().map(|one| Rejection { name: one.name, reason: one.why.to_string() }).collect()
    }
}

/// How the waypoint introduces itself.
pub(crate) fn node(config: &Config) -> Node {
    let namespace = &config.identity.namespace;
    let fields = [
        ("NAME", config.pod.as_str()),
        ("NAMESPACE", namespace),
        ("INSTANCE_IPS", &config.address.to_string()),
        ("NODE_NAME", &config.node),
        ("CLUSTER_ID", &config.cluster),
        ("GATEWAY_NAME", &config.gateway),
        ("SERVICE_ACCOUNT", &config.identity.service_account),
        ("ISTIO_VERSION", env!("CARGO_PKG_VERSION")),
        ("role", &format!("{namespace}~{}", config.gateway)),
    ];
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), text(value))).collect();
    Node {
        id: format!("waypoint~{}~{}.{namespace}~{namespace}.svc.cluster.local", config.address, config.pod),
        metadata: Some(Struct { fields }),
        ..Node::default()
    }
}
