//! What is rendered, held against what upstream's control plane was seen to deploy, and overlays over it.

use super::{
    Role, Settings,
    render::{Kind, Parameters, Rendered, render},
};
use crate::settings::Mesh;
use api::{ConfigMap, Gateway, ObjectMeta, Resource};
use rstest::rstest;
use serde_json::{Value, json};

const RECORDED: &str = include_str!("../../tests/gateways/waypoint-objects.yaml");

fn gateway(metadata: Value, spec: Value) -> Gateway {
    let mut object = json!({
        "metadata": {"name": "waypoint", "namespace": "shop", "uid": "1"},
        "spec": {"gatewayClassName": "istio-waypoint", "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]},
    });
    super::overlay::merge(&mut object["metadata"], &metadata);
    super::overlay::merge(&mut object["spec"], &spec);
    Gateway::from_value(object).unwrap()
}

fn settings() -> Settings {
    Settings::of(Mesh::default(), "default", "ambit.local/ambit")
}

fn map(data: Value) -> Option<ConfigMap> {
    let data = serde_json::from_value(data).unwrap();
    Some(ConfigMap { metadata: ObjectMeta::named("shop", "parameters"), data, ..ConfigMap::default() })
}

fn rendered(gateway: &Gateway, own: Option<ConfigMap>) -> Rendered {
    render(gateway, Role::Waypoint, &Parameters { class: None, own }, &settings()).unwrap()
}

/// Fields that a server fills in, or that say something about the image of another proxy.
const NOT_OURS_TO_SAY: [&str; 26] = [
    "status",
    "creationTimestamp",
    "generation",
    "deployment.kubernetes.io/revision",
    "progressDeadlineSeconds",
    "replicas",
    "revisionHistoryLimit",
    "strategy",
    "image",
    "imagePullPolicy",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "dnsPolicy",
    "restartPolicy",
    "schedulerName",
    "serviceAccount",
    "terminationGracePeriodSeconds",
    "defaultMode",
    "clusterIP",
    "clusterIPs",
    "internalTrafficPolicy",
    "ipFamilies",
    "sessionAffinity",
    "go-proxy-envoy",
    "go-proxy-data",
    "PROXY_CONFIG",
];

/// What the recording says and ours does not, by path. Lists are compared by the names of their elements.
fn missing(path: &str, recorded: &Value, ours: &Value, found: &mut Vec<String>) {
    let skipped = |name: &str| NOT_OURS_TO_SAY.contains(&name);
    match (recorded, ours) {
        (Value::Object(recorded), Value::Object(_)) => {
            for (name, value) in recorded.iter().filter(|(name, _)| !skipped(name)) {
                missing(&format!("{path}.{name}"), value, &ours[name], found);
            }
        }
        (Value::Array(recorded), Value::Array(ours)) if recorded.iter().all(|element| element["name"].is_string()) => {
            for element in recorded.iter().filter(|element| !skipped(element["name"].as_str().unwrap())) {
                let mine = ours.iter().find(|mine| mine["name"] == element["name"]).unwrap_or(&Value::Null);
                missing(&format!("{path}[{}]", element["name"]), element, mine, found);
            }
        }
        // What is left of an object when a server's own fields are gone.
        (Value::Object(recorded), Value::Null) if recorded.keys().all(|name| skipped(name)) => {}
        (recorded, ours) if recorded == ours => {}
        (recorded, ours) => found.push(format!("{path}: {recorded} there, {ours} here")),
    }
}

#[test]
fn a_waypoint_is_deployed_as_upstream_deploys_it() {
    let recorded = api::yaml::read_documents(RECORDED.as_bytes()).unwrap();
    let ours = rendered(&gateway(json!({}), json!({})), None);
    for (index, kind) in [Kind::Deployment, Kind::Service, Kind::ServiceAccount].into_iter().enumerate() {
        let mut found = Vec::new();
        missing("", &recorded[0]["items"][index], &ours.objects[&kind], &mut found);
        assert!(found.is_empty(), "{kind:?}: {found:#?}");
    }
    assert_eq!(ours.objects.len(), 3, "nothing is deployed that nobody asked for");
    assert_eq!(ours.objects[&Kind::Deployment]["spec"].get("replicas"), None, "the number is left to whoever scales");
}

#[test]
fn the_same_gateway_is_rendered_the_same() {
    let own = || map(json!({"horizontalPodAutoscaler": "spec: {minReplicas: 2, maxReplicas: 4}"}));
    let gateway = gateway(json!({"labels": {"b": "1", "a": "2"}}), json!({}));
    assert_eq!(rendered(&gateway, own()), rendered(&gateway, own()));
    // What the controller itself writes about a gateway must not roll its pods.
    let mut seen = gateway.clone();
    seen.metadata.annotations.insert("gateway.istio.io/controller-version".to_owned(), "5".to_owned());
    seen.metadata.resource_version = "7".to_owned();
    assert_eq!(rendered(&gateway, own()), rendered(&seen, own()));
}

#[rstest]
#[case::nobody_says(None, json!({}), json!({}), Value::Null)]
#[case::the_mesh_says(Some(2), json!({}), json!({}), json!(2))]
#[case::the_class_says(Some(2), json!({}), json!({"class": "spec: {replicas: 3}"}), json!(3))]
#[case::the_gateway_says(Some(2), json!({"annotations": {"proxy.istio.io/replicas": "4"}}), json!({"class": "spec: {replicas: 3}"}), json!(4))]
#[case::its_parameters_say(Some(2), json!({"annotations": {"proxy.istio.io/replicas": "4"}}), json!({"own": "spec: {replicas: 5}"}), json!(5))]
fn replicas(#[case] mesh: Option<u32>, #[case] metadata: Value, #[case] overlays: Value, #[case] expected: Value) {
    let overlay = |key: &str| overlays.get(key).and_then(|text| map(json!({"deployment": text})));
    let parameters = Parameters { class: overlay("class"), own: overlay("own") };
    let settings = Settings { waypoint_replicas: mesh, ..settings() };
    let rendered = render(&gateway(metadata, json!({})), Role::Waypoint, &parameters, &settings).unwrap();
    assert_eq!(rendered.objects[&Kind::Deployment]["spec"]["replicas"], expected);
}

#[test]
fn overlays_tune_what_is_deployed() {
    let own = map(json!({
        "deployment": "spec: {template: {spec: {containers: [{name: istio-proxy, resources: {limits: null, requests: {cpu: 500m}}}], \
            topologySpreadConstraints: [{topologyKey: topology.kubernetes.io/zone, maxSkew: 1, whenUnsatisfiable: DoNotSchedule}]}}}",
        "service": "metadata: {annotations: {a: b}}\nspec: {type: NodePort}",
        "horizontalPodAutoscaler": "spec: {minReplicas: 2, maxReplicas: 4}",
        "podDisruptionBudget": "spec: {minAvailable: 1}",
    }));
    let objects = rendered(&gateway(json!({}), json!({})), own).objects;
    let pod = &objects[&Kind::Deployment]["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["resources"], json!({"requests": {"cpu": "500m", "memory": "128Mi"}}));
    assert_eq!(pod["containers"][0]["name"], "istio-proxy");
    assert_eq!(pod["topologySpreadConstraints"][0]["maxSkew"], 1);
    assert_eq!(objects[&Kind::Service]["spec"]["type"], "NodePort");
    assert_eq!(
        objects[&Kind::Service]["metadata"]["annotations"],
        json!({"networking.istio.io/traffic-distribution": "PreferClose", "a": "b"})
    );
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "waypoint"});
    assert_eq!(
        objects[&Kind::HorizontalPodAutoscaler]["spec"],
        json!({"scaleTargetRef": target, "maxReplicas": 4, "minReplicas": 2})
    );
    let selector = json!({"matchLabels": {"gateway.networking.k8s.io/gateway-name": "waypoint"}});
    assert_eq!(objects[&Kind::PodDisruptionBudget]["spec"], json!({"selector": selector, "minAvailable": 1}));
}

#[rstest]
#[case::unknown_key(json!({"deploymnt": "spec: {}"}), "deploymnt")]
#[case::no_yaml(json!({"deployment": "spec: ["}), "deployment")]
#[case::no_object(json!({"deployment": "- a"}), "one partial manifest")]
#[case::another_kind(json!({"deployment": "kind: DaemonSet"}), "DaemonSet")]
#[case::another_name(json!({"service": "metadata: {name: other}"}), "metadata.name")]
#[case::another_selector(json!({"deployment": "spec: {selector: {matchLabels: {a: b}}}"}), "spec.selector")]
#[case::another_target(json!({"horizontalPodAutoscaler": "spec: {scaleTargetRef: {name: x}}"}), "scaleTargetRef")]
#[case::wrong_shape(json!({"deployment": "spec: {replicas: many}"}), "spec.replicas")]
#[case::lost_label(json!({"deployment": "spec: {template: {metadata: {labels: {gateway.networking.k8s.io/gateway-name: null}}}}"}), "labels")]
#[case::host_network(json!({"deployment": "spec: {template: {spec: {hostNetwork: true}}}"}), "hostNetwork")]
#[case::privileged(json!({"deployment": "spec: {template: {spec: {containers: [{name: istio-proxy, securityContext: {privileged: true}}]}}}"}), "privileged")]
#[case::host_path(json!({"deployment": "spec: {template: {spec: {volumes: [{name: x, hostPath: {path: /}}]}}}"}), "hostPath")]
fn parameters_that_cannot_be(#[case] data: Value, #[case] told: &str) {
    let parameters = Parameters { class: None, own: map(data) };
    let error =
        render(&gateway(json!({}), json!({})), Role::Waypoint, &parameters, &settings()).unwrap_err().to_string();
    assert!(error.contains(told), "{error}");
}

#[test]
fn names_types_and_accounts_can_be_chosen() {
    let edge = gateway(
        json!({"name": "front", "annotations": {"gateway.istio.io/service-account": "mine", "networking.istio.io/service-type": "ClusterIP"}}),
        json!({"gatewayClassName": "istio", "addresses": [{"value": "10.96.7.7"}], "listeners": [
            {"name": "http", "port": 80, "protocol": "HTTP"}, {"name": "a.b", "port": 80, "protocol": "HTTP"}, {"name": "tls.x", "port": 443, "protocol": "HTTPS"},
        ]}),
    );
    let rendered = render(&edge, Role::Edge, &Parameters::default(), &settings()).unwrap();
    assert_eq!(rendered.name, "front-istio");
    assert!(!rendered.objects.contains_key(&Kind::ServiceAccount));
    let service = &rendered.objects[&Kind::Service]["spec"];
    assert_eq!((&service["type"], &service["clusterIP"]), (&json!("ClusterIP"), &json!("10.96.7.7")));
    let ports: Vec<_> =
        service["ports"].as_array().unwrap().iter().map(|port| format!("{}={}", port["name"], port["port"])).collect();
    assert_eq!(ports, ["\"status-port\"=15021", "\"http\"=80", "\"tls-x\"=443"]);
    let pod = &rendered.objects[&Kind::Deployment]["spec"]["template"]["spec"];
    assert_eq!(pod["serviceAccountName"], "mine");
    assert_eq!(pod["containers"][0]["args"][1], "router");
    assert!(
        pod["containers"][0]["env"].as_array().unwrap().contains(&json!({"name": "GATEWAY_NAME", "value": "front"}))
    );
}

#[test]
fn labels_and_annotations_are_passed_on() {
    let labels = |metadata: Value, spec: Value| {
        rendered(&gateway(metadata, spec), None).objects[&Kind::Deployment]["spec"]["template"]["metadata"]["labels"]
            .clone()
    };
    let said = json!({"labels": {"team": "a", "gateway.networking.k8s.io/x": "y"}});
    let copied = labels(said.clone(), json!({}));
    assert_eq!((&copied["team"], copied.get("gateway.networking.k8s.io/x")), (&json!("a"), None));
    let chosen = labels(said, json!({"infrastructure": {"labels": {"cost": "b"}}}));
    assert_eq!((chosen.get("team"), &chosen["cost"]), (None, &json!("b")));
}
