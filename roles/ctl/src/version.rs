//! `version`: this program, every replica of the control plane, every proxy.

use std::collections::BTreeMap;

use http::Method;
use serde::{Deserialize, Serialize};

use crate::output::{self, Format};
use crate::pod::PodName;
use crate::syncz::{self, Proxy};
use crate::{Error, connection, http as pod_http};

const MONITORING_PORT: u16 = 15014;

/// Flags of `version`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    connection: connection::Flags,
    /// Print as json or yaml instead of lines
    #[arg(short, long)]
    output: Option<Format>,
    /// Print lines (this is what is done without --output)
    #[arg(short, long)]
    short: bool,
    /// Also ask the control plane and the proxies
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    remote: bool,
}

/// What a program says of its build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct BuildInfo {
    version: String,
    revision: String,
    golang_version: String,
    status: String,
    tag: String,
}

/// A replica of the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Server {
    component: String,
    revision: String,
    info: BuildInfo,
}

/// A proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct ProxyInfo {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "IstioVersion")]
    version: String,
    #[serde(rename = "Type")]
    type_: String,
}

/// Everything.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    client_version: BuildInfo,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mesh_version: Vec<Server>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_plane_version: Option<Vec<ProxyInfo>>,
}

pub(crate) async fn run(args: Args) -> Result<String, Error> {
    let mut versions = Versions { client_version: own(), mesh_version: Vec::new(), data_plane_version: None };
    let mut trouble = None;
    if args.remote
        && let Err(error) = ask(&args, &mut versions).await
    {
        trouble = Some(error);
    }
    match args.output {
        // What is known is printed; what is not is said, without failing: the client's own version needs no mesh.
        None | Some(Format::Table) => {
            let note = trouble.map(|error| format!("the mesh cannot be asked: {error}\n")).unwrap_or_default();
            Ok(lines(&versions) + &note)
        }
        Some(format) => match (trouble, format) {
            (Some(error), _) => Err(error),
            (None, Format::Json) => output::json(&versions, b"  "),
            (None, _) => output::yaml(&versions),
        },
    }
}

async fn ask(args: &Args, versions: &mut Versions) -> Result<(), Error> {
    let client = args.connection.client().await?;
    let namespace = &args.connection.istio_namespace;
    for replica in syncz::replicas(&client, namespace).await? {
        let pod = PodName::of(&replica);
        let body = pod_http::ask(&client, &pod, MONITORING_PORT, Method::GET, "/version").await?;
        let info = serde_json::from_slice(&body)
            .map_err(|error| Error::Answer { what: format!("the version of {pod}"), message: error.to_string() })?;
        let revision = replica.metadata.label("istio.io/rev").unwrap_or("default").to_owned();
        versions.mesh_version.push(Server { component: "pilot".to_owned(), revision, info });
    }
    let proxies = syncz::proxies(&client, namespace).await?;
    versions.data_plane_version = Some(proxies.into_iter().map(proxy_info).collect());
    Ok(())
}

fn own() -> BuildInfo {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let status = if cfg!(debug_assertions) { "debug" } else { "release" };
    BuildInfo { tag: version.clone(), version, status: status.to_owned(), ..BuildInfo::default() }
}

fn proxy_info(proxy: Proxy) -> ProxyInfo {
    // Only node proxies take workloads as they are.
    let is_ztunnel = proxy.types.iter().any(|(name, _)| name == "WDS");
    ProxyInfo {
        id: proxy.name,
        version: proxy.version,
        type_: if is_ztunnel { "ztunnel" } else { "sidecar" }.to_owned(),
    }
}

fn lines(versions: &Versions) -> String {
    let mut text = format!("client version: {}\n", versions.client_version.version);
    let mut servers: Vec<_> = versions.mesh_version.iter().map(|server| server.info.version.as_str()).collect();
    servers.dedup();
    if !servers.is_empty() {
        text += &format!("control plane version: {}\n", servers.join(", "));
    }
    if let Some(proxies) = &versions.data_plane_version {
        let mut counts = BTreeMap::<&str, usize>::new();
        for proxy in proxies {
            *counts.entry(&proxy.version).or_default() += 1;
        }
        let counts: Vec<_> = counts.iter().map(|(version, count)| format!("{version} ({count} proxies)")).collect();
        let counts = if counts.is_empty() { "none".to_owned() } else { counts.join(", ") };
        text += &format!("data plane version: {counts}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded() -> Versions {
        let unknown = BuildInfo {
            version: "unknown".into(),
            revision: "unknown".into(),
            golang_version: "go1.26.8".into(),
            status: "unknown".into(),
            tag: "unknown".into(),
        };
        let proxy = |id: &str, version: &str, type_: &str| ProxyInfo {
            id: id.into(),
            version: version.into(),
            type_: type_.into(),
        };
        Versions {
            client_version: unknown.clone(),
            mesh_version: vec![Server {
                component: "pilot".into(),
                revision: "default".into(),
                info: BuildInfo { golang_version: String::new(), ..unknown },
            }],
            data_plane_version: Some(vec![
                proxy("test-1.default", "65536.65536.65536", "sidecar"),
                proxy("ztunnel-ltxzk.istio-system", "", "ztunnel"),
                proxy("ztunnel-zl4w6.istio-system", "", "ztunnel"),
            ]),
        }
    }

    #[test]
    fn versions_are_printed_as_upstream_prints_them() {
        assert_eq!(lines(&recorded()), include_str!("../tests/fixtures/version.txt"));
        assert_eq!(output::json(&recorded(), b"  ").unwrap(), include_str!("../tests/fixtures/version.json"));
    }

    #[test]
    fn without_a_mesh_only_the_client_is_known() {
        let versions = Versions { client_version: own(), mesh_version: Vec::new(), data_plane_version: None };
        assert_eq!(lines(&versions), format!("client version: {}\n", env!("CARGO_PKG_VERSION")));
    }
}
