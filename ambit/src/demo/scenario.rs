//! The walk: what is done in each step, and what its evidence must look like.

use super::{
    pods::{self, Held},
    screen::Screen,
    wire::{self, Seen},
};
use crate::{
    onehost::{self, Running},
    wait::until,
};
use anyhow::Result;
use api::{AuthorizationPolicy, Namespace, PeerAuthentication, Pod, Resource, ServiceEntry};
use cluster::{Client, DeleteOptions, Output, Patch, Scope};
use linux::packet::Sniffer;
use model::well_known::{DATAPLANE_MODE_LABEL, REDIRECTION_ANNOTATION};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

const MANAGER: &str = "ambit-demo";
const SHOP: &str = "shop";
const SERVER: &str = "http://server.shop:8080";
const NEIGHBOUR: &str = "http://neighbour.shop:8080";
const CLIENT_ID: &str = "spiffe://cluster.local/ns/shop/sa/client";
const SERVER_ID: &str = "spiffe://cluster.local/ns/shop/sa/server";

/// Walks through everything; `true` when each step showed what it must.
pub(super) async fn run(mesh: &Running) -> Result<bool> {
    let mut walk = Walk { mesh, client: &mesh.client, screen: Screen::new(), canaries: 0 };
    walk.plain().await?;
    walk.enrol().await?;
    walk.identity().await?;
    walk.strict().await?;
    walk.deny().await?;
    walk.same_node().await?;
    walk.dns().await?;
    walk.metrics().await?;
    walk.leave().await?;
    Ok(walk.screen.finish())
}

struct Walk<'a> {
    mesh: &'a Running,
    client: &'a Client,
    screen: Screen,
    canaries: u32,
}

impl Walk<'_> {
    async fn plain(&mut self) -> Result<()> {
        self.screen.step("Plain: two pods on two nodes talk, and anyone on the link can read it");
        self.apply(include_str!("../../manifests/demo/shop.yaml"), &[]).await?;
        let client = self.client;
        let pods = until("the shop's pods", async || ready_pods(client).await).await?;
        for pod in &pods {
            let place = format!("{} on {}, address {}", pod.name(), pod.spec.node_name, pod.status.pod_ip);
            self.screen.fact("pod", &place);
        }
        // A pod that is ready is a moment away from being an endpoint on every node.
        for url in [SERVER, NEIGHBOUR] {
            until("the services to answer", async || answered(client, SHOP, url, true).await).await?;
        }
        let (ran, seen) = self.watched_request().await?;
        self.screen.check("answer", ran.success, ran.first_line());
        self.screen.check("link of node n2", seen.clear_text.is_some(), &describe(&seen));
        Ok(())
    }

    async fn enrol(&mut self) -> Result<()> {
        self.screen.step("Enrol: one label on the namespace, and the same request is mutual TLS");
        let before = self.restarts().await?;
        let mut held = Held::open(self.client, SHOP, "client", "server.shop:9000").await?;
        let begun = Instant::now();
        self.label(Some("ambient")).await?;
        let client = self.client;
        until("enrolment", async || redirected(client, true).await).await?;
        let label = format!(
            "{DATAPLANE_MODE_LABEL}=ambient on namespace shop; all pods redirected after {:.1?}",
            begun.elapsed()
        );
        self.screen.fact("label", &label);
        let (ran, seen) = self.watched_request().await?;
        self.screen.check("answer", ran.success, ran.first_line());
        let encrypted = seen.clear_text.is_none() && seen.tls == Some("TLS 1.3") && seen.encrypted_records > 0;
        self.screen.check("link of node n2", encrypted, &describe(&seen));
        match held.heartbeat().await {
            Ok(line) => self.screen.fact("older connection", &format!("opened before, goes on: {line}")),
            Err(error) => self.screen.fact("older connection", &format!("opened before, cut by enrolment: {error}")),
        }
        let after = self.restarts().await?;
        self.screen.check("restarts", after == 0, &format!("{before} before, {after} after"));
        Ok(())
    }

    async fn identity(&mut self) -> Result<()> {
        self.screen.step("Identity: both proxies say who spoke to whom");
        let client = self.client;
        for direction in ["outbound", "inbound"] {
            let words = [format!("direction=\"{direction}\""), format!("src.identity=\"{CLIENT_ID}\"")];
            let words = [words[0].as_str(), words[1].as_str(), &format!("dst.identity=\"{SERVER_ID}\"")];
            let (node, line) = until("the access log", async || last_line(client, &words).await).await?;
            let label = format!("{direction}, node {node}");
            self.screen.check(&label, true, &essence(&line));
        }
        Ok(())
    }

    async fn strict(&mut self) -> Result<()> {
        self.screen.step("STRICT: a pod outside the mesh is refused, one inside is served");
        let before = pods::request(self.client, "outside", "client", &format!("{SERVER}/permissive")).await?;
        self.screen.check("outside, before", before.success, before.first_line());
        self.apply(include_str!("../../manifests/demo/strict.yaml"), &[]).await?;
        let client = self.client;
        let url = format!("{SERVER}/strict");
        let refused = until("STRICT to act", async || answered(client, "outside", &url, false).await).await?;
        self.screen.check("outside, after", true, refused.first_line());
        let inside = pods::request(self.client, SHOP, "client", &format!("{SERVER}/strict")).await?;
        self.screen.check("inside, after", inside.success, inside.first_line());
        let lines = pods::access_lines(self.client, &["istio_converted_static_strict"]).await?;
        let line = lines.last().map_or_else(|| "no line names the policy".to_owned(), |(_, line)| essence(line));
        self.screen.check("log", !lines.is_empty(), &line);
        Ok(())
    }

    async fn deny(&mut self) -> Result<()> {
        self.screen.step("Deny: a policy by service account and port ends a live connection");
        let mut held = Held::open(self.client, SHOP, "client", "server.shop:9000").await?;
        self.screen.fact("before", &format!("a connection to port 9000 is open: {}", held.heartbeat().await?));
        let begun = Instant::now();
        self.apply(include_str!("../../manifests/demo/deny.yaml"), &[]).await?;
        let closed = held.closed(Duration::from_secs(5)).await;
        let took = begun.elapsed();
        let text = closed.clone().unwrap_or_else(|| "still open after 5 s".to_owned());
        let in_time = closed.is_some() && took < Duration::from_secs(1);
        self.screen.check("after", in_time, &format!("{text} ({took:.0?} after kubectl apply)"));
        let other = pods::request(self.client, SHOP, "client", &format!("{SERVER}/allowed")).await?;
        self.screen.check("port 8080", other.success, other.first_line());
        let client = self.client;
        let words = ["policy", "shop/deny-client"];
        let named = until("the log to name the policy", async || last_line(client, &words).await).await?;
        self.screen.check("log", true, &essence(&named.1));
        Ok(())
    }

    async fn same_node(&mut self) -> Result<()> {
        self.screen.step("Same node: two pods of one node, the same identities and policies");
        let ran = pods::request(self.client, SHOP, "client", &format!("{NEIGHBOUR}/same-node")).await?;
        self.screen.check("answer", ran.success, ran.first_line());
        let client = self.client;
        let words = ["direction=\"inbound\"", "dst.service=\"neighbour.shop", CLIENT_ID];
        let line = until("the access log", async || last_line(client, &words).await).await?;
        self.screen.check("log of node n1", line.0 == "n1", &essence(&line.1));
        Ok(())
    }

    async fn dns(&mut self) -> Result<()> {
        self.screen.step("DNS: a ServiceEntry gives a host a name that no DNS server knows");
        let url = "http://ledger.example.com/balance";
        let before = pods::request(self.client, SHOP, "client", url).await?;
        self.screen.check("before", !before.success, before.first_line());
        let ledger: Pod = self.client.get("outside", "client").await?;
        self.apply(include_str!("../../manifests/demo/external.yaml"), &[("ENDPOINT", &ledger.status.pod_ip)]).await?;
        let client = self.client;
        let ran = until("the name to resolve", async || answered(client, SHOP, url, true).await).await?;
        self.screen.check("after", true, ran.first_line());
        Ok(())
    }

    async fn metrics(&mut self) -> Result<()> {
        self.screen.step("Metrics: the proxies count under upstream's names");
        for (node, reporter) in [("n1", "source"), ("n2", "destination")] {
            let pod = pods::proxy_on(self.client, node).await?;
            let page = pods::page(self.client, "istio-system", &pod, 15020, "/metrics").await?;
            let reporter = format!("reporter=\"{reporter}\"");
            let wanted = |line: &&str| {
                line.starts_with("istio_tcp_connections_opened_total{")
                    && line.contains(&reporter)
                    && line.contains(&format!("source_principal=\"{CLIENT_ID}\""))
                    && line.contains("destination_service=\"server.shop.svc.cluster.local\"")
                    && line.contains("connection_security_policy=\"mutual_tls\"")
            };
            let series = page.lines().find(wanted);
            self.screen.check(&format!("node {node}"), series.is_some(), series.unwrap_or("no such series"));
        }
        Ok(())
    }

    async fn leave(&mut self) -> Result<()> {
        self.screen.step("Leave: the label is taken away, and traffic is plain again");
        let at_once = DeleteOptions::default();
        self.client.delete::<PeerAuthentication>(SHOP, "strict", &at_once).await?;
        self.client.delete::<AuthorizationPolicy>(SHOP, "deny-client", &at_once).await?;
        self.client.delete::<ServiceEntry>(SHOP, "ledger", &at_once).await?;
        self.label(None).await?;
        let client = self.client;
        until("the pods to leave", async || redirected(client, false).await).await?;
        let (ran, seen) = self.watched_request().await?;
        self.screen.check("answer", ran.success, ran.first_line());
        self.screen.check("link of node n2", seen.clear_text.is_some(), &describe(&seen));
        let restarts = self.restarts().await?;
        self.screen.check("restarts", restarts == 0, &format!("{restarts} since the beginning"));
        Ok(())
    }

    /// A request with a text that is found nowhere else, and what the link of node n2 showed meanwhile.
    async fn watched_request(&mut self) -> Result<(Output, Seen)> {
        self.canaries += 1;
        let marker = format!("canary-{}-{:08x}", self.canaries, rand::random::<u32>());
        let node = &onehost::nodes(2)[1];
        let sniffer = Sniffer::open(&self.mesh.hub, &onehost::port_of(node))?;
        let answered = Arc::new(AtomicBool::new(false));
        let watching = tokio::spawn(collect(sniffer, Arc::clone(&answered)));
        let ran = pods::request(self.client, SHOP, "client", &format!("{SERVER}/{marker}")).await?;
        answered.store(true, Ordering::Release);
        let segments = watching.await?;
        Ok((ran, wire::read(&segments, &marker)))
    }

    async fn apply(&self, manifest: &str, replace: &[(&str, &str)]) -> Result<()> {
        let filled = replace.iter().fold(manifest.to_owned(), |text, (from, to)| text.replace(from, to));
        self.client.apply_manifests(onehost::documents(&filled)?, MANAGER, SHOP).await?;
        Ok(())
    }

    async fn label(&self, mode: Option<&str>) -> Result<()> {
        let labels: Value = json!({"metadata": {"labels": {DATAPLANE_MODE_LABEL: mode}}});
        self.client.patch::<Namespace>("", SHOP, Patch::Merge(labels)).await?;
        Ok(())
    }

    async fn restarts(&self) -> Result<i32> {
        let pods: Vec<Pod> = self.client.list(&Scope::namespace(SHOP)).await?;
        Ok(pods.iter().flat_map(|pod| &pod.status.container_statuses).map(|status| status.restart_count).sum())
    }
}

/// TCP segments until the answer is there and the link has been quiet for a moment.
async fn collect(sniffer: Sniffer, answered: Arc<AtomicBool>) -> Vec<wire::Segment> {
    const QUIET: Duration = Duration::from_millis(150);
    let mut segments = Vec::new();
    loop {
        match tokio::time::timeout(QUIET, sniffer.next()).await {
            Ok(Ok(frame)) => {
                segments.extend(frame.segment().filter(|s| s.protocol == 6).map(|segment| wire::Segment {
                    source_port: segment.source.port(),
                    destination_port: segment.destination.port(),
                    payload: segment.payload.to_vec(),
                }))
            }
            Ok(Err(_)) => return segments,
            Err(_) if answered.load(Ordering::Acquire) => return segments,
            Err(_) => {}
        }
    }
}

/// The pods of both namespaces, once all of them serve.
async fn ready_pods(client: &Client) -> Result<Vec<Pod>, String> {
    let mut pods = list(client, SHOP).await?;
    pods.extend(list(client, "outside").await?);
    let ready = pods.iter().filter(|pod| onehost::is_ready(pod)).count();
    if ready == 4 { Ok(pods) } else { Err(format!("{ready} of 4 are ready")) }
}

/// Waits for every pod of the shop to be redirected, or for none to be.
async fn redirected(client: &Client, wanted: bool) -> Result<(), String> {
    let is = |pod: &Pod| pod.metadata().annotations.get(REDIRECTION_ANNOTATION).is_some_and(|value| value == "enabled");
    match list(client, SHOP).await?.iter().find(|pod| is(pod) != wanted) {
        Some(pod) => Err(format!("{} is {}redirected", pod.name(), if wanted { "not " } else { "still " })),
        None => Ok(()),
    }
}

async fn list(client: &Client, namespace: &str) -> Result<Vec<Pod>, String> {
    client.list::<Pod>(&Scope::namespace(namespace)).await.map_err(|error| error.to_string())
}

/// A request from pod `client` of `namespace`, once it ends as `wanted`.
async fn answered(client: &Client, namespace: &str, url: &str, wanted: bool) -> Result<Output, String> {
    let ran = pods::request(client, namespace, "client", url).await.map_err(|error| format!("{error:#}"))?;
    if ran.success == wanted { Ok(ran) } else { Err(ran.first_line().to_owned()) }
}

/// The newest access-log line that holds every one of `words`, and the node it comes from.
async fn last_line(client: &Client, words: &[&str]) -> Result<(String, String), String> {
    let lines = pods::access_lines(client, words).await.map_err(|error| format!("{error:#}"))?;
    lines.into_iter().next_back().ok_or_else(|| format!("no line holds {words:?}"))
}

fn describe(seen: &Seen) -> String {
    match (&seen.clear_text, seen.tls) {
        (Some(text), _) => format!("readable: {text}"),
        (None, Some(tls)) => {
            format!("{tls} on port 15008, {} encrypted records, nothing readable", seen.encrypted_records)
        }
        (None, None) => format!("{} segments, nothing readable, no handshake seen", seen.segments),
    }
}

/// The part of an access-log line that matters here.
fn essence(line: &str) -> String {
    const KEYS: [&str; 5] = ["src.identity=", "src.workload=", "dst.service=", "dst.identity=", "error="];
    let kept: Vec<&str> = KEYS.iter().filter_map(|key| field(line, key)).collect();
    if kept.is_empty() { line.to_owned() } else { kept.join(" ") }
}

/// `key="value"` in a line, quotes and all.
fn field<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let start = line.find(key)?;
    let rest = &line[start + key.len()..];
    let length = match rest.strip_prefix('"') {
        Some(quoted) => quoted.find('"')? + 2,
        None => rest.find(' ').unwrap_or(rest.len()),
    };
    Some(&line[start..start + key.len() + length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_essence_of_a_line_keeps_who_and_why() {
        let line = "x\tinfo\taccess\tconnection complete\tsrc.addr=1.2.3.4:5 src.identity=\"spiffe://a\" error=\"b c\"";
        assert_eq!(essence(line), "src.identity=\"spiffe://a\" error=\"b c\"");
        assert_eq!(essence("nothing known"), "nothing known");
    }
}
