//! `proxy-config`: what a waypoint or gateway holds.
//!
//! No proxy here is Envoy, so there are no clusters and bootstraps to show. A waypoint or gateway shows its own configuration, one
//! section for each word that people ask with; for a node proxy it is said where to look.

use http::Method;
use serde_json::Value;

use crate::output::{self, Format};
use crate::pod::{self, PodName};
use crate::{Error, connection, http as pod_http};

const ADMIN_PORT: u16 = 15000;

/// Flags of `proxy-config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    connection: connection::Flags,
    /// What to show
    #[arg(value_enum)]
    what: What,
    /// The proxy: pod, pod.namespace or type/name[.namespace]
    proxy: String,
    /// Print as json or yaml
    #[arg(short, long, default_value = "json", value_parser = format)]
    output: Format,
    /// Port of the proxy's admin pages
    #[arg(long, default_value_t = ADMIN_PORT)]
    proxy_admin_port: u16,
}

fn format(text: &str) -> Result<Format, String> {
    match text {
        "json" => Ok(Format::Json),
        "yaml" => Ok(Format::Yaml),
        other => Err(format!("{other:?} is not json or yaml: a proxy's own configuration is no table")),
    }
}

/// A part of a proxy's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Everything
    All,
    /// Upstreams: services
    #[value(alias = "clusters", alias = "c")]
    Cluster,
    /// Listeners
    #[value(alias = "listeners", alias = "l")]
    Listener,
    /// Routes
    #[value(alias = "routes", alias = "r")]
    Route,
    /// Endpoints: workloads
    #[value(alias = "endpoints", alias = "ep")]
    Endpoint,
    /// Certificates
    #[value(alias = "secrets", alias = "s")]
    Secret,
    /// How the proxy was started: an Envoy has this
    Bootstrap,
    /// Extensions: an Envoy has these
    Ecds,
}

impl What {
    /// Sections of a proxy's own configuration that answer this; none for what only an Envoy has.
    fn sections(self) -> &'static [&'static str] {
        match self {
            Self::All => &[],
            Self::Cluster => &["services", "backends"],
            Self::Listener => &["listeners", "gateway"],
            Self::Route => &["routes", "resources"],
            Self::Endpoint => &["workloads", "endpoints"],
            Self::Secret => &["certificates", "secrets"],
            Self::Bootstrap => &["config"],
            Self::Ecds => &["extensions"],
        }
    }
}

pub(crate) async fn run(args: Args) -> Result<String, Error> {
    let client = args.connection.client().await?;
    let pod = pod::find(&client, &args.proxy, args.connection.namespace(&client)).await?;
    let name = PodName::of(&pod);
    if pod::is_ztunnel(&pod) {
        return Err(Error::Usage(format!(
            "{name} is a node proxy and not an Envoy; see `ztunnel-config all {name}` for what it holds"
        )));
    }
    let body = pod_http::ask(&client, &name, args.proxy_admin_port, Method::GET, "/config_dump").await?;
    let dump: Value = serde_json::from_slice(&body)
        .map_err(|error| Error::Answer { what: format!("the configuration of {name}"), message: error.to_string() })?;
    let shown = section(&dump, args.what).map_err(|known| {
        Error::Usage(format!("{name} is not an Envoy and has no such section; it has: {}", known.join(", ")))
    })?;
    match args.output {
        Format::Yaml => output::yaml(shown),
        _ => output::json(shown, b"  "),
    }
}

/// The part that is asked for, or the names of the parts that there are.
fn section(dump: &Value, what: What) -> Result<&Value, Vec<String>> {
    if what == What::All {
        return Ok(dump);
    }
    what.sections().iter().find_map(|name| dump.get(name)).ok_or_else(|| {
        let members = dump.as_object().into_iter().flat_map(|members| members.keys().cloned());
        members.collect()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_words_that_people_know_find_the_proxys_own_sections() {
        let dump = json!({"routes": [1], "services": [2]});
        assert_eq!(section(&dump, What::Route), Ok(&json!([1])));
        assert_eq!(section(&dump, What::Cluster), Ok(&json!([2])));
        assert_eq!(section(&dump, What::All), Ok(&dump));
        assert_eq!(section(&dump, What::Ecds), Err(vec!["routes".to_owned(), "services".to_owned()]));
    }
}
