//! From a gateway to the objects that run it (control-plane A14). Pure, and of nothing but its arguments: the same
//! gateway gives the same objects after a restart, so that nothing is rolled that did not change.

use super::{Role, Settings, overlay, template::Frame};
use api::{ConfigMap, Deployment, Gateway, Resource, Service, ServiceAccount};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The number of replicas of one gateway's deployment.
pub(super) const REPLICAS: &str = "proxy.istio.io/replicas";
const NAME_OVERRIDE: &str = "gateway.istio.io/name-override";
const SERVICE_ACCOUNT: &str = "gateway.istio.io/service-account";
const SERVICE_TYPE: &str = "networking.istio.io/service-type";
/// More replicas than this are taken for a slip of the pen.
const MOST_REPLICAS: u32 = 1000;

/// What somebody wants of the objects besides the gateway itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Parameters {
    /// Overlays for every gateway of the class.
    pub(super) class: Option<ConfigMap>,
    /// Overlays for this gateway.
    pub(super) own: Option<ConfigMap>,
}

/// The kinds that are deployed, in the order in which they are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    ServiceAccount,
    Service,
    Deployment,
    HorizontalPodAutoscaler,
    PodDisruptionBudget,
}

/// The objects of a gateway.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rendered {
    /// Name of the deployment and the service.
    pub(super) name: String,
    pub(super) objects: BTreeMap<Kind, Value>,
}

/// Why nothing can be rendered: the gateway's parameters say something that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Invalid(pub(super) String);

impl Kind {
    const ALL: [Self; 5] = [
        Self::ServiceAccount,
        Self::Service,
        Self::Deployment,
        Self::HorizontalPodAutoscaler,
        Self::PodDisruptionBudget,
    ];

    /// Under which key a ConfigMap has the overlay.
    fn key(self) -> &'static str {
        match self {
            Self::ServiceAccount => "serviceAccount",
            Self::Service => "service",
            Self::Deployment => "deployment",
            Self::HorizontalPodAutoscaler => "horizontalPodAutoscaler",
            Self::PodDisruptionBudget => "podDisruptionBudget",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::ServiceAccount => "ServiceAccount",
            Self::Service => "Service",
            Self::Deployment => "Deployment",
            Self::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
        }
    }
}

/// Whether objects are deployed for a gateway: not for one that stands elsewhere or behind a service of somebody's own.
pub(super) fn is_managed(gateway: &Gateway, role: Role) -> bool {
    let addresses = &gateway.spec.addresses;
    let one_ip = || addresses.len() == 1 && matches!(addresses[0].type_.as_str(), "" | "IPAddress");
    role != Role::Remote && (addresses.is_empty() || one_ip())
}

/// Name of the deployment and the service.
pub(super) fn deployment_name(gateway: &Gateway, role: Role) -> String {
    match (gateway.metadata.annotation(NAME_OVERRIDE), role) {
        (Some(name), _) if !name.is_empty() => name.to_owned(),
        (_, Role::Edge) => format!("{}-{}", gateway.name(), gateway.spec.gateway_class_name),
        _ => gateway.name().to_owned(),
    }
}

/// The objects of a gateway.
pub(super) fn render(
    gateway: &Gateway,
    role: Role,
    parameters: &Parameters,
    settings: &Settings,
) -> Result<Rendered, Invalid> {
    let frame = frame(gateway, role, settings);
    let class = Overlays::read(parameters.class.as_ref())?;
    let own = Overlays::read(parameters.own.as_ref())?;
    let wanted = |kind: Kind| class.of(kind).is_some() || own.of(kind).is_some();
    let mut objects = BTreeMap::new();
    for kind in Kind::ALL {
        let object = match kind {
            // An account that the gateway names is somebody's own.
            Kind::ServiceAccount if gateway.metadata.annotation(SERVICE_ACCOUNT).is_some() => continue,
            Kind::ServiceAccount => frame.object("v1", kind.name(), &frame.service_account),
            Kind::Service => frame.service(),
            Kind::Deployment => frame.deployment(),
            Kind::HorizontalPodAutoscaler | Kind::PodDisruptionBudget if !wanted(kind) => continue,
            Kind::HorizontalPodAutoscaler => autoscaler(&frame),
            Kind::PodDisruptionBudget => budget(&frame),
        };
        objects.insert(kind, object);
    }
    let scaled = objects.contains_key(&Kind::HorizontalPodAutoscaler);
    for (kind, object) in &mut objects {
        let default =
            settings.waypoint_replicas.filter(|_| *kind == Kind::Deployment && role == Role::Waypoint && !scaled);
        if let Some(replicas) = default {
            object["spec"]["replicas"] = replicas.into();
        }
        class.lay(*kind, object);
        if *kind == Kind::Deployment
            && let Some(replicas) = replicas(gateway)?
        {
            object["spec"]["replicas"] = replicas.into();
        }
        if let Some(right) = own.of(*kind).and_then(right_on_the_node) {
            let key = kind.key();
            return Err(Invalid(format!(
                "the overlay of {key} asks for {right}, which only the parameters of a class may give"
            )));
        }
        own.lay(*kind, object);
        check(*kind, object)?;
    }
    Ok(Rendered { name: frame.name, objects })
}

fn frame<'a>(gateway: &'a Gateway, role: Role, settings: &'a Settings) -> Frame<'a> {
    let name = deployment_name(gateway, role);
    let annotation = |key: &str| gateway.metadata.annotation(key).filter(|value| !value.is_empty()).map(str::to_owned);
    let by_role = || if role == Role::Edge { "LoadBalancer" } else { "ClusterIP" }.to_owned();
    let (mut labels, annotations) = inherited(gateway, settings.copy_metadata);
    let own = [
        ("gateway.networking.k8s.io/gateway-name", gateway.name()),
        ("gateway.networking.k8s.io/gateway-class-name", &gateway.spec.gateway_class_name),
        ("gateway.istio.io/managed", role.managed()),
    ];
    labels.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
    Frame {
        service_account: annotation(SERVICE_ACCOUNT).unwrap_or_else(|| name.clone()),
        service_type: annotation(SERVICE_TYPE).unwrap_or_else(by_role),
        gateway,
        role,
        settings,
        name,
        labels,
        annotations,
    }
}

/// Labels and annotations that the gateway passes on: those of its infrastructure, else its own.
fn inherited(gateway: &Gateway, copy: bool) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let infrastructure = gateway.spec.infrastructure.as_ref();
    let said = infrastructure.filter(|said| !said.labels.is_empty() || !said.annotations.is_empty());
    if let Some(said) = said {
        return (said.labels.clone(), said.annotations.clone());
    }
    if !copy {
        return Default::default();
    }
    let about_itself = |key: &str| {
        ["gateway.networking.k8s.io/", "gateway.istio.io/", "kubectl.kubernetes.io/"]
            .iter()
            .any(|prefix| key.starts_with(prefix))
            || [REPLICAS, SERVICE_TYPE].contains(&key)
    };
    let copied = |map: &BTreeMap<String, String>| {
        let kept = map.iter().filter(|(key, _)| !about_itself(key));
        kept.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    (copied(&gateway.metadata.labels), copied(&gateway.metadata.annotations))
}

/// The number of replicas that the gateway's annotation asks for.
fn replicas(gateway: &Gateway) -> Result<Option<u32>, Invalid> {
    let Some(text) = gateway.metadata.annotation(REPLICAS) else { return Ok(None) };
    let number = text.parse().ok().filter(|number| *number <= MOST_REPLICAS);
    let wrong = || Invalid(format!("annotation {REPLICAS} is {text:?}, not a number from 0 to {MOST_REPLICAS}"));
    number.map(Some).ok_or_else(wrong)
}

fn autoscaler(frame: &Frame<'_>) -> Value {
    let mut object = frame.object("autoscaling/v2", "HorizontalPodAutoscaler", &frame.name);
    object["spec"] = json!({
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": frame.name}, "maxReplicas": 1,
    });
    object
}

fn budget(frame: &Frame<'_>) -> Value {
    let mut object = frame.object("policy/v1", "PodDisruptionBudget", &frame.name);
    object["spec"] = json!({"selector": {"matchLabels": frame.selector()}});
    object
}

/// The overlays of one ConfigMap.
#[derive(Default)]
struct Overlays(BTreeMap<Kind, Value>);

impl Overlays {
    fn read(map: Option<&ConfigMap>) -> Result<Self, Invalid> {
        let Some(map) = map else { return Ok(Self::default()) };
        let mut overlays = BTreeMap::new();
        for (key, text) in &map.data {
            let wrong = |problem: String| {
                Invalid(format!("ConfigMap {}/{}, key {key}: {problem}", map.namespace(), map.name()))
            };
            let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.key() == key) else {
                let known = Kind::ALL.map(Kind::key).join(", ");
                return Err(wrong(format!("nothing is deployed by this name; use {known}")));
            };
            let mut documents = api::yaml::read_documents(text.as_bytes()).map_err(|error| wrong(error.to_string()))?;
            let overlay = match (documents.pop(), documents.is_empty()) {
                (None, _) => continue,
                (Some(overlay), true) if overlay.is_object() => overlay,
                _ => return Err(wrong("one partial manifest was expected".to_owned())),
            };
            if let Some(problem) = forbidden(kind, &overlay) {
                return Err(wrong(problem));
            }
            overlays.insert(kind, overlay);
        }
        Ok(Self(overlays))
    }

    fn of(&self, kind: Kind) -> Option<&Value> {
        self.0.get(&kind)
    }

    fn lay(&self, kind: Kind, object: &mut Value) {
        if let Some(overlay) = self.of(kind) {
            overlay::merge(object, overlay);
        }
    }
}

/// What an overlay may not say, because the object would not be this gateway's any more.
fn forbidden(kind: Kind, overlay: &Value) -> Option<String> {
    if overlay.get("kind").is_some_and(|said| said != kind.name()) {
        return Some(format!("kind is {}, not {}", overlay["kind"], kind.name()));
    }
    let metadata = overlay["metadata"].as_object().into_iter().flatten();
    for (field, _) in metadata {
        if !["labels", "annotations", "$patch"].contains(&field.as_str()) {
            return Some(format!("metadata.{field} cannot be changed"));
        }
    }
    let fixed = match kind {
        Kind::Deployment => "selector",
        Kind::Service => "selector",
        Kind::HorizontalPodAutoscaler => "scaleTargetRef",
        Kind::PodDisruptionBudget => "selector",
        Kind::ServiceAccount => return None,
    };
    overlay["spec"].get(fixed).map(|_| format!("spec.{fixed} cannot be changed"))
}

/// A right on the node that an overlay asks for. Whoever may make a gateway in a namespace need not be somebody who may
/// run such pods, and it is the control plane that makes them.
fn right_on_the_node(overlay: &Value) -> Option<&'static str> {
    let pod = &overlay["spec"]["template"]["spec"];
    let list = |name: &str| pod[name].as_array().into_iter().flatten();
    let privileged = |container: &Value| container["securityContext"]["privileged"] == true;
    let namespace = ["hostNetwork", "hostPID", "hostIPC"].into_iter().find(|namespace| pod[*namespace] == true);
    if list("containers").chain(list("initContainers")).any(privileged) {
        return Some("a privileged container");
    }
    namespace.or_else(|| list("volumes").any(|volume| volume.get("hostPath").is_some()).then_some("a hostPath volume"))
}

/// Whether the result is still an object of its kind that selects its own pods.
fn check(kind: Kind, object: &Value) -> Result<(), Invalid> {
    let shape = match kind {
        Kind::ServiceAccount => ServiceAccount::from_value(object.clone()).map(drop),
        Kind::Service => Service::from_value(object.clone()).map(drop),
        Kind::Deployment => Deployment::from_value(object.clone()).map(drop),
        Kind::HorizontalPodAutoscaler | Kind::PodDisruptionBudget => Ok(()),
    };
    shape.map_err(|error| Invalid(error.to_string()))?;
    let marks = |labels: &Value| labels["gateway.networking.k8s.io/gateway-name"].is_string();
    let pods = kind != Kind::Deployment || marks(&object["spec"]["template"]["metadata"]["labels"]);
    if !pods || !object["metadata"]["labels"]["gateway.istio.io/managed"].is_string() {
        return Err(Invalid(format!("the overlay of {} takes away labels by which the gateway is found", kind.key())));
    }
    Ok(())
}
