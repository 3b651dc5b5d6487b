//! `analyze` and `validate`: what is wrong with configuration, in files and in a cluster.
//!
//! [`checks`] are pure over a set of objects; `validate` runs the one that looks at each object by itself.

mod checks;
mod finding;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use api::{
    AuthorizationPolicy, EnvoyFilter, Gateway, Namespace, PeerAuthentication, Pod, RequestAuthentication, Resource,
    Service, ServiceEntry, Sidecar, Telemetry, WorkloadEntry, type_meta,
};
use cluster::{Client, Scope};
use serde_json::Value;

use crate::{Error, connection, output};
use finding::{Finding, Level};

/// Namespace of policies for the whole mesh.
const ROOT_NAMESPACE: &str = "istio-system";

/// Flags of `analyze`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files and folders to analyze together with the cluster; - is standard input
    files: Vec<PathBuf>,
    #[command(flatten)]
    connection: connection::Flags,
    /// Also read the cluster
    #[arg(short = 'k', long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    use_kube: bool,
    /// Every namespace
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Folders with those inside them
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Leave findings out, as CODE=KIND NAME.NAMESPACE; * stands for anything
    #[arg(short = 'S', long)]
    suppress: Vec<String>,
    /// List what is looked for
    #[arg(short = 'L', long)]
    list_analyzers: bool,
    /// Print as log, json or yaml
    #[arg(short, long, default_value = "log", value_parser = ["log", "json", "yaml"])]
    output: String,
    /// Leave out what is less
    #[arg(long, default_value = "Info")]
    output_threshold: Level,
    /// Fail if something is at least this bad
    #[arg(long, default_value = "Error")]
    failure_threshold: Level,
}

/// Flags of `validate`.
#[derive(Debug, clap::Args)]
pub struct ValidateArgs {
    /// Files to validate; - is standard input
    #[arg(short, long = "filename", required = true)]
    files: Vec<PathBuf>,
}

/// An object, and where it was read.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    value: Value,
    file: Option<String>,
}

impl Object {
    fn text(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    fn kind(&self) -> &str {
        self.text("/kind")
    }

    fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    fn namespace(&self) -> &str {
        self.text("/metadata/namespace")
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.value["metadata"]["labels"][key].as_str()
    }

    fn labels(&self) -> BTreeMap<String, String> {
        serde_json::from_value(self.value["metadata"]["labels"].clone()).unwrap_or_default()
    }

    fn group(&self) -> String {
        type_meta(&self.value).map(|kind| kind.group).unwrap_or_default()
    }

    /// Whether the control plane writes conditions about it.
    fn is_ours(&self) -> bool {
        let group = self.group();
        group.ends_with("istio.io") || group == api::gateway::GROUP || (group.is_empty() && self.kind() == "Service")
    }
}

/// All objects that are analyzed, and which kinds were looked for at all.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    list: Vec<Object>,
    kinds: BTreeSet<String>,
}

impl Objects {
    fn add(&mut self, value: Value, file: Option<String>) {
        self.kinds.insert(value["kind"].as_str().unwrap_or_default().to_owned());
        self.list.push(Object { value, file });
    }

    fn iter(&self) -> impl Iterator<Item = &Object> {
        self.list.iter()
    }

    fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Object> {
        self.list.iter().filter(move |object| object.kind() == kind)
    }

    /// Whether the absence of an object of this kind means anything.
    fn knows(&self, kind: &str) -> bool {
        self.kinds.contains(kind)
    }

    fn has(&self, group: &str, kind: &str, namespace: &str, name: &str) -> bool {
        self.of_kind(kind)
            .any(|object| object.group() == group && object.namespace() == namespace && object.name() == name)
    }

    fn namespace(&self, name: &str) -> Option<&Object> {
        self.of_kind("Namespace").find(|namespace| namespace.name() == name)
    }
}

pub(crate) async fn run(args: Args) -> Result<String, Error> {
    if args.list_analyzers {
        return Ok(listed());
    }
    let mut objects = Objects::default();
    let mut namespace = None;
    if args.use_kube {
        let client = args.connection.client().await?;
        namespace = (!args.all_namespaces).then(|| args.connection.namespace(&client).to_owned());
        read_cluster(&client, &mut objects).await?;
    }
    for path in &args.files {
        read_files(path, args.recursive, namespace.as_deref(), &mut objects)?;
    }
    let meant = |finding: &Finding| {
        let here = namespace.as_ref().is_none_or(|namespace| finding.file.is_some() || finding.namespace == *namespace);
        here && finding.kind.level >= args.output_threshold
            && !args.suppress.iter().any(|pattern| suppresses(pattern, finding))
    };
    let found: Vec<_> = checks::all(&objects).into_iter().filter(|finding| meant(finding)).collect();
    let place = namespace.map_or_else(|| "all namespaces".to_owned(), |namespace| format!("namespace: {namespace}"));
    let text = match args.output.as_str() {
        "json" => output::json(&found.iter().map(Finding::json).collect::<Vec<_>>(), b"\t")?,
        "yaml" => output::yaml(&found.iter().map(Finding::json).collect::<Vec<_>>())?,
        _ if found.is_empty() => format!("✔ No validation issues found when analyzing {place}.\n"),
        _ => found.iter().map(|finding| format!("{finding}\n")).collect(),
    };
    let failed = found.iter().any(|finding| finding.kind.level >= args.failure_threshold);
    if failed { Err(Error::Findings { text, place }) } else { Ok(text) }
}

pub(crate) fn validate(args: &ValidateArgs) -> Result<String, Error> {
    let mut objects = Objects::default();
    for path in &args.files {
        read_files(path, false, None, &mut objects)?;
    }
    let mut wrong = String::new();
    for object in objects.iter() {
        for problem in api::validate::object(&object.value) {
            let file = object.file.as_deref().unwrap_or_default();
            wrong.push_str(&format!("{file}: {} {}: {problem}\n", object.kind(), api::object_name(&object.value)));
        }
    }
    if wrong.is_empty() {
        Ok(format!("{} objects are valid\n", objects.list.len()))
    } else {
        Err(Error::Usage(wrong.trim_end().to_owned()))
    }
}

fn listed() -> String {
    let all = [
        finding::MISSING_REFERENCE,
        finding::NOT_ENROLLED,
        finding::INVALID,
        finding::PORT_NAME,
        finding::NO_WORKLOADS,
        finding::SELECTS_WAYPOINT,
        finding::INEFFECTIVE,
        finding::NEGATIVE_CONDITION,
        finding::NETWORK_POLICY,
    ];
    all.iter().map(|kind| format!("{} {} ({})\n", kind.code, kind.name, kind.level)).collect()
}

/// Whether `CODE=KIND NAME.NAMESPACE` is about a finding.
fn suppresses(pattern: &str, finding: &Finding) -> bool {
    let Some((code, object)) = pattern.split_once('=') else { return false };
    let name = finding.object.split_once(' ').map_or(String::new(), |(kind, name)| match name.split_once('/') {
        Some((namespace, name)) => format!("{kind} {name}.{namespace}"),
        None => format!("{kind} {name}"),
    });
    let matches = match object.split_once('*') {
        Some((start, end)) => name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end),
        None => name == object,
    };
    code == finding.kind.code && matches
}

async fn read_cluster(client: &Client, objects: &mut Objects) -> Result<(), Error> {
    add::<Namespace>(client, objects).await?;
    add::<Pod>(client, objects).await?;
    add::<Service>(client, objects).await?;
    add::<AuthorizationPolicy>(client, objects).await?;
    add::<PeerAuthentication>(client, objects).await?;
    add::<RequestAuthentication>(client, objects).await?;
    add::<Telemetry>(client, objects).await?;
    add::<ServiceEntry>(client, objects).await?;
    add::<WorkloadEntry>(client, objects).await?;
    add::<Gateway>(client, objects).await?;
    add::<api::GatewayClass>(client, objects).await?;
    add::<api::NetworkPolicy>(client, objects).await?;
    add::<Sidecar>(client, objects).await?;
    add::<EnvoyFilter>(client, objects).await
}

/// Objects of one kind; a kind that the cluster does not have has none.
async fn add<T: Resource>(client: &Client, objects: &mut Objects) -> Result<(), Error> {
    match client.list::<T>(&Scope::all()).await {
        Ok(list) => {
            objects.kinds.insert(T::KIND.to_owned());
            list.iter().for_each(|object| objects.add(object.to_value(), None));
            Ok(())
        }
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn read_files(path: &Path, recursive: bool, namespace: Option<&str>, objects: &mut Objects) -> Result<(), Error> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    if path.is_dir() {
        let mut entries: Vec<_> =
            std::fs::read_dir(path).map_err(failed)?.flatten().map(|entry| entry.path()).collect();
        entries.sort();
        for entry in entries {
            let manifest =
                entry.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known));
            if (manifest && entry.is_file()) || (recursive && entry.is_dir()) {
                read_files(&entry, recursive, namespace, objects)?;
            }
        }
        return Ok(());
    }
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes).map_err(failed)?;
    } else {
        bytes = std::fs::read(path).map_err(failed)?;
    }
    let name = path.display().to_string();
    let documents = api::yaml::read_documents(&bytes)
        .map_err(|problem| Error::Answer { what: name.clone(), message: problem.to_string() })?;
    for mut document in documents {
        let plain =
            type_meta(&document).is_some_and(|kind| !["Namespace", "GatewayClass"].contains(&kind.kind.as_str()));
        if plain && document["metadata"]["namespace"].is_null() {
            document["metadata"]["namespace"] = namespace.unwrap_or("default").into();
        }
        // What is applied replaces what is there.
        let same = |object: &Object| {
            (object.kind(), object.namespace(), object.name())
                == (
                    document["kind"].as_str().unwrap_or_default(),
                    document["metadata"]["namespace"].as_str().unwrap_or_default(),
                    document["metadata"]["name"].as_str().unwrap_or_default(),
                )
        };
        objects.list.retain(|object| !same(object));
        objects.add(document, Some(name.clone()));
    }
    Ok(())
}
