//! Keeps what is deployed equal to what is rendered, and the status of gateways equal to what became of it.
//!
//! One pass looks at every gateway; an object is applied only when what is rendered, or what the cluster holds of it,
//! is not what it was when it was applied last.

use super::{
    Settings,
    class::{self, BUILT_IN, Role},
    held::{Deployed, Held, MANAGED, bare, digest},
    render::{self, Kind, Parameters, Rendered},
    status::{self, Outcome},
};
use crate::leader::Leader;
use api::{
    ConfigMap, Deployment, Gateway, GatewayClass, HorizontalPodAutoscaler, Namespace, PodDisruptionBudget, Resource,
    Service, ServiceAccount,
};
use cluster::{Client, DeleteOptions, Error, Patch, Scope, Store};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{collections::HashMap, time::Duration};

const MANAGER: &str = "istio.io/gateway-controller";
const DEFAULTS_FOR: &str = "gateway.istio.io/defaults-for-class";
const VERSION: &str = "gateway.istio.io/controller-version";
/// Whoever deployed a gateway last writes its version; an older controller leaves the work of a newer one alone.
const OUR_VERSION: u32 = 5;
const REVISION: &str = "istio.io/rev";
/// Changes that come together are looked at together.
const GATHER: Duration = Duration::from_millis(10);
/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// Services of somebody's own are not watched; they are asked for so often.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Everything that the controller looks at.
struct Controller {
    client: Client,
    settings: Settings,
    gateways: Store<Gateway>,
    classes: Store<GatewayClass>,
    namespaces: Store<Namespace>,
    defaults: Store<ConfigMap>,
    /// The ConfigMaps that gateways name.
    parameters: HashMap<(String, String), Store<ConfigMap>>,
    held: Held,
    /// What was applied, by namespace, name and kind: what was rendered and what the cluster then held.
    applied: HashMap<(String, String, Kind), (u64, u64)>,
}

/// Runs the controller for as long as it is polled.
pub async fn run(client: Client, settings: Settings, mut leader: Leader) {
    let system = settings.namespace.clone();
    let mut controller = Controller {
        gateways: client.watch(Scope::all()),
        classes: client.watch(Scope::all()),
        namespaces: client.watch(Scope::all()),
        defaults: client.watch(Scope::namespace(system).labels(DEFAULTS_FOR)),
        parameters: HashMap::new(),
        held: Held::watch(&client),
        applied: HashMap::new(),
        settings,
        client,
    };
    controller.synced().await;
    loop {
        leader.acquired().await;
        let mut changes = controller.changes();
        let again = controller.pass(&leader).await;
        tokio::select! {
            () = changes.any() => tokio::time::sleep(GATHER).await,
            () = tokio::time::sleep(again) => {}
        }
    }
}

/// The counters of all stores, as they were before a pass.
struct Changes(Vec<tokio::sync::watch::Receiver<u64>>);

impl Changes {
    async fn any(&mut self) {
        let waits = self.0.iter_mut().map(|version| Box::pin(version.changed()));
        futures_util::future::select_all(waits).await.0.ok();
    }
}

impl Controller {
    async fn synced(&self) {
        // Gateways and classes come with their kinds, which may be installed later.
        self.gateways.synced().await;
        self.classes.synced().await;
        self.namespaces.synced().await;
        self.defaults.synced().await;
        self.held.synced().await;
    }

    fn changes(&self) -> Changes {
        let mut versions =
            vec![self.gateways.version(), self.classes.version(), self.namespaces.version(), self.defaults.version()];
        versions.extend(self.held.versions());
        versions.extend(self.parameters.values().map(Store::version));
        versions.iter_mut().for_each(|version| version.mark_unchanged());
        Changes(versions)
    }

    /// Looks at everything; how soon to look again without a change.
    async fn pass(&mut self, leader: &Leader) -> Duration {
        let mut failed = false;
        for class in &BUILT_IN {
            if leader.leads() && self.classes.get("", class.name).is_none() {
                failed |= report(class.name, self.client.create(&class.object()).await.map(drop));
            }
        }
        for class in self.classes.list() {
            if leader.leads()
                && let Some(status) = class::acceptance(&class, api::Time(Timestamp::now()))
            {
                let written = self.client.apply_status::<GatewayClass>("", class.name(), status, MANAGER).await;
                failed |= report(class.name(), written.map(drop));
            }
        }
        self.settings.network = self.network();
        let gateways = self.gateways.list();
        let named = |gateway: &Gateway| Some((gateway.namespace().to_owned(), parameters_name(gateway)?.to_owned()));
        let wanted: Vec<_> = gateways.iter().filter_map(|gateway| named(gateway)).collect();
        self.parameters.retain(|key, _| wanted.contains(key));
        let followed = self.parameters.len();
        let live = |key: &(String, String, Kind)| {
            gateways.iter().any(|gateway| gateway.namespace() == key.0 && gateway.name() == key.1)
        };
        self.applied.retain(|key, _| live(key));
        for gateway in &gateways {
            if !leader.leads() {
                return RETRY;
            }
            let class = self.classes.get("", &gateway.spec.gateway_class_name);
            let role = Role::of_class(&gateway.spec.gateway_class_name, class.as_deref());
            if let Some(role) = role.filter(|_| self.is_ours(gateway)) {
                let name = format!("{}/{}", gateway.namespace(), gateway.name());
                failed |= report(&name, self.gateway(gateway, role, leader).await);
            }
        }
        match failed {
            true => RETRY,
            // What is followed only now may have changed since it was read.
            false if self.parameters.len() != followed => GATHER,
            false => LOOK_AGAIN,
        }
    }

    /// The network of this cluster.
    fn network(&self) -> String {
        let system = self.namespaces.get("", &self.settings.namespace);
        system
            .and_then(|system| system.metadata.label("topology.istio.io/network").map(str::to_owned))
            .unwrap_or_default()
    }

    /// Whether a gateway is of this revision, by its own label or its namespace's.
    fn is_ours(&self, gateway: &Gateway) -> bool {
        let namespace = self.namespaces.get("", gateway.namespace());
        let said = gateway.metadata.label(REVISION).or_else(|| namespace.as_ref()?.metadata.label(REVISION));
        let plain = |revision: &str| if revision.is_empty() { "default" } else { revision }.to_owned();
        let newer = gateway
            .metadata
            .annotation(VERSION)
            .and_then(|text| text.parse().ok())
            .is_some_and(|version: u32| version > OUR_VERSION);
        plain(said.unwrap_or_default()) == plain(&self.settings.revision)
            && gateway.metadata.deletion_timestamp.is_none()
            && !newer
    }

    async fn gateway(&mut self, gateway: &Gateway, role: Role, leader: &Leader) -> Result<(), Error> {
        let (outcome, result) = if render::is_managed(gateway, role) {
            match self.rendered(gateway, role).await {
                Err(invalid) => (Outcome::Invalid(invalid.0), Ok(())),
                Ok(rendered) => match self.deploy(gateway, &rendered, leader).await {
                    Err(error) if error.is_invalid() || error.is_forbidden() => {
                        (Outcome::Refused(error.to_string()), Err(error))
                    }
                    result => (self.deployed(gateway, rendered.name), result),
                },
            }
        } else {
            (Outcome::Elsewhere { service: self.own_service(gateway).await? }, Ok(()))
        };
        let now = api::Time(Timestamp::now());
        if let Some(status) = status::status(gateway, role, &outcome, &self.settings.mesh.domain, now)
            && leader.leads()
        {
            let written =
                self.client.apply_status::<Gateway>(gateway.namespace(), gateway.name(), status, MANAGER).await;
            written.map(drop).or_else(gone)?;
        }
        result
    }

    /// What is to be deployed for a gateway. Waits until the parameters that it names have been read.
    async fn rendered(&mut self, gateway: &Gateway, role: Role) -> Result<Rendered, render::Invalid> {
        let class = gateway.spec.gateway_class_name.as_str();
        let of_class = |map: &ConfigMap| map.metadata.label(DEFAULTS_FOR) == Some(class);
        let mut defaults = self.defaults.list();
        defaults.sort_by(|a, b| a.name().cmp(b.name()));
        let defaults = defaults.into_iter().find(|map| of_class(map));
        let mut parameters = Parameters { class: defaults.map(|map| (*map).clone()), own: None };
        if let Some(reference) = gateway.spec.infrastructure.as_ref().and_then(|said| said.parameters_ref.as_ref()) {
            if !matches!(reference.group.as_str(), "" | "core") || reference.kind != "ConfigMap" {
                return Err(render::Invalid(format!(
                    "spec.infrastructure.parametersRef is a {} of group {:?}; it must be a ConfigMap",
                    reference.kind, reference.group
                )));
            }
            let (namespace, client) = (gateway.namespace().to_owned(), &self.client);
            let key = (namespace.clone(), reference.name.clone());
            let store =
                self.parameters.entry(key).or_insert_with(|| client.watch(Scope::object(namespace, &reference.name)));
            store.synced().await;
            let map = store.get(gateway.namespace(), &reference.name);
            let missing =
                || render::Invalid(format!("ConfigMap {}/{} does not exist", gateway.namespace(), reference.name));
            parameters.own = Some((*map.ok_or_else(missing)?).clone());
        }
        render::render(gateway, role, &parameters, &self.settings)
    }

    /// Applies what is not as it should be, and takes away what is not asked for any more.
    async fn deploy(&mut self, gateway: &Gateway, rendered: &Rendered, leader: &Leader) -> Result<(), Error> {
        let mut changed = false;
        for (kind, object) in &rendered.objects {
            let changes = match kind {
                Kind::ServiceAccount => self.apply::<ServiceAccount>(gateway, *kind, object, leader).await,
                Kind::Service => self.apply::<Service>(gateway, *kind, object, leader).await,
                Kind::Deployment => self.apply::<Deployment>(gateway, *kind, object, leader).await,
                Kind::HorizontalPodAutoscaler => {
                    self.apply::<HorizontalPodAutoscaler>(gateway, *kind, object, leader).await
                }
                Kind::PodDisruptionBudget => self.apply::<PodDisruptionBudget>(gateway, *kind, object, leader).await,
            };
            changed |= changes?;
        }
        self.retire::<HorizontalPodAutoscaler>(gateway, rendered, Kind::HorizontalPodAutoscaler, leader).await?;
        self.retire::<PodDisruptionBudget>(gateway, rendered, Kind::PodDisruptionBudget, leader).await?;
        if changed && gateway.metadata.annotation(VERSION) != Some(&OUR_VERSION.to_string()) && leader.leads() {
            let fields = json!({"metadata": {"annotations": {VERSION: OUR_VERSION.to_string()}}});
            let patch = Patch::Apply { fields, manager: MANAGER.to_owned(), force: true };
            let written = self.client.patch::<Gateway>(gateway.namespace(), gateway.name(), patch).await;
            written.map(drop).or_else(gone)?;
        }
        Ok(())
    }

    /// Applies one object unless it is as it was after it was applied last; whether it was applied.
    async fn apply<T: Deployed>(
        &mut self,
        gateway: &Gateway,
        kind: Kind,
        object: &Value,
        leader: &Leader,
    ) -> Result<bool, Error> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let key = (gateway.namespace().to_owned(), gateway.name().to_owned(), kind);
        let wanted = digest(object);
        let held = T::store(&self.held).get(gateway.namespace(), name);
        let same = |held: &T| self.applied.get(&key) == Some(&(wanted, digest(&bare(held))));
        if held.as_deref().is_some_and(same) || !leader.leads() {
            return Ok(false);
        }
        if held.is_none() && self.is_somebody_elses::<T>(gateway.namespace(), name).await? {
            return Ok(false);
        }
        let patch = Patch::Apply { fields: object.clone(), manager: MANAGER.to_owned(), force: true };
        let applied: T = self.client.patch(gateway.namespace(), name, patch).await?;
        self.applied.insert(key, (wanted, digest(&bare(&applied))));
        Ok(true)
    }

    /// Whether an object of this name exists that no controller of gateways made.
    async fn is_somebody_elses<T: Resource>(&self, namespace: &str, name: &str) -> Result<bool, Error> {
        let found = self.client.find::<T>(namespace, name).await?;
        let theirs = found.is_some_and(|found| found.metadata().label(MANAGED).is_none());
        if theirs {
            tracing::debug!(
                namespace,
                name,
                kind = T::KIND,
                "not made for a gateway, and left as it is: it lacks label {MANAGED}"
            );
        }
        Ok(theirs)
    }

    /// Deletes an optional object that was rendered once and is not any more.
    async fn retire<T: Deployed>(
        &mut self,
        gateway: &Gateway,
        rendered: &Rendered,
        kind: Kind,
        leader: &Leader,
    ) -> Result<(), Error> {
        if rendered.objects.contains_key(&kind) || !leader.leads() {
            return Ok(());
        }
        let Some(held) = T::store(&self.held).get(gateway.namespace(), &rendered.name) else { return Ok(()) };
        let owned = held.metadata().owner_references.iter().any(|owner| owner.uid == gateway.metadata.uid);
        if owned {
            let options = DeleteOptions::default().of(&*held);
            self.client.delete::<T>(gateway.namespace(), &rendered.name, &options).await?;
            self.applied.remove(&(gateway.namespace().to_owned(), gateway.name().to_owned(), kind));
        }
        Ok(())
    }

    fn deployed(&self, gateway: &Gateway, name: String) -> Outcome {
        let service = self.held.services.get(gateway.namespace(), &name).map(|service| (*service).clone());
        let deployment = self.held.deployments.get(gateway.namespace(), &name);
        let ready = deployment.map_or(0, |deployment| deployment.status.ready_replicas);
        Outcome::Deployed { name, service, ready }
    }

    /// The service that a gateway's address names: `web`, or `web.shop.svc.cluster.local`.
    async fn own_service(&self, gateway: &Gateway) -> Result<Option<Service>, Error> {
        let named = gateway.spec.addresses.iter().find(|address| address.type_ == "Hostname");
        let Some(host) = named.map(|address| address.value.as_str()) else { return Ok(None) };
        let mut labels = host.split('.');
        let name = labels.next().unwrap_or_default();
        let namespace = labels.next().unwrap_or_else(|| gateway.namespace());
        if namespace != gateway.namespace() || name.is_empty() {
            return Ok(None);
        }
        self.client.find(namespace, name).await
    }
}

fn parameters_name(gateway: &Gateway) -> Option<&str> {
    Some(gateway.spec.infrastructure.as_ref()?.parameters_ref.as_ref()?.name.as_str())
}

/// An object that went away meanwhile needs nothing.
fn gone(error: Error) -> Result<(), Error> {
    if error.is_not_found() { Ok(()) } else { Err(error) }
}

fn report(what: &str, outcome: Result<(), Error>) -> bool {
    match outcome {
        Ok(()) => false,
        Err(error) if error.is_conflict() || error.is_already_exists() => true,
        Err(error) => {
            tracing::warn!("deploying gateway {what}: {error}; trying again");
            true
        }
    }
}
