//! What a pod's volumes hold, decided before anything is written.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use api::{Container, KeyToPath, Pod, Volume, VolumeMount};

use super::fields;
use super::objects::{Missing, Objects};

/// Where programs in a pod look for the token of their service account.
const ACCOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const ACCOUNT_VOLUME: &str = "kube-api-access";

/// What a volume is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// A directory of its own that the pod may write to.
    Empty { in_memory: bool },
    /// A path of the node.
    Host { path: PathBuf, kind: String },
    /// Files that follow objects of the API, by path below the volume.
    Files(BTreeMap<PathBuf, File>),
}

/// One file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) bytes: Vec<u8>,
    pub(super) mode: u32,
}

/// The pod with the volume and mounts of its service account, unless it says that it wants none or has them already.
pub(super) fn with_service_account(mut pod: Pod) -> Pod {
    let wanted = |container: &Container| !container.volume_mounts.iter().any(|mount| mount.mount_path == ACCOUNT_PATH);
    if pod.spec.automount_service_account_token == Some(false) {
        return pod;
    }
    let mut used = false;
    for container in pod.spec.init_containers.iter_mut().chain(&mut pod.spec.containers) {
        if wanted(container) {
            used = true;
            container.volume_mounts.push(VolumeMount {
                name: ACCOUNT_VOLUME.to_owned(),
                mount_path: ACCOUNT_PATH.to_owned(),
                read_only: true,
                ..VolumeMount::default()
            });
        }
    }
    if used {
        pod.spec.volumes.push(account_volume());
    }
    pod
}

fn account_volume() -> Volume {
    let token = api::ServiceAccountTokenProjection { path: "token".to_owned(), ..Default::default() };
    let authority = api::ConfigMapProjection {
        name: "kube-root-ca.crt".to_owned(),
        items: vec![KeyToPath { key: "ca.crt".to_owned(), path: "ca.crt".to_owned(), mode: None }],
        optional: false,
    };
    let namespace = api::DownwardApiVolumeFile {
        path: "namespace".to_owned(),
        field_ref: Some(api::ObjectFieldSelector { field_path: "metadata.namespace".to_owned(), ..Default::default() }),
        ..Default::default()
    };
    let sources = vec![
        api::VolumeProjection { service_account_token: Some(token), ..Default::default() },
        api::VolumeProjection { config_map: Some(authority), ..Default::default() },
        api::VolumeProjection {
            downward_api: Some(api::DownwardApiProjection { items: vec![namespace] }),
            ..Default::default()
        },
    ];
    let projected = Some(api::ProjectedVolumeSource { sources, default_mode: None });
    Volume { name: ACCOUNT_VOLUME.to_owned(), projected, ..Volume::default() }
}

/// What the volume holds now.
pub(super) fn content(pod: &Pod, volume: &Volume, objects: &Objects) -> Result<Content, Missing> {
    if let Some(empty) = &volume.empty_dir {
        return Ok(Content::Empty { in_memory: empty.medium == "Memory" });
    }
    if let Some(host) = &volume.host_path {
        return Ok(Content::Host { path: PathBuf::from(&host.path), kind: host.type_.clone() });
    }
    let mut files = Files::default();
    if let Some(source) = &volume.config_map {
        files.default_mode(source.default_mode);
        files.config_map(objects, &source.name, source.optional, &source.items)?;
    } else if let Some(source) = &volume.secret {
        files.default_mode(source.default_mode);
        files.secret(objects, &source.secret_name, source.optional, &source.items)?;
    } else if let Some(source) = &volume.downward_api {
        files.default_mode(source.default_mode);
        files.downward(pod, &source.items)?;
    } else if let Some(source) = &volume.projected {
        files.default_mode(source.default_mode);
        source.sources.iter().try_for_each(|source| files.project(pod, objects, source))?;
    } else {
        let kind = volume.other.keys().next().map_or("no source", String::as_str);
        return Err(Missing::new(format!("volume {:?}: {kind} is not served on one host", volume.name)));
    }
    Ok(Content::Files(files.files))
}

#[derive(Default)]
struct Files {
    files: BTreeMap<PathBuf, File>,
    mode: Option<i32>,
}

impl Files {
    fn default_mode(&mut self, mode: Option<i32>) {
        self.mode = mode;
    }

    fn project(&mut self, pod: &Pod, objects: &Objects, source: &api::VolumeProjection) -> Result<(), Missing> {
        if let Some(map) = &source.config_map {
            self.config_map(objects, &map.name, map.optional, &map.items)?;
        }
        if let Some(secret) = &source.secret {
            self.secret(objects, &secret.name, secret.optional, &secret.items)?;
        }
        if let Some(downward) = &source.downward_api {
            self.downward(pod, &downward.items)?;
        }
        if let Some(token) = &source.service_account_token {
            self.put(&token.path, objects.token(token)?.text.clone().into_bytes(), Some(0o600))?;
        }
        Ok(())
    }

    fn config_map(
        &mut self,
        objects: &Objects,
        name: &str,
        optional: bool,
        items: &[KeyToPath],
    ) -> Result<(), Missing> {
        let Some(map) = objects.config_map(name, optional)? else { return Ok(()) };
        let keys = map.data.keys().chain(map.binary_data.keys());
        self.entries(keys, items, optional, |key| map.bytes(key), || format!("configmap {name:?}"))
    }

    fn secret(&mut self, objects: &Objects, name: &str, optional: bool, items: &[KeyToPath]) -> Result<(), Missing> {
        let Some(secret) = objects.secret(name, optional)? else { return Ok(()) };
        self.entries(secret.data.keys(), items, optional, |key| secret.bytes(key), || format!("secret {name:?}"))
    }

    fn entries<'a>(
        &mut self,
        keys: impl Iterator<Item = &'a String>,
        items: &[KeyToPath],
        optional: bool,
        bytes: impl Fn(&str) -> Option<Vec<u8>>,
        source: impl Fn() -> String,
    ) -> Result<(), Missing> {
        if items.is_empty() {
            for key in keys {
                self.put(key, bytes(key).unwrap_or_default(), None)?;
            }
        }
        for item in items {
            match bytes(&item.key) {
                Some(bytes) => self.put(&item.path, bytes, item.mode)?,
                None if optional => {}
                None => return Err(Missing::new(format!("{} has no key {:?}", source(), item.key))),
            }
        }
        Ok(())
    }

    fn downward(&mut self, pod: &Pod, items: &[api::DownwardApiVolumeFile]) -> Result<(), Missing> {
        for item in items {
            let text = match (&item.field_ref, &item.resource_field_ref) {
                (Some(field), _) => fields::value(pod, &field.field_path)
                    .ok_or_else(|| Missing::new(format!("the pod has no field {}", field.field_path)))?,
                (None, Some(field)) => fields::resource(pod, &Container::default(), field),
                (None, None) => String::new(),
            };
            self.put(&item.path, text.into_bytes(), item.mode)?;
        }
        Ok(())
    }

    fn put(&mut self, path: &str, bytes: Vec<u8>, mode: Option<i32>) -> Result<(), Missing> {
        let path = inside(path).ok_or_else(|| Missing::new(format!("path {path:?} leaves its volume")))?;
        let mode = mode.or(self.mode).unwrap_or(0o644);
        self.files.insert(path, File { bytes, mode: u32::try_from(mode).unwrap_or(0o600) & 0o777 });
        Ok(())
    }
}

/// The path if it stays below where it starts.
pub(super) fn inside(path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    (plain && path.components().next().is_some()).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        let mut pod = Pod { metadata: api::ObjectMeta::named("shop", "web"), ..Pod::default() };
        pod.spec.containers.push(Container::default());
        pod
    }

    fn volume(source: serde_json::Value) -> Volume {
        serde_json::from_value(source).unwrap()
    }

    fn objects() -> Objects {
        let mut objects = Objects::default();
        let data = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
        objects.config_maps.insert("map".to_owned(), api::ConfigMap { data, ..Default::default() });
        objects
    }

    fn names(content: &Content) -> Vec<String> {
        let Content::Files(files) = content else { panic!("no files in {content:?}") };
        files.iter().map(|(path, file)| format!("{} {:o}", path.display(), file.mode)).collect()
    }

    #[test]
    fn a_service_account_is_mounted_unless_declined() {
        let pod = with_service_account(pod());
        assert_eq!(pod.spec.volumes.len(), 1);
        assert_eq!(pod.spec.containers[0].volume_mounts[0].mount_path, ACCOUNT_PATH);
        assert_eq!(with_service_account(pod.clone()), pod, "twice changes nothing");
        let mut declined = self::pod();
        declined.spec.automount_service_account_token = Some(false);
        assert!(with_service_account(declined).spec.volumes.is_empty());
    }

    #[rstest::rstest]
    #[case::all(serde_json::json!({ "configMap": { "name": "map" } }), &["a 644", "b 644"])]
    #[case::chosen(serde_json::json!({ "configMap": { "name": "map", "defaultMode": 256, "items": [{ "key": "b", "path": "x/y" }] } }), &["x/y 400"])]
    #[case::optional(serde_json::json!({ "configMap": { "name": "none", "optional": true } }), &[])]
    #[case::downward(serde_json::json!({ "downwardAPI": { "items": [{ "path": "ns", "fieldRef": { "fieldPath": "metadata.namespace" } }] } }), &["ns 644"])]
    fn files(#[case] source: serde_json::Value, #[case] expected: &[&str]) {
        assert_eq!(names(&content(&pod(), &volume(source), &objects()).unwrap()), expected);
    }

    #[rstest::rstest]
    #[case::no_map(serde_json::json!({ "configMap": { "name": "none" } }), "configmap \"none\" not found")]
    #[case::no_key(serde_json::json!({ "configMap": { "name": "map", "items": [{ "key": "z", "path": "z" }] } }), "configmap \"map\" has no key \"z\"")]
    #[case::escape(serde_json::json!({ "configMap": { "name": "map", "items": [{ "key": "a", "path": "../a" }] } }), "path \"../a\" leaves its volume")]
    #[case::foreign(serde_json::json!({ "name": "v", "nfs": {} }), "volume \"v\": nfs is not served on one host")]
    fn missing(#[case] source: serde_json::Value, #[case] expected: &str) {
        assert_eq!(content(&pod(), &volume(source), &objects()).unwrap_err().to_string(), expected);
    }
}
