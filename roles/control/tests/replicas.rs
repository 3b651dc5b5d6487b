//! Three replicas, each a process: the work of one that is stopped is taken over, it does not write when it wakes up, and
//! all of them serve.

#![allow(clippy::unwrap_used, reason = "a test may end where it fails")]

mod world;

use api::{ConfigMap, Lease, Namespace, Node, Pod};
use clap::Parser;
use cluster::Client;
use identity::{CaClient, CertificateSource};
use model::Identity;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use runtime::clock::Clock;
use serde_json::json;
use std::{
    process::{Child, Command},
    time::{Duration, Instant},
};
use world::{Api, channel, create, eventually, page, pod};

/// Says to a process of this test program that it is a replica, and with which flags.
const REPLICA: &str = "AMBIT_TEST_REPLICA";
const ROOTS: &str = "istio-namespace-controller-election";

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    args: control::Args,
}

/// Not a test: what a replica's process runs.
#[test]
fn replica() {
    let Ok(flags) = std::env::var(REPLICA) else { return };
    let Flags { args } = Flags::parse_from(std::iter::once("control").chain(flags.lines()));
    control::main(args).unwrap();
}

struct Replica {
    name: String,
    grpc: u16,
    http: u16,
    process: Child,
}

impl Replica {
    fn start(api: &Api, name: &str) -> Self {
        let (flags, grpc, http) = api.flags(&[&format!("--pod-name={name}")]);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["replica", "--exact", "--nocapture"]).env(REPLICA, flags.join("\n"));
        Self { name: name.to_owned(), grpc, http, process: command.spawn().unwrap() }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id().cast_signed()), signal).unwrap();
    }

    async fn ready(&self) {
        eventually("readiness", || async { page(self.http, "/ready").await.starts_with("HTTP/1.1 200").then_some(()) })
            .await;
    }

    /// Whether it signs.
    async fn signs(&self, client: &Client, ztunnel: &Pod) {
        let channel = channel(client, self.grpc, "ztunnel", Some(ztunnel)).await;
        let authority = CaClient::new(channel, Duration::from_secs(3600), true, Clock::system());
        authority.fetch(&Identity::new("cluster.local", "shop", "web").unwrap()).await.unwrap();
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

async fn holder(client: &Client) -> Option<String> {
    let lease = client.find::<Lease>("istio-system", ROOTS).await.unwrap()?;
    (!lease.spec.holder_identity.is_empty()).then_some(lease.spec.holder_identity)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_leader_is_replaced_and_stays_replaced() {
    let api = Api::start().await;
    let client = &api.client;
    let replicas: Vec<_> = ["a", "b", "c"].map(|name| Replica::start(&api, &format!("istiod-{name}"))).into();
    for replica in &replicas {
        replica.ready().await;
    }
    create::<Node>(client, "", "n1", json!({})).await;
    let ztunnel = pod(client, "istio-system", "ztunnel", "n1", "10.244.1.2").await;
    pod(client, "shop", "web", "n1", "10.244.1.3").await;
    for replica in &replicas {
        replica.signs(client, &ztunnel).await;
    }

    for stop in [Signal::SIGSTOP, Signal::SIGKILL] {
        let leading = eventually("a leader", || holder(client)).await;
        let leader = replicas.iter().find(|replica| replica.name == leading).unwrap();
        leader.signal(stop);
        let stopped = Instant::now();
        let late = format!("late-{stop}").to_lowercase();
        create::<Namespace>(client, "", &late, json!({})).await;
        eventually("another's roots", || async {
            client.find::<ConfigMap>(&late, "istio-ca-root-cert").await.unwrap()
        })
        .await;
        let took = stopped.elapsed();
        println!("{stop}: taken over after {took:?}");
        assert!(took <= Duration::from_secs(15), "{took:?}");
        let new = holder(client).await.unwrap();
        assert_ne!(new, leading);
        for replica in replicas.iter().filter(|replica| replica.name != leading) {
            replica.signs(client, &ztunnel).await;
        }
        if stop == Signal::SIGSTOP {
            // Awake again, it serves, and leaves the work to the one who took it over.
            leader.signal(Signal::SIGCONT);
            leader.ready().await;
            leader.signs(client, &ztunnel).await;
            assert_eq!(holder(client).await, Some(new));
        }
    }
}
