//! The authority against everything that must not be signed, and against what must.

#![allow(clippy::unwrap_used, reason = "a test may end where it fails")]

mod world;

use api::Pod;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use cluster::{Client, DeleteOptions};
use identity::{csr::SigningRequest, grpc::TokenSource, peer_identity, pem};
use model::Identity;
use prost_types::{Struct, Value, value::Kind};
use proto::ca::{
    IstioCertificateRequest, IstioCertificateResponse, istio_certificate_service_client::IstioCertificateServiceClient,
};
use serde_json::json;
use std::time::Duration;
use world::{World, channel_with, create, pod, world};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const YEAR: i64 = 365 * 86_400;

/// A world with node proxies, a pod beside one of them, and pods that give no right to anything.
struct Stage {
    world: World,
    ztunnel: Pod,
}

async fn stage() -> Stage {
    let world = world().await;
    let client = &world.client;
    let ztunnel = pod(client, "istio-system", "ztunnel", "n1", "10.244.1.2").await;
    pod(client, "istio-system", "other", "n1", "10.244.1.9").await;
    pod(client, "shop", "web", "n1", "10.244.1.3").await;
    pod(client, "shop", "api", "n2", "10.244.2.3").await;
    for (name, phase) in [("old", "Failed"), ("done", "Succeeded")] {
        pod(client, "shop", name, "n1", "10.244.1.7").await;
        client.apply_status::<Pod>("shop", name, json!({"phase": phase}), "kubelet").await.unwrap();
    }
    Stage { world, ztunnel }
}

async fn token(client: &Client, namespace: &str, account: &str, audience: &str, bound: Option<&Pod>) -> String {
    client.token_request(namespace, account, &[audience.to_owned()], None, bound).await.unwrap().token
}

impl Stage {
    async fn ask(
        &self,
        token: TokenSource,
        csr: &str,
        seconds: i64,
        wanted: Option<&str>,
    ) -> Result<IstioCertificateResponse, tonic::Status> {
        let channel = channel_with(&self.world.client, self.world.grpc, token).await;
        ask(&mut IstioCertificateServiceClient::new(channel), csr, seconds, wanted).await
    }

    async fn proxy(&self) -> TokenSource {
        TokenSource::Literal(
            token(&self.world.client, "istio-system", "ztunnel", "istio-ca", Some(&self.ztunnel)).await,
        )
    }
}

async fn ask(
    client: &mut IstioCertificateServiceClient<identity::grpc::Channel>,
    csr: &str,
    seconds: i64,
    wanted: Option<&str>,
) -> Result<IstioCertificateResponse, tonic::Status> {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let metadata = wanted.map(|wanted| Struct { fields: [("ImpersonatedIdentity".to_owned(), text(wanted))].into() });
    let request = IstioCertificateRequest { csr: csr.to_owned(), validity_duration: seconds, metadata };
    client.create_certificate(request).await.map(tonic::Response::into_inner)
}

fn request(identity: &str) -> String {
    SigningRequest::generate(&identity.parse().unwrap()).unwrap().pem
}

/// Names that a node proxy of node n1 must not get.
fn names() -> Vec<String> {
    let mut names: Vec<String> = [
        "spiffe://cluster.local/ns/shop/sa/api",
        "spiffe://cluster.local/ns/shop/sa/old",
        "spiffe://cluster.local/ns/shop/sa/done",
        "spiffe://cluster.local/ns/shop/sa/never",
        "spiffe://cluster.local/ns/none/sa/web",
        "spiffe://evil.local/ns/shop/sa/web",
        "spiffe://CLUSTER.LOCAL/ns/shop/sa/web",
        "spiffe://cluster.local./ns/shop/sa/web",
        "spiffe://cluster.local/ns/shop/sa/web/",
        "spiffe://cluster.local/ns/shop/sa/web/x",
        "spiffe://cluster.local//ns/shop/sa/web",
        "spiffe://cluster.local/ns/../ns/shop/sa/web",
        "spiffe://cluster.local/ns/./shop/sa/web",
        "spiffe://cluster.local/ns/shop/sa/%77eb",
        "spiffe://cluster.local/ns/shop%2Fsa/web",
        "spiffe://cluster.local/ns/shop/sa/web%00",
        "spiffe://cluster.local/ns/shop/sa/web\0",
        "SPIFFE://cluster.local/ns/shop/sa/web",
        "https://cluster.local/ns/shop/sa/web",
        " spiffe://cluster.local/ns/shop/sa/web",
        "spiffe://cluster.local/ns/shop/sa/web\n",
        "cluster.local/ns/shop/sa/web",
        "spiffe:///ns/shop/sa/web",
        "spiffe://cluster.local/ns//sa/web",
        "spiffe://cluster.local/ns/shop/sa/",
        "spiffe://cluster.local/sa/web/ns/shop",
        "spiffe://cluster.local/ns/shop/sa/WEB",
        "spiffe://cluster.local/ns/Shop/sa/web",
        "spiffe://cluster.local/ns/shop/sa/web?x",
        "spiffe://cluster.local/ns/shop/sa/web#x",
        "spiffe://user@cluster.local/ns/shop/sa/web",
        "spiffe://cluster.local:443/ns/shop/sa/web",
        "spiffe://cluster.local/ns/shop/sa/*",
        "spiffe://cluster.local/ns/*/sa/web",
        "x",
    ]
    .map(str::to_owned)
    .into();
    names.push(format!("spiffe://cluster.local/ns/shop/sa/{}", "w".repeat(10_000)));
    names
}

/// Requests whose key is not proven, or that are none.
fn requests() -> Vec<String> {
    let good = request(WEB);
    let body: String = good.lines().filter(|line| !line.starts_with("-----")).collect();
    let mut der = STANDARD.decode(body).unwrap();
    let place = der.windows(4).position(|window| window == b"shop").unwrap();
    der[place] ^= 1;
    let armour = |end: &str| format!("-----{end} CERTIFICATE REQUEST-----\n");
    let tampered = format!("{}{}\n{}", armour("BEGIN"), STANDARD.encode(der), armour("END"));
    let cut = good.lines().take(3).collect::<Vec<_>>().join("\n");
    let renamed = good.replace("CERTIFICATE REQUEST", "CERTIFICATE");
    vec![String::new(), "nothing".to_owned(), tampered, cut, renamed, good.repeat(2), "A".repeat(100_000)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bad_request_is_refused() {
    let stage = stage().await;
    let client = &stage.world.client;
    let good = request(WEB);
    let mut refused = 0;
    let mut check = |what: String, answer: Result<IstioCertificateResponse, tonic::Status>| {
        let status = answer.err().unwrap_or_else(|| panic!("{what:?} was signed"));
        // Whoever is refused is not told why.
        let opaque = status.code() != tonic::Code::Unauthenticated || status.message() == "authentication failure";
        assert!(opaque, "{what:?}: {status}");
        refused += 1;
    };
    // All at once: a name that may belong to a pod that is just starting is waited for.
    let proxy = stage.proxy().await;
    let names = names();
    let asked = names.iter().map(|name| stage.ask(proxy.clone(), &good, 3600, Some(name)));
    for (name, answer) in names.iter().zip(futures_util::future::join_all(asked).await) {
        check(name.clone(), answer);
    }
    for csr in requests() {
        let answer = stage.ask(proxy.clone(), &csr, 3600, Some(WEB)).await;
        check(csr.chars().take(40).collect(), answer);
    }
    check("ten years".to_owned(), stage.ask(proxy.clone(), &good, 10 * YEAR, Some(WEB)).await);

    let system = "istio-system";
    let bound = Some(&stage.ztunnel);
    let of_web: Pod = client.get("shop", "web").await.unwrap();
    let of_other: Pod = client.get(system, "other").await.unwrap();
    let mut forged = token(client, system, "ztunnel", "istio-ca", bound).await;
    let end = if forged.ends_with('A') { 'B' } else { 'A' };
    forged.truncate(forged.len() - 8);
    forged.extend(std::iter::repeat_n(end, 8));
    let spec = json!({"serviceAccountName": "ztunnel", "nodeName": "n1", "containers": [{"name": "c", "image": "i"}]});
    let former: Pod = create(client, system, "ztunnel-before", json!({"spec": spec})).await;
    let of_former = token(client, system, "ztunnel", "istio-ca", Some(&former)).await;
    client.delete::<Pod>(system, "ztunnel-before", &DeleteOptions::immediately()).await.unwrap();
    let tokens = [
        ("no token", TokenSource::None),
        ("no token at all", TokenSource::Literal(String::new())),
        ("garbage", TokenSource::Literal("a.b.c".to_owned())),
        ("forged", TokenSource::Literal(forged)),
        ("of another audience", TokenSource::Literal(token(client, system, "ztunnel", "other", bound).await)),
        ("unbound", TokenSource::Literal(token(client, system, "ztunnel", "istio-ca", None).await)),
        (
            "of an account that is not trusted",
            TokenSource::Literal(token(client, system, "other", "istio-ca", Some(&of_other)).await),
        ),
        ("of a workload", TokenSource::Literal(token(client, "shop", "web", "istio-ca", Some(&of_web)).await)),
        ("of a pod that is gone", TokenSource::Literal(of_former)),
    ];
    let neighbour = "spiffe://cluster.local/ns/istio-system/sa/ztunnel";
    for (what, token) in tokens {
        check(what.to_owned(), stage.ask(token.clone(), &good, 3600, Some(WEB)).await);
        check(format!("{what}, for the proxy"), stage.ask(token, &good, 3600, Some(neighbour)).await);
    }
    println!("{refused} bad requests refused");
    assert!(refused >= 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_good_requests_are_signed() {
    let stage = stage().await;
    let own = token(&stage.world.client, "shop", "api", "istio-ca", None).await;
    // What a request says of itself does not matter.
    let requests = ["spiffe://evil.local/ns/kube-system/sa/admin", WEB].map(request);
    let callers = [
        (stage.proxy().await, Some(WEB), WEB),
        (TokenSource::Literal(own), None, "spiffe://cluster.local/ns/shop/sa/api"),
    ];
    let mut signed = 0;
    for (token, wanted, expected) in callers {
        let expected: Identity = expected.parse().unwrap();
        let mut client =
            IstioCertificateServiceClient::new(channel_with(&stage.world.client, stage.world.grpc, token).await);
        for round in 0..500_usize {
            let seconds = [0, 60, 86_400, 90 * 86_400][round % 4];
            let answer = ask(&mut client, &requests[round % 2], seconds, wanted).await.unwrap();
            let leaf = pem::certificates(answer.cert_chain[0].as_bytes()).unwrap();
            assert_eq!(peer_identity(&leaf), Ok(expected.clone()));
            let validity = identity::CertificateInfo::from_der(&leaf[0]).unwrap().validity;
            let asked = if seconds == 0 { 86_400 } else { u64::try_from(seconds).unwrap() };
            assert_eq!(validity.length(), Duration::from_secs(asked + 120));
            signed += 1;
        }
    }
    assert_eq!(signed, 1000);
}
