//! `proxy-status`: which proxies are connected, to which replica, and whether they have what was sent.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use crate::output::{self, Format};
use crate::syncz::{self, Proxy};
use crate::table::Table;
use crate::{Error, connection};

/// Flags of `proxy-status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    connection: connection::Flags,
    /// Only this proxy, as pod or pod.namespace
    proxy: Option<String>,
    /// Print as table, json or yaml
    #[arg(short, long, default_value = "table")]
    output: Format,
    /// 1 shows one column per type
    #[arg(short, long, default_value_t = 0)]
    verbosity: u8,
    /// How long to wait for an answer, in seconds
    #[arg(long, default_value = "30s", value_parser = seconds)]
    timeout: Duration,
}

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text);
    number.parse().map(Duration::from_secs).map_err(|_| format!("{text:?} is not a number of seconds, like 30s"))
}

pub(crate) async fn run(args: Args) -> Result<String, Error> {
    let client = args.connection.client().await?;
    let namespace = &args.connection.istio_namespace;
    let proxies = tokio::time::timeout(args.timeout, syncz::proxies(&client, namespace)).await;
    let mut proxies = proxies.map_err(|_| {
        Error::Usage(format!(
            "the control plane did not answer within {:?}; give it longer with --timeout",
            args.timeout
        ))
    })??;
    if let Some(wanted) = &args.proxy {
        let wanted = if wanted.contains('.') {
            wanted.clone()
        } else {
            format!("{wanted}.{}", args.connection.namespace(&client))
        };
        proxies.retain(|proxy| proxy.name == wanted);
        if proxies.is_empty() {
            return Err(Error::Usage(format!("proxy {wanted} is not connected to the control plane")));
        }
    }
    match args.output {
        Format::Table if args.verbosity > 0 => Ok(wide_table(&proxies)),
        Format::Table => Ok(table(&proxies)),
        Format::Json => output::json(&structured(&proxies), b"  "),
        Format::Yaml => output::yaml(&structured(&proxies)),
    }
}

fn table(proxies: &[Proxy]) -> String {
    let mut table = Table::new(5, &["NAME", "CLUSTER", "ISTIOD", "VERSION", "SUBSCRIBED TYPES"]);
    for proxy in proxies {
        let types: Vec<_> = proxy.types.iter().map(|(name, _)| name.as_str()).collect();
        table.row([
            proxy.name.clone(),
            proxy.cluster.clone(),
            proxy.istiod.clone(),
            proxy.version.clone(),
            format!("{} ({})", types.len(), types.join(",")),
        ]);
    }
    table.render()
}

fn wide_table(proxies: &[Proxy]) -> String {
    let types: BTreeSet<&str> = proxies.iter().flat_map(|proxy| &proxy.types).map(|(name, _)| name.as_str()).collect();
    let mut headings = vec!["NAME", "CLUSTER", "ISTIOD", "VERSION"];
    headings.extend(&types);
    let mut table = Table::new(5, &headings);
    for proxy in proxies {
        let mut cells = vec![proxy.name.clone(), proxy.cluster.clone(), proxy.istiod.clone(), proxy.version.clone()];
        cells.extend(types.iter().map(|wanted| {
            let state = proxy.types.iter().find(|(name, _)| name == wanted).map(|(_, state)| *state);
            state.unwrap_or("IGNORED").to_owned()
        }));
        table.cells(cells);
    }
    table.render()
}

fn structured(proxies: &[Proxy]) -> serde_json::Value {
    proxies
        .iter()
        .map(|proxy| {
            let types: serde_json::Map<_, _> =
                proxy.types.iter().map(|(name, state)| (name.clone(), (*state).into())).collect();
            json!({
                "name": proxy.name, "cluster": proxy.cluster, "istiod": proxy.istiod, "version": proxy.version,
                "subscribedTypes": types,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ztunnel(name: &str) -> Proxy {
        Proxy {
            name: format!("{name}.istio-system"),
            cluster: "Kubernetes".into(),
            istiod: "istiod-6f6474bdb4-gltfb".into(),
            version: String::new(),
            types: vec![("WADS".into(), "SYNCED"), ("WDS".into(), "STALE")],
        }
    }

    #[test]
    fn the_table_is_upstreams() {
        let text = table(&[ztunnel("ztunnel-ltxzk"), ztunnel("ztunnel-zl4w6")]);
        assert_eq!(text, include_str!("../tests/fixtures/proxy-status.txt"));
    }

    #[test]
    fn more_words_give_every_type_its_column() {
        let text = wide_table(&[ztunnel("ztunnel-ltxzk")]);
        let cells: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(cells[0], ["NAME", "CLUSTER", "ISTIOD", "VERSION", "WADS", "WDS"]);
        assert_eq!(cells[1][3..], ["SYNCED", "STALE"]);
    }

    #[test]
    fn a_timeout_is_a_number_of_seconds() {
        assert_eq!(seconds("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(seconds("5"), Ok(Duration::from_secs(5)));
        assert!(seconds("soon").is_err());
    }
}
