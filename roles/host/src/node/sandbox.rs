//! The sandbox of a pod: a network namespace without a name, held by a pause process, set up by the CNI chain.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use api::{Pod, Resource};
use linux::netns::NetNs;
use linux::process::{Child, Command};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::chain::{self, Attachment};
use super::context::Context;

const RECORD: &str = "sandbox.json";

/// Why a pod has no sandbox.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Kernel(#[from] linux::Error),
    #[error("failed to setup network for sandbox: {0}")]
    Network(#[from] chain::Error),
    #[error("failed to setup network for sandbox: the plugins gave no address")]
    NoAddress,
    #[error("cannot keep the sandbox's record in {path}: {source}")]
    Record { path: PathBuf, source: std::io::Error },
}

/// A pod's namespaces and address.
#[derive(Debug)]
pub(super) struct Sandbox {
    /// Absent for a pod that lives in the node's own network.
    pub(super) network: Option<NetNs>,
    pub(super) address: IpAddr,
    /// Held, not used: the namespace's path leads through it.
    pause: Option<Child>,
    record: Record,
}

/// What must be known to take a sandbox down, also after the node process was restarted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Record {
    container: String,
    pod_namespace: String,
    pod_name: String,
    pod_uid: String,
    result: serde_json::Value,
    network: bool,
}

/// The folder of a pod on the node.
pub(super) fn pod_folder(context: &Context, pod: &Pod) -> PathBuf {
    context.state.join("pods").join(&pod.metadata.uid)
}

/// Makes the sandbox of a pod; what was made is undone if a part fails.
pub(super) async fn create(context: &Context, pod: &Pod) -> Result<Sandbox, Error> {
    let mut record = Record {
        container: uuid::Uuid::new_v4().simple().to_string(),
        pod_namespace: pod.namespace().to_owned(),
        pod_name: pod.name().to_owned(),
        pod_uid: pod.metadata.uid.clone(),
        ..Record::default()
    };
    let folder = pod_folder(context, pod);
    if pod.spec.host_network {
        save(&folder, &record)?;
        return Ok(Sandbox { network: None, address: context.address, pause: None, record });
    }
    record.network = true;
    save(&folder, &record)?;
    let network = NetNs::new_anonymous()?;
    let pause = pause(context, pod, &network)?;
    let mut sandbox = Sandbox { network: Some(network), address: context.address, pause: Some(pause), record };
    match connect(context, pod, &mut sandbox).await {
        Ok(()) => Ok(sandbox),
        Err(error) => {
            destroy(context, &mut sandbox).await;
            Err(error)
        }
    }
}

async fn connect(context: &Context, pod: &Pod, sandbox: &mut Sandbox) -> Result<(), Error> {
    let chain = chain::load(&context.cni_config)?;
    sandbox.record.result = chain.add(&context.cni_binaries, &sandbox.attachment()).await?;
    save(&pod_folder(context, pod), &sandbox.record)?;
    let addresses = crate::cni::result_addresses(&sandbox.record.result);
    sandbox.address = addresses.into_iter().next().ok_or(Error::NoAddress)?;
    Ok(())
}

/// The process that holds the namespace; its arguments let people see which pod it is of.
fn pause(context: &Context, pod: &Pod, network: &NetNs) -> Result<Child, linux::Error> {
    let name = format!("{}/{}", pod.namespace(), pod.name());
    Command::new(&context.ambit)
        .args(["host", "pause", "--pod-uid", &pod.metadata.uid, "--pod", &name])
        .net(network.clone())
        .stdio(Stdio::null(), Stdio::null(), Stdio::null())
        .new_session()
        .die_with_parent()
        .spawn()
}

/// Takes the sandbox down as far as possible. The record goes only when the plugins agreed, so that addresses are
/// given back at the next start of the node at the latest.
pub(super) async fn destroy(context: &Context, sandbox: &mut Sandbox) {
    if release(context, &sandbox.record, sandbox.attachment()).await {
        let folder = context.state.join("pods").join(&sandbox.record.pod_uid);
        if let Err(error) = std::fs::remove_file(folder.join(RECORD)) {
            tracing::debug!(%error, "no record of the sandbox to remove");
        }
    }
    if let Some(mut pause) = sandbox.pause.take() {
        if let Err(error) = pause.signal(Signal::SIGKILL) {
            tracing::warn!(%error, "a pause process stays");
        }
        drop(pause.wait().await);
    }
    sandbox.network = None;
}

async fn release(context: &Context, record: &Record, attachment: Attachment) -> bool {
    if !record.network {
        return true;
    }
    let result = (!record.result.is_null()).then_some(&record.result);
    let released = match chain::load(&context.cni_config) {
        Ok(chain) => chain.delete(&context.cni_binaries, &attachment, result).await,
        Err(error) => Err(error),
    };
    if let Err(error) = &released {
        tracing::warn!(%error, pod = record.pod_name, namespace = record.pod_namespace, "pod network not taken down");
    }
    released.is_ok()
}

/// Releases what an earlier life of this node left behind: its pods ended with it.
pub(super) async fn sweep(context: &Context) {
    let Ok(pods) = std::fs::read_dir(context.state.join("pods")) else { return };
    for folder in pods.flatten().map(|entry| entry.path()) {
        let text = std::fs::read(folder.join(RECORD)).ok();
        if let Some(record) = text.and_then(|text| serde_json::from_slice::<Record>(&text).ok()) {
            let attachment = attachment(&record, None);
            release(context, &record, attachment).await;
        }
        if let Err(error) = std::fs::remove_dir_all(&folder) {
            tracing::warn!(%error, folder = %folder.display(), "an old pod's folder stays");
        }
    }
}

impl Sandbox {
    pub(super) fn pause_pid(&self) -> Option<u32> {
        self.pause.as_ref().map(Child::pid)
    }

    fn attachment(&self) -> Attachment {
        attachment(&self.record, self.pause_pid())
    }
}

fn attachment(record: &Record, pause: Option<u32>) -> Attachment {
    Attachment {
        container: record.container.clone(),
        namespace: pause.map(|pid| PathBuf::from(format!("/proc/{pid}/ns/net"))),
        pod_namespace: record.pod_namespace.clone(),
        pod_name: record.pod_name.clone(),
        pod_uid: record.pod_uid.clone(),
    }
}

fn save(folder: &Path, record: &Record) -> Result<(), Error> {
    let path = folder.join(RECORD);
    let text = serde_json::to_vec(record).map_err(std::io::Error::from);
    let written = text.and_then(|text| {
        std::fs::create_dir_all(folder)?;
        std::fs::write(&path, text)
    });
    written.map_err(|source| Error::Record { path, source })
}
