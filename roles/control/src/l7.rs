//! What L7 proxies are told (l7-waypoint-gateway.md §5.4): one resource for each route and policy that a user wrote.
//!
//! The translations are pure functions over one object and the [`world::World`] that it refers to; [`follow`] owns the watches,
//! translates again what a change can concern, and publishes what differs. An object that cannot be read keeps what it said before; a
//! policy that cannot be read keeps out.

mod filter;
mod parent;
mod policy;
mod route;
mod status;
mod world;

pub use policy::policy;
pub use route::{ParentStatus, Resolved, Said, grpc, http};
pub use status::{Subject, write};
pub use world::{World, by_name};

use crate::settings::Mesh;
use api::{
    AuthorizationPolicy, GRPCRoute, Gateway, HTTPRoute, Namespace, ReferenceGrant, Resource, Service, ServiceEntry,
    salvage,
};
use cluster::{Client, Scope, Store};
use model::Str;
use prost::Message;
use proto::l7::{self as wire, resource::Kind};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};
use tokio::{sync::mpsc, time};
use xds::server::Resource as XdsResource;

/// Changes are gathered for this long.
const QUIET: Duration = Duration::from_millis(10);
/// How long to wait before asking again whether a kind exists.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// The watches.
struct Stores {
    services: Store<Service>,
    entries: Store<ServiceEntry>,
    gateways: Store<Gateway>,
    namespaces: Store<Namespace>,
    grants: Store<ReferenceGrant>,
    http: Store<HTTPRoute>,
    grpc: Store<GRPCRoute>,
    policies: Store<AuthorizationPolicy>,
}

/// Everything that is to be said, by resource name, and what each route is told.
#[derive(Debug, Default)]
pub struct Spoken {
    /// Resources.
    pub resources: BTreeMap<Str, wire::Resource>,
    /// Statuses of routes.
    pub statuses: BTreeMap<Subject, Vec<ParentStatus>>,
}

/// Follows the cluster and hands changed resources to `publish`, for ever; the first time when everything was seen.
pub async fn follow(
    client: Client,
    mesh: Mesh,
    publish: impl Fn(Vec<(Str, Option<XdsResource>)>),
    statuses: mpsc::UnboundedSender<(Subject, Vec<ParentStatus>)>,
) {
    let stores = Stores::watch(&client);
    stores.synced(&client).await;
    let mut versions = stores.versions();
    let mut published: HashMap<Str, XdsResource> = HashMap::new();
    let mut told: BTreeMap<Subject, Vec<ParentStatus>> = BTreeMap::new();
    let mut first = true;
    loop {
        for version in &mut versions {
            version.borrow_and_update();
        }
        let spoken = stores.speak(&mesh);
        let changes = difference(&mut published, spoken.resources);
        if first || !changes.is_empty() {
            publish(changes);
        }
        for (subject, parents) in &spoken.statuses {
            if told.get(subject) != Some(parents) && statuses.send((subject.clone(), parents.clone())).is_err() {
                return;
            }
        }
        told = spoken.statuses;
        first = false;
        let changed = versions.iter_mut().map(|version| Box::pin(version.changed()));
        // The stores live as long as this task, and their senders with them.
        let _one = futures_util::future::select_all(changed).await;
        time::sleep(QUIET).await;
    }
}

/// What differs from what was published, which then is what was published.
fn difference(
    published: &mut HashMap<Str, XdsResource>,
    resources: BTreeMap<Str, wire::Resource>,
) -> Vec<(Str, Option<XdsResource>)> {
    let mut changes: Vec<(Str, Option<XdsResource>)> = Vec::new();
    let gone: Vec<Str> = published.keys().filter(|name| !resources.contains_key(*name)).cloned().collect();
    for name in gone {
        published.remove(&name);
        changes.push((name, None));
    }
    for (name, resource) in resources {
        let resource = XdsResource::new(name.clone(), resource.encode_to_vec());
        if published.get(&name) != Some(&resource) {
            published.insert(name.clone(), resource.clone());
            changes.push((name, Some(resource)));
        }
    }
    changes
}

impl Stores {
    fn watch(client: &Client) -> Self {
        Self {
            services: client.watch(Scope::all()),
            entries: client.watch(Scope::all()),
            gateways: client.watch(Scope::all()),
            namespaces: client.watch(Scope::all()),
            grants: client.watch(Scope::all()),
            http: client.watch(Scope::all()),
            grpc: client.watch(Scope::all()),
            policies: client.watch(Scope::all()),
        }
    }

    async fn synced(&self, client: &Client) {
        tokio::join!(
            self.services.synced(),
            self.namespaces.synced(),
            known(client, &self.entries),
            known(client, &self.gateways),
            known(client, &self.grants),
            known(client, &self.http),
            known(client, &self.grpc),
            known(client, &self.policies),
        );
    }

    fn versions(&self) -> Vec<tokio::sync::watch::Receiver<u64>> {
        vec![
            self.services.version(),
            self.entries.version(),
            self.gateways.version(),
            self.namespaces.version(),
            self.grants.version(),
            self.http.version(),
            self.grpc.version(),
            self.policies.version(),
        ]
    }

    fn speak(&self, mesh: &Mesh) -> Spoken {
        let namespaces = self.namespaces.list().into_iter().map(|one| (one.name().to_owned(), one)).collect();
        let world = World {
            mesh: mesh.clone(),
            services: by_name(self.services.list()),
            entries: by_name(self.entries.list()),
            gateways: by_name(self.gateways.list()),
            namespaces,
            grants: self.grants.list(),
        };
        let mut spoken = Spoken::default();
        for one in self.http.list() {
            spoken.route(&*one, http(&one, &world));
        }
        for one in self.grpc.list() {
            spoken.route(&*one, grpc(&one, &world));
        }
        let salvaged = self.policies.rejected().into_iter().map(|one| salvage::authorization_policy(&one.value));
        let broken = salvaged.map(|one| (one.policy, one.everybody));
        let whole = self.policies.list();
        let whole = whole.iter().map(|one| ((**one).clone(), false));
        // What is broken goes last: the store may still hold what it was before.
        for (one, everybody) in whole.chain(broken) {
            let name = format!("policy/{}/{}", one.namespace(), one.name());
            if let Some(policy) = policy(&one, everybody, &world) {
                spoken.resources.insert(name.into(), wire::Resource { kind: Some(Kind::Policy(policy)) });
            }
        }
        spoken
    }
}

impl Spoken {
    fn route<T: Resource>(&mut self, object: &T, resolved: Resolved) {
        let (namespace, name) = (object.namespace().to_owned(), object.name().to_owned());
        if let Some(route) = resolved.route {
            let key = format!("{}/{namespace}/{name}", T::PLURAL).into();
            self.resources.insert(key, wire::Resource { kind: Some(Kind::Route(route)) });
        }
        self.statuses.insert((T::KIND, namespace, name), resolved.parents);
    }
}

/// Returns when a kind was seen whole, or when the cluster says that it does not have it.
async fn known<T: Resource>(client: &Client, store: &Store<T>) {
    let missing = async {
        loop {
            match client.list::<T>(&Scope::all()).await {
                Err(error) if error.is_not_found() => return,
                Ok(_) => std::future::pending::<()>().await,
                Err(_) => time::sleep(ASK_AGAIN).await,
            }
        }
    };
    tokio::select! {
        () = store.synced() => {}
        () = missing => {}
    }
}
