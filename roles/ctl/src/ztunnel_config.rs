//! `ztunnel-config`: workloads, services, policies, certificates and connections as one node proxy sees them.

mod dump;
mod show;

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use cluster::Client;
use http::Method;
use jiff::Timestamp;
use serde::Serialize;

use crate::output::{self, Format};
use crate::pod::{self, PodName};
use crate::table::Table;
use crate::{Error, connection, http as pod_http};
use dump::Dump;
use show::{ConnectionFilter, WorkloadFilter};

/// Flags of `ztunnel-config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    view: View,
    #[command(flatten)]
    connection: connection::Flags,
    /// Port of the proxy's admin interface
    #[arg(long, default_value_t = 15000, global = true)]
    proxy_admin_port: u16,
    /// Print as short, json or yaml
    #[arg(short, long, default_value = "short", global = true)]
    output: Format,
    /// Ask the proxy of this node
    #[arg(long, global = true)]
    node: Option<String>,
    /// Read a dump from a file; - is standard input
    #[arg(short, long, global = true)]
    file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum View {
    /// Workloads
    #[command(aliases = ["workloads", "w"])]
    Workload {
        /// A ztunnel pod, or a pod whose node's ztunnel is asked about it
        pod: Option<String>,
        /// Only the workload with this address
        #[arg(long)]
        address: Option<String>,
        /// Only workloads of this namespace
        #[arg(long)]
        workload_namespace: Option<String>,
        /// Only workloads of this node
        #[arg(long)]
        workload_node: Option<String>,
    },
    /// Services
    #[command(aliases = ["services", "s", "svc"])]
    Service {
        /// A ztunnel pod
        pod: Option<String>,
        /// Only services of this namespace
        #[arg(long)]
        service_namespace: Option<String>,
    },
    /// Authorization policies
    #[command(aliases = ["policies", "p", "pol"])]
    Policy {
        /// A ztunnel pod
        pod: Option<String>,
        /// Only policies of this namespace
        #[arg(long)]
        policy_namespace: Option<String>,
    },
    /// Certificates of the node's workloads
    #[command(aliases = ["certificates", "certs", "cert"])]
    Certificate {
        /// A ztunnel pod, or a pod whose certificate is shown
        pod: Option<String>,
    },
    /// Open connections of the node's workloads
    #[command(aliases = ["cons"])]
    Connections {
        /// A ztunnel pod, or a pod whose connections are shown
        pod: Option<String>,
        /// Only inbound or outbound ones
        #[arg(long, value_parser = ["inbound", "outbound"])]
        direction: Option<String>,
        /// Addresses instead of names
        #[arg(long)]
        raw: bool,
        /// Only those of workloads of this namespace
        #[arg(long)]
        workload_namespace: Option<String>,
    },
    /// All of these tables
    All {
        /// A ztunnel pod
        pod: Option<String>,
        /// With a line that says which table follows
        #[arg(long)]
        with_headers: bool,
    },
    /// Show or change the log level
    Log {
        /// A ztunnel pod
        pod: Option<String>,
        /// Levels to set, as `[SCOPE:]LEVEL[,...]`
        #[arg(long)]
        level: Option<String>,
        /// Go back to the levels of the start
        #[arg(short, long)]
        reset: bool,
    },
}

impl View {
    fn pod(&self) -> Option<&str> {
        match self {
            Self::Workload { pod, .. }
            | Self::Service { pod, .. }
            | Self::Policy { pod, .. }
            | Self::Certificate { pod }
            | Self::Connections { pod, .. }
            | Self::All { pod, .. }
            | Self::Log { pod, .. } => pod.as_deref(),
        }
    }

    /// Certificates and connections differ from node to node, so one must be named.
    fn needs_node(&self) -> bool {
        matches!(self, Self::Certificate { .. } | Self::Connections { .. })
    }
}

/// The workload that a pod argument meant, when it was not a node proxy.
#[derive(Clone, Debug)]
struct Subject {
    pod: PodName,
    service_account: String,
}

pub(crate) async fn run(args: Args) -> Result<String, Error> {
    let sources = [args.file.is_some(), args.node.is_some(), args.view.pod().is_some()];
    if sources.iter().filter(|given| **given).count() > 1 {
        return Err(Error::Usage("give at most one of a file, a node and a pod".to_owned()));
    }
    if let Some(path) = &args.file {
        let dump = read_dump(&read_file(path)?, &path.display().to_string())?;
        return render(&args, &dump, None, Timestamp::now());
    }
    if args.view.needs_node() && !sources.contains(&true) {
        return Err(Error::Usage("ztunnel pod name or --node must be set".to_owned()));
    }
    let client = args.connection.client().await?;
    let (proxy, subject) = proxy(&client, &args).await?;
    if let View::Log { level, reset, .. } = &args.view {
        return log(&client, &args, &proxy, level.as_deref(), *reset).await;
    }
    let body = pod_http::ask(&client, &proxy, args.proxy_admin_port, Method::GET, "/config_dump").await?;
    let dump = read_dump(&body, &format!("the dump of {proxy}"))?;
    render(&args, &dump, subject.as_ref(), Timestamp::now())
}

/// The proxy to ask; and when the argument was another pod, that pod.
async fn proxy(client: &Client, args: &Args) -> Result<(PodName, Option<Subject>), Error> {
    let system = &args.connection.istio_namespace;
    let Some(argument) = args.view.pod() else {
        return Ok((PodName::of(&pod::ztunnel(client, system, args.node.as_deref()).await?), None));
    };
    let named = pod::find(client, argument, args.connection.namespace(client)).await?;
    if pod::is_ztunnel(&named) {
        return Ok((PodName::of(&named), None));
    }
    let proxy = pod::ztunnel(client, system, Some(&named.spec.node_name)).await?;
    let subject = Subject { pod: PodName::of(&named), service_account: named.service_account().to_owned() };
    Ok((PodName::of(&proxy), Some(subject)))
}

async fn log(client: &Client, args: &Args, proxy: &PodName, level: Option<&str>, reset: bool) -> Result<String, Error> {
    let mut query = Vec::new();
    if let Some(level) = level {
        // The proxy's own form is `scope=level`.
        query.push(format!("level={}", level.replace(':', "=")));
    }
    if reset {
        query.push("reset".to_owned());
    }
    let path = if query.is_empty() { "/logging".to_owned() } else { format!("/logging?{}", query.join("&")) };
    let body = pod_http::ask(client, proxy, args.proxy_admin_port, Method::POST, &path).await?;
    Ok(format!("{proxy}:\n{}\n", String::from_utf8_lossy(&body)))
}

fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    bytes.map_err(|source| Error::File { path: path.to_owned(), source })
}

fn read_dump(bytes: &[u8], what: &str) -> Result<Dump, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Answer { what: what.to_owned(), message: error.to_string() })
}

/// What is printed for a dump.
fn render(args: &Args, dump: &Dump, subject: Option<&Subject>, now: Timestamp) -> Result<String, Error> {
    let print = Printer(args.output);
    let own_name = subject.map(|subject| subject.pod.name.clone());
    let own_namespace = subject.map(|subject| subject.pod.namespace.clone());
    match &args.view {
        View::Workload { address, workload_namespace, workload_node, .. } => {
            let filter = WorkloadFilter {
                address: address.clone(),
                namespace: workload_namespace.clone().or(own_namespace),
                node: workload_node.clone(),
                name: own_name,
            };
            let workloads = show::workloads(dump, &filter);
            print.print(&workloads, || show::workload_table(dump, &workloads))
        }
        View::Service { service_namespace, .. } => {
            let services = show::services(dump, service_namespace.as_ref());
            print.print(&services, || show::service_table(dump, &services))
        }
        View::Policy { policy_namespace, .. } => {
            let policies = show::policies(dump, policy_namespace.as_ref());
            print.print(&policies, || show::policy_table(&policies))
        }
        View::Certificate { .. } => {
            let identity =
                subject.map(|subject| format!("/ns/{}/sa/{}", subject.pod.namespace, subject.service_account));
            let certificates = show::certificates(dump, identity.as_deref());
            print.print(&certificates, || show::certificate_table(&certificates, now))
        }
        View::Connections { direction, raw, workload_namespace, .. } => {
            let namespace = workload_namespace.clone().or(own_namespace);
            let filter = ConnectionFilter { direction: direction.clone(), namespace, name: own_name };
            let states = show::states(dump, &filter);
            print.print(&states, || show::connection_table(dump, &states, *raw))
        }
        View::All { with_headers, .. } => all(args.output, dump, *with_headers, now),
        View::Log { .. } => Err(Error::Usage("the log level is in no dump; name a pod or a node".to_owned())),
    }
}

fn all(format: Format, dump: &Dump, with_headers: bool, now: Timestamp) -> Result<String, Error> {
    let workloads = show::workloads(dump, &WorkloadFilter::default());
    let services = show::services(dump, None);
    let policies = show::policies(dump, None);
    let certificates = show::certificates(dump, None);
    let states = show::states(dump, &ConnectionFilter::default());
    if format != Format::Table {
        let everything = serde_json::json!({
            "workloads": workloads, "services": services, "policies": policies, "certificates": certificates,
            "workloadState": states,
        });
        return Printer(format).print(&everything, || Table::new(1, &[]));
    }
    let tables = [
        ("WORKLOAD", show::workload_table(dump, &workloads)),
        ("SERVICE", show::service_table(dump, &services)),
        ("POLICY", show::policy_table(&policies)),
        ("CERTIFICATE", show::certificate_table(&certificates, now)),
        ("CONNECTION", show::connection_table(dump, &states, false)),
    ];
    Ok(tables.into_iter().fold(String::new(), |text, (name, table)| {
        let heading = if with_headers { format!("------ {name} INFO ------\n") } else { String::new() };
        format!("{text}\n{heading}{}", table.render())
    }))
}

struct Printer(Format);

impl Printer {
    fn print<T: Serialize>(&self, value: &T, table: impl FnOnce() -> Table) -> Result<String, Error> {
        match self.0 {
            Format::Table => Ok(table().render()),
            Format::Json => output::json(value, b"    "),
            Format::Yaml => output::yaml(value),
        }
    }
}

#[cfg(test)]
mod tests;
