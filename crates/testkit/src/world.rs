//! One `ambit up`, and what a user does with it.

use crate::{
    process::{self, Process},
    until,
};
use anyhow::{Context, Result, anyhow, bail};
use api::{Namespace, Pod, Resource};
use cluster::{Client, Output, Patch, Scope};
use linux::netns::NetNs;
use model::well_known::{DATAPLANE_MODE_LABEL, REDIRECTION_ANNOTATION, SYSTEM_NAMESPACE};
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

static WORLDS: AtomicU32 = AtomicU32::new(0);

/// A running mesh; it ends when dropped.
#[derive(Debug)]
pub struct World {
    /// Its name, found nowhere else.
    pub name: String,
    /// Its API.
    pub client: Client,
    binary: String,
    folder: PathBuf,
}

/// A name that no other test has.
pub fn unique_name() -> String {
    format!("test-{}-{}", std::process::id(), WORLDS.fetch_add(1, Ordering::Relaxed))
}

impl World {
    /// Starts a mesh of two nodes and waits until it is ready.
    pub async fn up(binary: &str) -> Result<Self> {
        Self::up_named(binary, &unique_name()).await
    }

    /// The same under a given name.
    pub async fn up_named(binary: &str, name: &str) -> Result<Self> {
        let words = ["up", "--detach", "--name", name, "--api-port", "0"];
        let started = Command::new(binary).args(words).output().context("starting `ambit up`")?;
        if !started.status.success() {
            bail!("`ambit up`: {}", String::from_utf8_lossy(&started.stderr));
        }
        let folder = PathBuf::from("/run/ambit").join(name);
        let client = Client::from_kubeconfig(&folder.join("kubeconfig")).await?;
        Ok(Self { name: name.to_owned(), client, binary: binary.to_owned(), folder })
    }

    /// Ends it as a user does.
    pub fn down(&self) -> Result<()> {
        let ended = Command::new(&self.binary).args(["down", "--name", &self.name]).output()?;
        if ended.status.success() { Ok(()) } else { bail!("`ambit down`: {}", String::from_utf8_lossy(&ended.stderr)) }
    }

    /// The process of `ambit up`.
    pub fn pid(&self) -> Result<i32> {
        let text = std::fs::read_to_string(self.folder.join("mesh.json"))?;
        let mesh: Value = serde_json::from_str(&text)?;
        mesh["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).ok_or_else(|| anyhow!("no pid in {text}"))
    }

    /// Processes of this world whose command holds these words.
    pub fn processes(&self, words: &str) -> Result<Vec<Process>> {
        Ok(process::family(self.pid()?).into_iter().filter(|process| process.command.contains(words)).collect())
    }

    /// Crashes the processes whose command holds these words; how many there were.
    pub fn crash(&self, words: &str) -> Result<usize> {
        let found = self.processes(words)?;
        found.iter().for_each(|process| process::kill(process.pid));
        Ok(found.len())
    }

    /// The network namespace that connects the nodes.
    pub fn hub(&self) -> Result<NetNs> {
        let apiserver = self.processes("ambit apiserver")?;
        let apiserver = apiserver.first().ok_or_else(|| anyhow!("no apiserver runs in {}", self.name))?;
        Ok(NetNs::of_process(u32::try_from(apiserver.pid)?)?)
    }

    /// Applies YAML documents.
    pub async fn apply(&self, manifests: &str) -> Result<()> {
        let documents = api::yaml::read_documents(manifests.as_bytes()).map_err(|problem| anyhow!("{problem}"))?;
        self.client.apply_manifests(documents, "test", "default").await?;
        Ok(())
    }

    /// Labels a namespace as part of the mesh, or takes the label away.
    pub async fn enrol(&self, namespace: &str, wanted: bool) -> Result<()> {
        let mode = wanted.then_some("ambient");
        let labels = json!({"metadata": {"labels": {DATAPLANE_MODE_LABEL: mode}}});
        self.client.patch::<Namespace>("", namespace, Patch::Merge(labels)).await?;
        Ok(())
    }

    /// The pods of a namespace.
    pub async fn pods(&self, namespace: &str) -> Result<Vec<Pod>> {
        Ok(self.client.list::<Pod>(&Scope::namespace(namespace)).await?)
    }

    /// Waits until the namespace has this many pods and all of them are ready.
    pub async fn ready(&self, namespace: &str, count: usize) -> Result<Vec<Pod>> {
        until(&format!("{count} ready pods in {namespace}"), async || {
            let pods = self.pods(namespace).await?;
            let ready = pods.iter().filter(|pod| is_ready(pod)).count();
            if ready == count && pods.len() == count { Ok(pods) } else { bail!("{ready} of {} are ready", pods.len()) }
        })
        .await
    }

    /// Waits until every pod of a namespace is redirected, or none is.
    pub async fn redirected(&self, namespace: &str, wanted: bool) -> Result<()> {
        until(&format!("redirection in {namespace}"), async || {
            let is = |pod: &&Pod| {
                pod.metadata().annotations.get(REDIRECTION_ANNOTATION).is_some_and(|value| value == "enabled")
            };
            match self.pods(namespace).await?.iter().find(|pod| is(pod) != wanted) {
                Some(pod) => bail!("{} is not yet as wished", pod.name()),
                None => Ok(()),
            }
        })
        .await
    }

    /// One HTTP request out of a pod.
    pub async fn request(&self, namespace: &str, pod: &str, url: &str) -> Result<Output> {
        let command = ["ambit", "app", "client", "--url", url, "--count", "1", "--timeout", "3s"];
        Ok(self.client.run(namespace, pod, &command).await?)
    }

    /// Waits until a request ends as wanted.
    pub async fn answered(&self, namespace: &str, pod: &str, url: &str, wanted: bool) -> Result<Output> {
        until(&format!("{url} to be {}", if wanted { "served" } else { "refused" }), async || {
            let ran = self.request(namespace, pod, url).await?;
            if ran.success == wanted { Ok(ran) } else { bail!("{}", ran.first_line()) }
        })
        .await
    }

    /// The logs of all pods of the mesh's own namespace with this label, one after the other.
    pub async fn system_logs(&self, labels: &str) -> Result<String> {
        let mut text = String::new();
        for pod in self.client.list::<Pod>(&Scope::namespace(SYSTEM_NAMESPACE).labels(labels)).await? {
            text.push_str(&self.client.log(SYSTEM_NAMESPACE, pod.name()).await?);
        }
        Ok(text)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Err(error) = self.down() {
            eprintln!("{error:#}");
        }
    }
}

fn is_ready(pod: &Pod) -> bool {
    pod.status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
