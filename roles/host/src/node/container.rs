//! One start of a container: everything decided first, then a process with its own mounts in its pod's namespaces.
//!
//! A container sees the node's files. What is its own: `/etc/resolv.conf`, `/etc/hosts`, its host name, and its volumes,
//! bound to their mount paths in a mount namespace that ends with it. A mount path that does not exist is created on
//! a tmpfs: the folder above it is covered by one in which everything else shows through, so the machine's own file
//! system is never written to for that. Directly below `/` nothing can be covered, so new mount paths start at an
//! existing folder.
//!
//! A container's processes share its process group, and end with its first one; a program that leaves the group (a
//! daemon in a session of its own) lives on until the whole node's world ends.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use api::{Container, Pod};
use linux::mount::MountNs;
use linux::netns::NetNs;
use linux::process::{Child, Command, Place};

use super::context::Context;
use super::objects::{Missing, Objects};
use super::{environment, image, resolve, sandbox, volumes};

/// Why a container cannot be started.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Image(#[from] image::Error),
    #[error(transparent)]
    Missing(#[from] Missing),
    #[error("volume mount {0:?} names no volume of the pod")]
    NoVolume(String),
    #[error("subPath {0:?} leaves its volume")]
    SubPath(String),
    #[error(transparent)]
    Kernel(#[from] linux::Error),
    #[error("cannot write the log: {0}")]
    Log(std::io::Error),
}

impl Error {
    /// The reason of the container's waiting state.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Image(error) => error.reason(),
            Self::Missing(_) | Self::NoVolume(_) | Self::SubPath(_) => "CreateContainerConfigError",
            Self::Kernel(_) => "RunContainerError",
            Self::Log(_) => "CreateContainerError",
        }
    }
}

/// One path to show at another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    source: PathBuf,
    target: PathBuf,
    read_only: bool,
}

/// Everything about a start, decided.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) arguments: Vec<String>,
    pub(super) variables: BTreeMap<String, String>,
    folder: PathBuf,
    user: Option<(u32, u32)>,
    hostname: String,
    mounts: Vec<Mount>,
    pub(super) network: Option<NetNs>,
}

/// Decides how a container starts.
pub(super) fn plan(
    context: &Context,
    pod: &Pod,
    container: &Container,
    objects: &Objects,
    network: Option<NetNs>,
) -> Result<Plan, Error> {
    let entry = image::entry_point(container, &context.ambit)?;
    let hostname = resolve::hostname(pod, &context.name);
    let base = environment::Base {
        path: search_path(&context.ambit),
        hostname: hostname.clone(),
        api: Some(context.api.clone()),
    };
    let variables = environment::variables(&base, pod, container, objects)?;
    let expand = |word: &String| environment::expand(word, &variables);
    let folder = if container.working_dir.is_empty() { "/".to_owned() } else { expand(&container.working_dir) };
    Ok(Plan {
        arguments: entry.iter().chain(&container.args).map(expand).collect(),
        folder: folder.into(),
        user: user(pod, container),
        hostname,
        mounts: mounts(&sandbox::pod_folder(context, pod), pod, container, &variables)?,
        network,
        variables,
    })
}

/// The machine's usual places for programs, and the one of `ambit` itself.
fn search_path(ambit: &Path) -> String {
    let usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    ambit.parent().map_or_else(|| usual.to_owned(), |folder| format!("{}:{usual}", folder.display()))
}

/// User and group, where the pod asks for one; the container's wish comes before the pod's.
fn user(pod: &Pod, container: &Container) -> Option<(u32, u32)> {
    let own = container.security_context.as_ref();
    let whole = pod.spec.security_context.as_ref();
    let user = own.and_then(|own| own.run_as_user).or_else(|| whole.and_then(|whole| whole.run_as_user));
    let group = own.and_then(|own| own.run_as_group).or_else(|| whole.and_then(|whole| whole.run_as_group));
    let id = |number: i64| u32::try_from(number).ok();
    let user = user.and_then(id);
    let group = group.and_then(id);
    (user.is_some() || group.is_some()).then(|| (user.unwrap_or(0), group.unwrap_or(0)))
}

fn mounts(
    folder: &Path,
    pod: &Pod,
    container: &Container,
    variables: &BTreeMap<String, String>,
) -> Result<Vec<Mount>, Error> {
    let own = |name: &str| Mount { source: folder.join(name), target: Path::new("/etc").join(name), read_only: false };
    let mut mounts = vec![own("resolv.conf"), own("hosts")];
    for mount in &container.volume_mounts {
        let volume = pod.spec.volumes.iter().find(|volume| volume.name == mount.name);
        let volume = volume.ok_or_else(|| Error::NoVolume(mount.name.clone()))?;
        let mut source = match &volume.host_path {
            Some(host) => PathBuf::from(&host.path),
            None => volume_folder(folder, &volume.name),
        };
        let sub_path = match mount.sub_path_expr.as_str() {
            "" => mount.sub_path.clone(),
            expression => environment::expand(expression, variables),
        };
        if !sub_path.is_empty() {
            source = source.join(volumes::inside(&sub_path).ok_or(Error::SubPath(sub_path))?);
        }
        mounts.push(Mount { source, target: absolute(&mount.mount_path), read_only: mount.read_only });
    }
    // A mount below another must come after it.
    mounts.sort_by_key(|mount| mount.target.components().count());
    Ok(mounts)
}

/// The folder of a volume's own content.
pub(super) fn volume_folder(pod_folder: &Path, volume: &str) -> PathBuf {
    pod_folder.join("volumes").join(volume)
}

/// Mount paths may be written relative to the root.
fn absolute(path: &str) -> PathBuf {
    let mut absolute = PathBuf::from("/");
    absolute.extend(Path::new(path).components().filter(|part| matches!(part, std::path::Component::Normal(_))));
    absolute
}

impl Plan {
    /// Starts the container. Its output goes to the given ends.
    pub(super) fn start(&self, out: OwnedFd, error: OwnedFd) -> Result<Child, linux::Error> {
        let mounts = self.mounts.clone();
        let set_up = move || {
            linux::mount::make_private()?;
            mounts.iter().try_for_each(show)
        };
        self.command(&self.arguments, Place::New).set_up(set_up).stdio(Stdio::null(), out.into(), error.into()).spawn()
    }

    /// Starts another program beside the running process `pid` of the container.
    pub(super) fn start_beside(
        &self,
        pid: u32,
        arguments: &[String],
        stdio: (Stdio, Stdio, Stdio),
    ) -> Result<Child, linux::Error> {
        self.command(arguments, Place::Join(MountNs::of_process(pid)?)).stdio(stdio.0, stdio.1, stdio.2).spawn()
    }

    fn command(&self, arguments: &[String], mount: Place<MountNs>) -> Command {
        let (program, rest) = arguments.split_first().map_or(("", &[] as &[String]), |(first, rest)| (first, rest));
        let command = Command::new(self.locate(program))
            .args(rest)
            .env_clear()
            .envs(&self.variables)
            .current_dir(&self.folder)
            .mount(mount)
            .hostname(&self.hostname)
            .new_session()
            .die_with_parent();
        let command = match &self.network {
            Some(network) => command.net(network.clone()),
            None => command,
        };
        match self.user {
            Some((user, group)) => command.user(user, group),
            None => command,
        }
    }

    /// Finds a program by the container's own PATH, not by ours.
    fn locate(&self, program: &str) -> PathBuf {
        if program.contains('/') {
            return program.into();
        }
        let path = self.variables.get("PATH").map(String::as_str).unwrap_or_default();
        let mut candidates = path.split(':').map(|folder| Path::new(folder).join(program));
        candidates.find(|candidate| candidate.is_file()).unwrap_or_else(|| program.into())
    }
}

/// Shows one path at another, in the mount namespace of this thread.
fn show(mount: &Mount) -> Result<(), linux::Error> {
    make_room(&mount.target)?;
    linux::mount::bind(&mount.source, &mount.target)?;
    if mount.read_only { linux::mount::make_read_only(&mount.target) } else { Ok(()) }
}

/// Makes it possible to create `target` without writing to the machine's file system.
fn make_room(target: &Path) -> Result<(), linux::Error> {
    if target.exists() {
        return Ok(());
    }
    let above = target.ancestors().skip(1).find(|folder| folder.exists()).unwrap_or_else(|| Path::new("/"));
    if linux::mount::is_tmpfs(above)? {
        return Ok(());
    }
    if above == Path::new("/") {
        let why = std::io::Error::other("mount below an existing folder, such as /var, /etc, /opt, /run or /tmp");
        return Err(linux::Error::new(format!("create {} at the root of the file system", target.display()), why));
    }
    linux::mount::shadow(above)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::state::tests::pod;

    #[rstest::rstest]
    #[case("/a/b", "/a/b")]
    #[case("./var/run/x", "/var/run/x")]
    #[case("/a/../b/", "/a/b")]
    fn mount_paths(#[case] path: &str, #[case] expected: &str) {
        assert_eq!(absolute(path), Path::new(expected));
    }

    #[rstest::rstest]
    #[case(serde_json::json!({}), serde_json::json!({}), None)]
    #[case(serde_json::json!({ "runAsUser": 5 }), serde_json::json!({}), Some((5, 0)))]
    #[case(serde_json::json!({ "runAsUser": 5, "runAsGroup": 6 }), serde_json::json!({ "runAsUser": 7 }), Some((7, 6)))]
    fn users(#[case] whole: serde_json::Value, #[case] own: serde_json::Value, #[case] expected: Option<(u32, u32)>) {
        let pod = pod(serde_json::json!({
            "securityContext": whole, "containers": [{ "name": "a", "securityContext": own }],
        }));
        assert_eq!(user(&pod, &pod.spec.containers[0]), expected);
    }

    fn mounts_of(mount: serde_json::Value) -> Result<Vec<Mount>, Error> {
        let pod = pod(serde_json::json!({
            "volumes": [{ "name": "own", "emptyDir": {} }, { "name": "host", "hostPath": { "path": "/run/x" } }],
            "containers": [{ "name": "a", "volumeMounts": [mount] }],
        }));
        mounts(Path::new("/pod"), &pod, &pod.spec.containers[0], &BTreeMap::new())
    }

    #[rstest::rstest]
    #[case::own(serde_json::json!({ "name": "own", "mountPath": "/data/deep/er" }), "/pod/volumes/own")]
    #[case::host(serde_json::json!({ "name": "host", "mountPath": "/data/deep/er" }), "/run/x")]
    #[case::part(serde_json::json!({ "name": "host", "mountPath": "/data/deep/er", "subPath": "y/z" }), "/run/x/y/z")]
    fn sources(#[case] mount: serde_json::Value, #[case] source: &str) {
        let mounts = mounts_of(mount).unwrap();
        assert_eq!(mounts.last().unwrap().source, Path::new(source));
        assert_eq!(mounts[0].target, Path::new("/etc/resolv.conf"));
    }

    #[test]
    fn bad_mounts_are_refused() {
        let outside = serde_json::json!({ "name": "own", "mountPath": "/d", "subPath": "../x" });
        assert!(matches!(mounts_of(outside), Err(Error::SubPath(_))));
        let unknown = serde_json::json!({ "name": "none", "mountPath": "/d" });
        assert!(matches!(mounts_of(unknown), Err(Error::NoVolume(_))));
    }
}
