//! Resources from YAML files, where there is no cluster (control-plane A24): a folder is read, and followed.
//!
//! A file is read once it has been left alone for a moment. While it is no YAML, what was read of it before holds; an object that
//! does not have its kind's shape is treated as one of a cluster.

use crate::{discovery::Discovery, resolve::Kind, source::Edit};
use api::{
    AuthorizationPolicy, EndpointSlice, Gateway, GatewayClass, Namespace, Node, PeerAuthentication, Pod, Resource,
    Service, ServiceEntry, WorkloadEntry,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::{mpsc, oneshot};

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Largest file that is read.
const MAX_BYTES: u64 = 64 << 20;
/// Namespace of objects that name none.
const NAMESPACE: &str = "default";

/// Kind, namespace and name.
type Key = (String, String, String);

/// One object as a file has it, ready to be set or removed.
struct Object {
    value: Value,
    set: fn(Value) -> Edit,
    remove: fn(String, String) -> Edit,
}

/// What a file looks like without reading it.
type Look = (Option<SystemTime>, u64);

/// A folder as it was last read.
#[derive(Default)]
struct Folder {
    looks: HashMap<PathBuf, Look>,
    /// What each file holds; ordered, so that of two that have an object the same one counts each time.
    read: BTreeMap<PathBuf, (Look, BTreeMap<Key, Value>)>,
    held: BTreeMap<Key, Value>,
}

/// Follows a folder for as long as somebody takes the changes. The result is told once everything was read.
pub fn follow(folder: PathBuf, edits: mpsc::Sender<Edit>) -> impl Future<Output = ()> {
    let (done, synced) = oneshot::channel();
    runtime::task::spawn("files", async move {
        let (mut state, mut done) = (Folder::default(), Some(done));
        loop {
            let (is_still, changes) = state.look(&folder);
            for edit in changes {
                if edits.send(edit).await.is_err() {
                    return;
                }
            }
            if is_still && let Some(done) = done.take() {
                // Who waited may be gone.
                let _ = done.send(());
            }
            tokio::time::sleep(LOOK).await;
        }
    });
    async move { synced.await.unwrap_or(()) }
}

impl Folder {
    /// What changed since the last look, and whether all files had been left alone since then.
    fn look(&mut self, folder: &Path) -> (bool, Vec<Edit>) {
        let mut found = HashMap::new();
        if let Err(error) = list(folder, &mut found) {
            tracing::error!("reading folder {}: {error}; what was read before holds", folder.display());
            return (false, Vec::new());
        }
        let is_still = found == self.looks;
        self.read.retain(|path, _| found.contains_key(path));
        for (path, look) in &found {
            let is_read = self.read.get(path).is_some_and(|(read, _)| read == look);
            if is_read || self.looks.get(path) != Some(look) {
                continue;
            }
            match read(path, look.1) {
                Ok(objects) => drop(self.read.insert(path.clone(), (*look, objects))),
                Err(error) => {
                    tracing::error!("{error}; what was read of the file before holds");
                    self.read.entry(path.clone()).or_default().0 = *look;
                }
            }
        }
        self.looks = found;
        (is_still, self.changes())
    }

    fn changes(&mut self) -> Vec<Edit> {
        let mut wanted: BTreeMap<Key, Value> = BTreeMap::new();
        for (path, (_, objects)) in &self.read {
            for (key, value) in objects {
                if wanted.contains_key(key) && self.held.get(key) != Some(value) {
                    let (kind, namespace, name) = key;
                    tracing::warn!(
                        "{}: {kind} {namespace}/{name} is in another file, too; that one counts",
                        path.display()
                    );
                }
                wanted.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        let mut edits = Vec::new();
        for (key, value) in &wanted {
            if self.held.get(key) != Some(value)
                && let Some(object) = object_of(value.clone())
            {
                edits.push((object.set)(object.value));
            }
        }
        for (key, value) in &self.held {
            if !wanted.contains_key(key)
                && let Some(object) = object_of(value.clone())
            {
                edits.push((object.remove)(key.1.clone(), key.2.clone()));
            }
        }
        self.held = wanted;
        edits
    }
}

fn list(folder: &Path, found: &mut HashMap<PathBuf, Look>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        // A mounted ConfigMap's own folders are hidden; its files are links into them.
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        if metadata.is_dir() {
            list(&path, found)?;
        } else if path
            .extension()
            .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
        {
            found.insert(path, (metadata.modified().ok(), metadata.len()));
        }
    }
    Ok(())
}

fn read(path: &Path, len: u64) -> Result<BTreeMap<Key, Value>, String> {
    let place = path.display();
    if len > MAX_BYTES {
        return Err(format!("{place} has {len} bytes, more than the {MAX_BYTES} that are read"));
    }
    let bytes = std::fs::read(path).map_err(|error| format!("reading {place}: {error}"))?;
    let documents = api::yaml::read_documents(&bytes).map_err(|error| format!("{place}: {error}"))?;
    let mut objects = BTreeMap::new();
    for document in documents.into_iter().flat_map(items) {
        let Some(object) = object_of(document) else { continue };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &object.value["metadata"];
        let key = (text(&object.value["kind"]), text(&metadata["namespace"]), text(&metadata["name"]));
        if key.2.is_empty() {
            tracing::error!("{place}: a {} without a name is left out", key.0);
            continue;
        }
        if objects.insert(key, object.value).is_some() {
            tracing::warn!("{place}: an object is written twice; the last one counts");
        }
    }
    Ok(objects)
}

/// The objects of a list, or the object itself.
fn items(document: Value) -> Vec<Value> {
    match &document["items"] {
        Value::Array(items) if document["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => items.clone(),
        _ => vec![document],
    }
}

/// An object of a kind that the mesh is made of, with its namespace.
fn object_of(mut value: Value) -> Option<Object> {
    fn of<T: Kind>(value: Value) -> Object {
        let set = |value: Value| match T::from_value(value.clone()) {
            Ok(object) => Box::new(move |discovery: &mut Discovery| discovery.set(Arc::new(object))) as Edit,
            Err(error) => {
                tracing::error!("{error}; the object has an effect only as far as it keeps out");
                Box::new(move |discovery: &mut Discovery| {
                    let text = |key: &str| value["metadata"][key].as_str().unwrap_or_default();
                    discovery.reject::<T>(text("namespace"), text("name"), error, &value);
                })
            }
        };
        let remove = |namespace: String, name: String| {
            Box::new(move |discovery: &mut Discovery| discovery.remove::<T>(&namespace, &name)) as Edit
        };
        Object { value, set, remove }
    }
    macro_rules! kinds {
        ($($kind:ty),*) => {
            $(if value["kind"] == <$kind>::KIND && group(&value) == <$kind>::GROUP {
                if <$kind>::NAMESPACED && value["metadata"]["namespace"].as_str().is_none_or(str::is_empty) {
                    value["metadata"]["namespace"] = NAMESPACE.into();
                }
                return Some(of::<$kind>(value));
            })*
        };
    }
    if !value["metadata"].is_object() {
        return None;
    }
    kinds!(
        ServiceEntry,
        WorkloadEntry,
        AuthorizationPolicy,
        PeerAuthentication,
        Service,
        EndpointSlice,
        Pod,
        Namespace,
        Node,
        Gateway,
        GatewayClass
    );
    tracing::debug!(kind = %value["kind"], "a file has an object of a kind that is not read here");
    None
}

/// The API group of an object.
fn group(value: &Value) -> &str {
    value["apiVersion"].as_str().and_then(|version| version.split_once('/')).map_or("", |(group, _)| group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{resolve::Resolver, settings::Mesh};

    const ENTRY: &str = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: NAME}\nspec: {hosts: [NAME.example]}\n";

    struct World {
        folder: tempfile::TempDir,
        state: Folder,
        discovery: Discovery,
    }

    impl World {
        fn new() -> Self {
            let discovery = Discovery::new(Resolver::new(Mesh::default()), "default");
            Self { folder: tempfile::tempdir().unwrap(), state: Folder::default(), discovery }
        }

        fn write(&self, file: &str, text: &str) {
            let path = self.folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        /// Two looks, because a file must have been left alone for one.
        fn entries(&mut self) -> Vec<String> {
            for _ in 0..2 {
                for edit in self.state.look(self.folder.path()).1 {
                    edit(&mut self.discovery);
                }
            }
            let entries = self.discovery.resolver().view().objects.service_entries.iter();
            let mut names: Vec<_> = entries.map(|entry| format!("{}/{}", entry.namespace(), entry.name())).collect();
            names.sort();
            names
        }
    }

    #[test]
    fn files_of_a_folder_are_followed() {
        let mut world = World::new();
        world.write("a.yaml", &ENTRY.replace("NAME", "a"));
        world.write("sub/b.yml", &format!("{}---\n{}", ENTRY.replace("NAME", "b"), ENTRY.replace("NAME", "c")));
        world.write("notes.txt", &ENTRY.replace("NAME", "d"));
        assert_eq!(world.entries(), ["default/a", "default/b", "default/c"]);
        world.write("sub/b.yml", &ENTRY.replace("NAME", "b"));
        assert_eq!(world.entries(), ["default/a", "default/b"]);
        std::fs::remove_file(world.folder.path().join("a.yaml")).unwrap();
        assert_eq!(world.entries(), ["default/b"]);
    }

    #[test]
    fn a_half_written_file_takes_nothing_away() {
        let mut world = World::new();
        world.write("a.yaml", &format!("{}---\n{}", ENTRY.replace("NAME", "a"), ENTRY.replace("NAME", "b")));
        assert_eq!(world.entries().len(), 2);
        world.write("a.yaml", "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: ");
        assert_eq!(world.entries().len(), 2);
        world.write("a.yaml", &format!("{}---\n{}", ENTRY.replace("NAME", "a"), "kind: [3"));
        assert_eq!(world.entries().len(), 2);
        // One object that cannot be read does not take the others along.
        let bad = ENTRY.replace("NAME", "bad").replace("[bad.example]", "3");
        world.write("a.yaml", &format!("{bad}---\n{}", ENTRY.replace("NAME", "a")));
        assert_eq!(world.entries(), ["default/a"]);
        // A policy that cannot be read keeps out.
        let policy =
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\nspec: {rules: 3}\n";
        world.write("p.yaml", policy);
        world.entries();
        assert_eq!(world.discovery.resolver().view().objects.policies.len(), 1);
    }

    #[test]
    fn of_two_files_with_an_object_the_first_counts() {
        let mut world = World::new();
        world.write("a.yaml", &ENTRY.replace("NAME", "x").replace("x.example", "first.example"));
        world.write("b.yaml", &ENTRY.replace("NAME", "x"));
        assert_eq!(world.entries(), ["default/x"]);
        let host = |world: &World| {
            let objects = world.discovery.resolver().view().objects;
            objects.service_entries.get("default", "x").unwrap().spec.hosts[0].clone()
        };
        assert_eq!(host(&world), "first.example");
        std::fs::remove_file(world.folder.path().join("a.yaml")).unwrap();
        world.entries();
        assert_eq!(host(&world), "x.example");
    }
}
