//! `waypoint`: makes, shows and deletes the Gateways that stand in front of services.
//!
//! What is printed and what is written is decided by pure functions over the Gateways; the control plane does the rest.

use std::time::Duration;

use api::{Gateway, Namespace, Resource};
use clap::Subcommand;
use cluster::{Client, DeleteOptions, Patch, Scope};
use serde_json::{Value, json};

use crate::table::Table;
use crate::{Error, connection, output};

const CLASS: &str = "istio-waypoint";
const WAYPOINT_FOR: &str = "istio.io/waypoint-for";
const REVISION: &str = "istio.io/rev";
const USE_WAYPOINT: &str = "istio.io/use-waypoint";
const DATAPLANE_MODE: &str = "istio.io/dataplane-mode";
/// In whose name waypoints are applied, so that upstream's command and this one change the same fields.
const MANAGER: &str = "istioctl";
/// How often a waypoint that is waited for is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Columns of upstream's tables are this far apart.
const PADDING: usize = 5;

/// Flags of `waypoint`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    connection: connection::Flags,
    /// Name of the waypoint
    #[arg(long, default_value = "waypoint", global = true)]
    name: String,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a waypoint, or change it
    Apply {
        #[command(flatten)]
        wanted: Wanted,
        /// Send the traffic of the namespace through the waypoint
        #[arg(long)]
        enroll_namespace: bool,
        /// Let the namespace change from another waypoint to this one
        #[arg(long)]
        overwrite: bool,
        /// Wait until it is programmed
        #[arg(short, long)]
        wait: bool,
        /// How long to wait
        #[arg(long, default_value = "90s", value_parser = duration)]
        waypoint_timeout: Duration,
    },
    /// Print a waypoint as YAML
    Generate {
        #[command(flatten)]
        wanted: Wanted,
    },
    /// Delete waypoints
    Delete {
        /// Their names
        names: Vec<String>,
        /// Every waypoint of the namespace
        #[arg(long, conflicts_with = "names")]
        all: bool,
        /// Every waypoint of this revision in the namespace
        #[arg(short, long, conflicts_with = "names")]
        revision: Option<String>,
    },
    /// List waypoints
    List {
        /// Of every namespace
        #[arg(short = 'A', long)]
        all_namespaces: bool,
    },
    /// Show whether waypoints are programmed
    Status {
        /// Of every namespace
        #[arg(short = 'A', long)]
        all_namespaces: bool,
        /// Wait until they are
        #[arg(short, long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
        wait: bool,
        /// How long to wait
        #[arg(long, default_value = "90s", value_parser = duration)]
        waypoint_timeout: Duration,
    },
}

/// What a waypoint is for.
#[derive(Debug, clap::Args)]
struct Wanted {
    /// Traffic that it takes
    #[arg(long = "for", value_parser = ["service", "workload", "all", "none"])]
    traffic: Option<String>,
    /// Revision of the control plane that is in charge of it
    #[arg(short, long)]
    revision: Option<String>,
}

pub(crate) async fn run(args: Args) -> Result<String, Error> {
    if args.name == "none" {
        let problem = "a waypoint cannot be named none: that is the value which opts out of waypoints";
        return Err(Error::Usage(problem.to_owned()));
    }
    let client = args.connection.client().await?;
    let here = Place { client: &client, namespace: args.connection.namespace(&client) };
    match &args.action {
        Action::Generate { wanted } => output::yaml(&manifest(&args.name, args.connection.said_namespace(), wanted)),
        Action::Apply { wanted, enroll_namespace, overwrite, wait, waypoint_timeout } => {
            let enrol = enroll_namespace.then_some(*overwrite);
            let patience = wait.then_some(*waypoint_timeout);
            here.apply(&args.name, wanted, enrol, patience).await
        }
        Action::Delete { names, all, revision } => here.delete(names, *all, revision.as_deref()).await,
        Action::List { all_namespaces } => {
            Ok(listed(&here.waypoints(*all_namespaces).await?, here.namespace, *all_namespaces))
        }
        Action::Status { all_namespaces, wait, waypoint_timeout } => {
            let patience = if *wait { *waypoint_timeout } else { Duration::ZERO };
            let gateways = here.settled(patience, *all_namespaces, |_| true).await?;
            let table = statuses(&gateways, here.namespace, *all_namespaces);
            if *wait && !gateways.iter().all(is_programmed) {
                return Err(Error::NotProgrammed { waited: *waypoint_timeout, told: table });
            }
            Ok(table)
        }
    }
}

/// A namespace of a cluster.
struct Place<'a> {
    client: &'a Client,
    namespace: &'a str,
}

impl Place<'_> {
    async fn apply(
        &self,
        name: &str,
        wanted: &Wanted,
        enrol: Option<bool>,
        patience: Option<Duration>,
    ) -> Result<String, Error> {
        let namespace = self.namespace;
        let mut text = String::new();
        if let Some(overwrite) = enrol {
            let labels = self.client.get::<Namespace>("", namespace).await?.metadata.labels;
            match labels.get(USE_WAYPOINT) {
                Some(other) if other != name && !overwrite => {
                    return Err(Error::Usage(format!(
                        "namespace {namespace} uses waypoint {other} already; say --overwrite to let it use {name}"
                    )));
                }
                _ => {}
            }
            if labels.get(DATAPLANE_MODE).is_none_or(|mode| mode != "ambient") {
                text.push_str(&format!(
                    "⚠️ namespace {namespace} is not in the mesh, so nothing goes through the waypoint; \
                     `kubectl label namespace {namespace} {DATAPLANE_MODE}=ambient` lets it join\n"
                ));
            }
        }
        let fields = manifest(name, Some(namespace), wanted);
        let patch = Patch::Apply { fields, manager: MANAGER.to_owned(), force: true };
        self.client.patch::<Gateway>(namespace, name, patch).await.map_err(explain)?;
        text.push_str(&format!("✅ waypoint {namespace}/{name} applied\n"));
        if enrol.is_some() {
            let patch = Patch::Merge(json!({"metadata": {"labels": {USE_WAYPOINT: name}}}));
            self.client.patch::<Namespace>("", namespace, patch).await?;
            text.push_str(&format!("✅ namespace {namespace} labeled with \"{USE_WAYPOINT}: {name}\"\n"));
        }
        if let Some(patience) = patience {
            let gateways = self.settled(patience, false, |gateway| gateway.name() == name).await?;
            if !gateways.iter().all(is_programmed) {
                let told = format!("{text}{}", statuses(&gateways, namespace, false));
                return Err(Error::NotProgrammed { waited: patience, told });
            }
            text.push_str(&format!("✅ waypoint {namespace}/{name} is ready!\n"));
        }
        Ok(text)
    }

    async fn delete(&self, names: &[String], all: bool, revision: Option<&str>) -> Result<String, Error> {
        if names.is_empty() && !all && revision.is_none() {
            return Err(Error::Usage("say which waypoints to delete: names, --revision or --all".to_owned()));
        }
        let waypoints = self.waypoints(false).await?;
        let of_revision = |gateway: &Gateway| revision.is_none_or(|revision| revision_of(gateway) == revision);
        let mut chosen: Vec<&str> = names.iter().map(String::as_str).collect();
        if names.is_empty() {
            chosen.extend(waypoints.iter().filter(|gateway| of_revision(gateway)).map(Resource::name));
        }
        let (mut text, mut missing) = (String::new(), Vec::new());
        for name in chosen {
            let known = waypoints.iter().any(|gateway| gateway.name() == name);
            let options = DeleteOptions { propagation_policy: Some("Background"), ..DeleteOptions::default() };
            if known && self.client.delete::<Gateway>(self.namespace, name, &options).await? {
                text.push_str(&format!("waypoint {}/{name} deleted\n", self.namespace));
            } else {
                missing.push(format!("{}/{name}", self.namespace));
            }
        }
        if missing.is_empty() {
            return Ok(text);
        }
        Err(Error::Usage(format!(
            "{text}there is no waypoint {}; `waypoint list` shows those that are",
            missing.join(", ")
        )))
    }

    /// The waypoints that there are, by namespace and name.
    async fn waypoints(&self, everywhere: bool) -> Result<Vec<Gateway>, Error> {
        let scope = if everywhere { Scope::all() } else { Scope::namespace(self.namespace) };
        let mut gateways = self.client.list::<Gateway>(&scope).await.map_err(explain)?;
        gateways.retain(|gateway| gateway.spec.gateway_class_name == CLASS);
        gateways.sort_by(|a, b| (a.namespace(), a.name()).cmp(&(b.namespace(), b.name())));
        Ok(gateways)
    }

    /// The waypoints that are meant, once all are programmed or patience has run out.
    async fn settled(
        &self,
        patience: Duration,
        everywhere: bool,
        meant: impl Fn(&Gateway) -> bool,
    ) -> Result<Vec<Gateway>, Error> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let mut gateways = self.waypoints(everywhere).await?;
            gateways.retain(|gateway| meant(gateway));
            if gateways.iter().all(is_programmed) || tokio::time::Instant::now() >= deadline {
                return Ok(gateways);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// A cluster that does not know Gateways lacks more than one.
fn explain(error: cluster::Error) -> Error {
    if error.is_not_found() {
        return Error::Usage(format!(
            "{error}; if the cluster has no Gateway API, install its CustomResourceDefinitions first"
        ));
    }
    error.into()
}

/// The waypoint as it is applied.
fn manifest(name: &str, namespace: Option<&str>, wanted: &Wanted) -> Value {
    let mut metadata = json!({"name": name});
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    for (label, value) in [(WAYPOINT_FOR, &wanted.traffic), (REVISION, &wanted.revision)] {
        if let Some(value) = value {
            metadata["labels"][label] = value.as_str().into();
        }
    }
    json!({
        "apiVersion": Gateway::api_version(), "kind": Gateway::KIND, "metadata": metadata,
        "spec": {"gatewayClassName": CLASS, "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]},
    })
}

fn revision_of(gateway: &Gateway) -> &str {
    gateway.metadata.label(REVISION).filter(|revision| !revision.is_empty()).unwrap_or("default")
}

fn programmed(gateway: &Gateway) -> Option<&api::Condition> {
    gateway.status.conditions.iter().find(|condition| condition.type_ == "Programmed")
}

fn is_programmed(gateway: &Gateway) -> bool {
    programmed(gateway).is_some_and(api::Condition::is_true)
}

/// The table of `list`. A waypoint without the label prints as upstream prints it.
fn listed(gateways: &[Gateway], namespace: &str, everywhere: bool) -> String {
    let headings = ["NAME", "REVISION", "TRAFFIC TYPE", "PROGRAMMED"];
    table(gateways, namespace, everywhere, &headings, |gateway| {
        let status = programmed(gateway).map_or("False", |condition| &condition.status);
        vec![
            revision_of(gateway).to_owned(),
            gateway.metadata.label(WAYPOINT_FOR).unwrap_or("none").to_owned(),
            status.to_owned(),
        ]
    })
}

/// The table of `status`.
fn statuses(gateways: &[Gateway], namespace: &str, everywhere: bool) -> String {
    let headings = ["NAME", "STATUS", "TYPE", "REASON", "MESSAGE"];
    table(gateways, namespace, everywhere, &headings, |gateway| match programmed(gateway) {
        Some(held) => vec![held.status.clone(), held.type_.clone(), held.reason.clone(), held.message.clone()],
        None => {
            ["Unknown", "Programmed", "Pending", "no control plane has taken it up yet"].map(str::to_owned).to_vec()
        }
    })
}

fn table(
    gateways: &[Gateway],
    namespace: &str,
    everywhere: bool,
    headings: &[&str],
    cells: impl Fn(&Gateway) -> Vec<String>,
) -> String {
    if gateways.is_empty() {
        return "No waypoints found.\n".to_owned();
    }
    let place = everywhere.then_some("NAMESPACE");
    let headings: Vec<_> = place.into_iter().chain(headings.iter().copied()).collect();
    let mut table = Table::new(PADDING, &headings);
    for gateway in gateways.iter().filter(|gateway| everywhere || gateway.namespace() == namespace) {
        let place = everywhere.then(|| gateway.namespace().to_owned());
        table.cells(place.into_iter().chain([gateway.name().to_owned()]).chain(cells(gateway)).collect());
    }
    table.render()
}

fn duration(text: &str) -> Result<Duration, String> {
    runtime::settings::parse_duration(text).ok_or_else(|| format!("{text:?} is not a duration such as 90s or 2m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(labels: Value, condition: Value) -> Gateway {
        let metadata = json!({"namespace": "shop", "name": "waypoint", "labels": labels});
        let conditions = if condition.is_null() { json!([]) } else { json!([condition]) };
        let spec = json!({"gatewayClassName": CLASS});
        Gateway::from_value(json!({"metadata": metadata, "spec": spec, "status": {"conditions": conditions}})).unwrap()
    }

    const PENDING: &str = "no pod of deployment shop/waypoint is ready";

    fn pending() -> Value {
        json!({"type": "Programmed", "status": "False", "reason": "AddressNotUsable", "message": PENDING})
    }

    #[test]
    fn a_generated_waypoint_is_upstreams() {
        let plain = Wanted { traffic: None, revision: None };
        let text = output::yaml(&manifest("waypoint", Some("shop"), &plain)).unwrap();
        let expected = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata:\n  name: waypoint\n  namespace: shop\nspec:\n  \
                        gatewayClassName: istio-waypoint\n  listeners:\n  - name: mesh\n    port: 15008\n    protocol: HBONE\n";
        assert_eq!(text, expected);
        let chosen = Wanted { traffic: Some("all".to_owned()), revision: Some("canary".to_owned()) };
        let labels = manifest("w", None, &chosen)["metadata"]["labels"].clone();
        assert_eq!(labels, json!({WAYPOINT_FOR: "all", REVISION: "canary"}));
    }

    #[test]
    fn lists_have_upstreams_columns() {
        let gateways = [gateway(json!({}), pending())];
        let expected = "NAMESPACE     NAME         REVISION     TRAFFIC TYPE     PROGRAMMED\n\
                        shop          waypoint     default      none             False\n";
        assert_eq!(listed(&gateways, "shop", true), expected);
        let labelled = [gateway(json!({WAYPOINT_FOR: "all", REVISION: "canary"}), json!(null))];
        assert_eq!(
            listed(&labelled, "shop", false),
            "NAME         REVISION     TRAFFIC TYPE     PROGRAMMED\nwaypoint     canary       all              False\n"
        );
        assert_eq!(listed(&[], "shop", false), "No waypoints found.\n");
    }

    #[test]
    fn a_status_says_why_not() {
        let text = statuses(&[gateway(json!({}), pending())], "shop", false);
        assert!(text.starts_with("NAME         STATUS     TYPE           REASON               MESSAGE\n"), "{text}");
        assert!(
            text.ends_with(&format!("waypoint     False      Programmed     AddressNotUsable     {PENDING}\n")),
            "{text}"
        );
        assert!(statuses(&[gateway(json!({}), json!(null))], "shop", false).contains("Unknown"));
    }
}
