//! What must be there before a pod's containers start: the objects that it refers to, and its volumes on disk.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use api::{ConfigMap, Pod, Resource, Secret};

use super::container::volume_folder;
use super::context::Context;
use super::objects::{self, Missing, Objects, Token};
use super::volumes::{self, Content};
use super::{resolve, sandbox};

/// Why a pod's volumes are not ready.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Missing(#[from] Missing),
    #[error(transparent)]
    Api(#[from] cluster::Error),
    #[error("hostPath {path:?} is not of type {kind}: {problem}")]
    HostPath { path: PathBuf, kind: String, problem: String },
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
}

/// Reads everything that the pod refers to; what is missing is missing, and tokens are new where they are due.
pub(super) async fn fetch(context: &Context, pod: &Pod, known: &Objects) -> Result<Objects, Error> {
    let references = objects::references(pod);
    let (client, namespace) = (&context.client, pod.namespace());
    let mut found = Objects::default();
    for name in references.config_maps {
        if let Some(map) = client.find::<ConfigMap>(namespace, &name).await? {
            found.config_maps.insert(name, map);
        }
    }
    for name in references.secrets {
        if let Some(secret) = client.find::<Secret>(namespace, &name).await? {
            found.secrets.insert(name, secret);
        }
    }
    let now = api::Time(jiff::Timestamp::now());
    for key in references.tokens {
        let valid = known.tokens.get(&key).filter(|token| token.renew_at > now);
        let token = match valid {
            Some(token) => token.clone(),
            None => token(context, pod, &key.0, key.1, now).await?,
        };
        found.tokens.insert(key, token);
    }
    Ok(found)
}

async fn token(
    context: &Context,
    pod: &Pod,
    audience: &str,
    lifetime: i64,
    now: api::Time,
) -> Result<Token, cluster::Error> {
    let audiences: Vec<String> = if audience.is_empty() { Vec::new() } else { vec![audience.to_owned()] };
    let account = pod.service_account();
    let status = context.client.token_request(pod.namespace(), account, &audiences, Some(lifetime), Some(pod)).await?;
    let renew_at = objects::renew_at(now, status.expiration_timestamp.unwrap_or(now));
    Ok(Token { text: status.token, renew_at })
}

/// Writes every volume of the pod. Files that already say the same are left alone, so this also refreshes.
pub(super) fn write_volumes(context: &Context, pod: &Pod, objects: &Objects) -> Result<(), Error> {
    let folder = sandbox::pod_folder(context, pod);
    for volume in &pod.spec.volumes {
        let target = volume_folder(&folder, &volume.name);
        match volumes::content(pod, volume, objects)? {
            Content::Host { path, kind } => host_path(&path, &kind)?,
            Content::Empty { .. } => {
                make_folder(&target)?;
                fs::set_permissions(&target, fs::Permissions::from_mode(0o777))
                    .map_err(|source| Error::Write { path: target, source })?;
            }
            Content::Files(files) => {
                make_folder(&target)?;
                for (name, file) in files {
                    write_file(&target.join(name), &file.bytes, file.mode, owner(pod))?;
                }
            }
        }
    }
    Ok(())
}

/// The files that every container of the pod gets.
pub(super) fn write_name_files(context: &Context, pod: &Pod, address: std::net::IpAddr) -> Result<(), Error> {
    let folder = sandbox::pod_folder(context, pod);
    make_folder(&folder)?;
    let resolver = resolve::resolv_conf(pod, &context.resolver, &context.cluster_dns, &context.domain);
    write_file(&folder.join("resolv.conf"), resolver.as_bytes(), 0o644, None)?;
    let hostname = resolve::hostname(pod, &context.name);
    let hosts = resolve::hosts(pod, address, &hostname, &context.domain);
    write_file(&folder.join("hosts"), hosts.as_bytes(), 0o644, None)
}

/// Who must be able to read projected files, when the pod does not run as root.
fn owner(pod: &Pod) -> Option<u32> {
    let own = pod.spec.containers.iter().find_map(|container| container.security_context.as_ref()?.run_as_user);
    let whole = pod.spec.security_context.as_ref().and_then(|context| context.run_as_user);
    own.or(whole).and_then(|user| u32::try_from(user).ok())
}

fn make_folder(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// Replaces a file in one step, so that a reader sees the old or the new one.
fn write_file(path: &Path, bytes: &[u8], mode: u32, owner: Option<u32>) -> Result<(), Error> {
    if fs::read(path).is_ok_and(|known| known == bytes) {
        return Ok(());
    }
    let written = (|| {
        let folder = path.parent().unwrap_or_else(|| Path::new("/"));
        fs::create_dir_all(folder)?;
        let fresh = folder.join(format!(".{}.new", path.file_name().unwrap_or_default().to_string_lossy()));
        fs::write(&fresh, bytes)?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(mode))?;
        std::os::unix::fs::chown(&fresh, owner, None)?;
        fs::rename(&fresh, path)
    })();
    written.map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// Checks a path of the node, or makes it where the volume says so.
fn host_path(path: &Path, kind: &str) -> Result<(), Error> {
    use std::os::unix::fs::FileTypeExt;
    let wrong = |problem: String| Error::HostPath { path: path.to_owned(), kind: kind.to_owned(), problem };
    match kind {
        "DirectoryOrCreate" => return fs::create_dir_all(path).map_err(|error| wrong(error.to_string())),
        "FileOrCreate" => {
            let opened = fs::OpenOptions::new().create(true).append(true).open(path);
            return opened.map(drop).map_err(|error| wrong(error.to_string()));
        }
        _ => {}
    }
    let found = fs::metadata(path).map_err(|error| wrong(error.to_string()))?.file_type();
    let fits = match kind {
        "Directory" => found.is_dir(),
        "File" => found.is_file(),
        "Socket" => found.is_socket(),
        "CharDevice" => found.is_char_device(),
        "BlockDevice" => found.is_block_device(),
        _ => true,
    };
    if fits { Ok(()) } else { Err(wrong("something else is there".to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_says_the_same_is_not_replaced() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let inode = || fs::metadata(&path).unwrap().ino();
        write_file(&path, b"1", 0o600, None).unwrap();
        let first = inode();
        write_file(&path, b"1", 0o600, None).unwrap();
        assert_eq!(inode(), first);
        write_file(&path, b"2", 0o640, None).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn host_paths_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let inside = |name: &str| folder.path().join(name);
        assert!(host_path(&inside("none"), "").is_err());
        host_path(&inside("made/deep"), "DirectoryOrCreate").unwrap();
        host_path(&inside("made"), "Directory").unwrap();
        assert!(host_path(&inside("made"), "File").is_err());
        host_path(&inside("file"), "FileOrCreate").unwrap();
        host_path(&inside("file"), "File").unwrap();
    }
}
