//! The CNI chain: which plugins set a pod's network up, called as the specification asks a runtime to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::io::AsyncWriteExt;

/// Longest time that one plugin may take.
const PLUGIN_TIME: Duration = Duration::from_secs(60);

/// Why a pod's network could not be set up or taken down.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("no network configuration in {0}; is a CNI plugin installed?")]
    NoConfiguration(PathBuf),
    #[error("cannot read the network configuration {path}: {problem}")]
    Configuration { path: PathBuf, problem: String },
    #[error("plugin type={kind:?} failed ({command}): {problem}")]
    Plugin { kind: String, command: &'static str, problem: String },
}

/// A network as its file describes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chain {
    name: String,
    version: String,
    plugins: Vec<Map<String, Value>>,
}

/// For which pod the chain is called.
#[derive(Debug, Clone)]
pub(super) struct Attachment {
    pub(super) container: String,
    /// Absent when the pod's namespace is gone already.
    pub(super) namespace: Option<PathBuf>,
    pub(super) pod_namespace: String,
    pub(super) pod_name: String,
    pub(super) pod_uid: String,
}

/// Reads the network that counts: the lexically first file of `folder`.
pub(super) fn load(folder: &Path) -> Result<Chain, Error> {
    let entries = std::fs::read_dir(folder).map_err(|_| Error::NoConfiguration(folder.to_owned()))?;
    let known =
        |path: &PathBuf| matches!(path.extension().and_then(|end| end.to_str()), Some("conflist" | "conf" | "json"));
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(known).collect();
    files.sort();
    let path = files.into_iter().next().ok_or_else(|| Error::NoConfiguration(folder.to_owned()))?;
    let text = std::fs::read(&path).map_err(|error| error.to_string());
    let chain = text.and_then(|text| parse(&text));
    chain.map_err(|problem| Error::Configuration { path, problem })
}

/// Reads a list of plugins, or the older form of a single one.
pub(super) fn parse(text: &[u8]) -> Result<Chain, String> {
    let mut whole: Map<String, Value> = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let text = |whole: &Map<String, Value>, key: &str| whole.get(key).and_then(Value::as_str).map(str::to_owned);
    let name = text(&whole, "name").ok_or("it has no name")?;
    let version = text(&whole, "cniVersion").unwrap_or_else(|| "1.0.0".to_owned());
    let plugins = match whole.remove("plugins") {
        Some(Value::Array(plugins)) => plugins,
        Some(_) => return Err("plugins is not a list".to_owned()),
        None => vec![Value::Object(whole)],
    };
    let plugins = plugins.into_iter().map(|plugin| match plugin {
        Value::Object(plugin) if plugin.get("type").is_some_and(Value::is_string) => Ok(plugin),
        _ => Err("a plugin has no type".to_owned()),
    });
    let plugins: Vec<_> = plugins.collect::<Result<_, _>>()?;
    if plugins.is_empty() { Err("it lists no plugins".to_owned()) } else { Ok(Chain { name, version, plugins }) }
}

impl Chain {
    /// Sets the pod's network up; gives the last plugin's result.
    pub(super) async fn add(&self, binaries: &Path, pod: &Attachment) -> Result<Value, Error> {
        let mut result = None;
        for plugin in &self.plugins {
            let output = call(binaries, "ADD", plugin, self.config(plugin, result.as_ref()), pod).await?;
            let parsed = serde_json::from_slice(&output)
                .map_err(|error| failure(plugin, "ADD", format!("its result is not JSON: {error}")))?;
            result = Some(parsed);
        }
        Ok(result.unwrap_or_default())
    }

    /// Takes the pod's network down, in the opposite order, as far as possible; the first error is told.
    pub(super) async fn delete(&self, binaries: &Path, pod: &Attachment, result: Option<&Value>) -> Result<(), Error> {
        let mut outcome = Ok(());
        for plugin in self.plugins.iter().rev() {
            let called = call(binaries, "DEL", plugin, self.config(plugin, result), pod).await;
            if outcome.is_ok() {
                outcome = called.map(drop);
            }
        }
        outcome
    }

    /// What the plugin reads from its standard input.
    fn config(&self, plugin: &Map<String, Value>, previous: Option<&Value>) -> Value {
        let mut config = plugin.clone();
        config.insert("cniVersion".to_owned(), self.version.clone().into());
        config.insert("name".to_owned(), self.name.clone().into());
        if let Some(previous) = previous {
            config.insert("prevResult".to_owned(), previous.clone());
        }
        Value::Object(config)
    }
}

fn failure(plugin: &Map<String, Value>, command: &'static str, problem: String) -> Error {
    Error::Plugin { kind: kind(plugin).to_owned(), command, problem }
}

fn kind(plugin: &Map<String, Value>) -> &str {
    plugin.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn environment(command: &str, binaries: &Path, pod: &Attachment) -> BTreeMap<&'static str, String> {
    let namespace = pod.namespace.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    let arguments = format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
        pod.pod_namespace, pod.pod_name, pod.container, pod.pod_uid
    );
    BTreeMap::from([
        ("CNI_COMMAND", command.to_owned()),
        ("CNI_CONTAINERID", pod.container.clone()),
        ("CNI_NETNS", namespace),
        ("CNI_IFNAME", "eth0".to_owned()),
        ("CNI_ARGS", arguments),
        ("CNI_PATH", binaries.display().to_string()),
    ])
}

async fn call(
    binaries: &Path,
    command: &'static str,
    plugin: &Map<String, Value>,
    config: Value,
    pod: &Attachment,
) -> Result<Vec<u8>, Error> {
    let fail = |problem: String| failure(plugin, command, problem);
    if kind(plugin).contains('/') {
        return Err(fail("its type is a path; a plugin is named, not located".to_owned()));
    }
    let program = binaries.join(kind(plugin));
    let mut child = tokio::process::Command::new(&program)
        .envs(environment(command, binaries, pod))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| fail(format!("cannot run {}: {error}", program.display())))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A plugin that fails before it has read everything says so on its output.
        drop(stdin.write_all(config.to_string().as_bytes()).await);
    }
    let output = tokio::time::timeout(PLUGIN_TIME, child.wait_with_output()).await;
    let output = output.map_err(|_| fail(format!("no answer within {PLUGIN_TIME:?}")))?;
    let output = output.map_err(|error| fail(error.to_string()))?;
    if output.status.success() { Ok(output.stdout) } else { Err(fail(problem(&output))) }
}

/// What a failed plugin says: its error object, else its standard error.
fn problem(output: &std::process::Output) -> String {
    let told: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    let text = |key: &str| told.as_ref().and_then(|told| told.get(key)?.as_str());
    match (text("msg"), text("details").filter(|details| !details.is_empty())) {
        (Some(message), Some(details)) => format!("{message}: {details}"),
        (Some(message), None) => message.to_owned(),
        _ => {
            let standard_error = String::from_utf8_lossy(&output.stderr);
            let last = standard_error.lines().last().unwrap_or_default().chars().take(500).collect::<String>();
            format!("{}: {last}", output.status)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn plugin(folder: &Path, name: &str, script: &str) {
        let path = folder.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn pod() -> Attachment {
        Attachment {
            container: "abc".to_owned(),
            namespace: Some("/proc/1/ns/net".into()),
            pod_namespace: "shop".to_owned(),
            pod_name: "web".to_owned(),
            pod_uid: "u".to_owned(),
        }
    }

    const TWO: &[u8] = br#"{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"one","a":1},{"type":"two"}]}"#;

    #[rstest::rstest]
    #[case::list(TWO, Ok(2))]
    #[case::single(br#"{"name":"net","type":"one"}"#, Ok(1))]
    #[case::nameless(br#"{"plugins":[{"type":"one"}]}"#, Err("it has no name"))]
    #[case::empty(br#"{"name":"n","plugins":[]}"#, Err("it lists no plugins"))]
    #[case::typeless(br#"{"name":"n","plugins":[{}]}"#, Err("a plugin has no type"))]
    fn configurations(#[case] text: &[u8], #[case] expected: Result<usize, &str>) {
        let parsed = parse(text).map(|chain| chain.plugins.len());
        assert_eq!(parsed, expected.map_err(str::to_owned));
    }

    #[test]
    fn the_first_file_counts() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(load(folder.path()), Err(Error::NoConfiguration(_))));
        std::fs::write(folder.path().join("20-b.conflist"), TWO).unwrap();
        std::fs::write(folder.path().join("10-a.conf"), br#"{"name":"first","type":"x"}"#).unwrap();
        std::fs::write(folder.path().join("00-c.txt"), "other").unwrap();
        assert_eq!(load(folder.path()).unwrap().name, "first");
    }

    #[tokio::test]
    async fn each_plugin_gets_the_result_before_it() {
        let folder = tempfile::tempdir().unwrap();
        plugin(folder.path(), "one", r#"cat >/dev/null; echo '{"from":"one"}'"#);
        plugin(folder.path(), "two", r#"echo "{\"env\":\"$CNI_COMMAND $CNI_ARGS\",\"config\":$(cat)}""#);
        let result = parse(TWO).unwrap().add(folder.path(), &pod()).await.unwrap();
        assert_eq!(result["config"]["prevResult"]["from"], "one");
        assert_eq!(result["config"]["name"], "net");
        let environment = result["env"].as_str().unwrap();
        assert!(environment.starts_with("ADD ") && environment.contains("K8S_POD_NAME=web;"), "{environment}");
    }

    #[tokio::test]
    async fn a_failing_plugin_is_named_with_its_message() {
        let folder = tempfile::tempdir().unwrap();
        plugin(folder.path(), "one", r#"echo '{"code":11,"msg":"no address"}'; exit 1"#);
        let error = parse(TWO).unwrap().add(folder.path(), &pod()).await.unwrap_err();
        assert_eq!(error.to_string(), "plugin type=\"one\" failed (ADD): no address");
    }

    #[tokio::test]
    async fn taking_down_goes_backwards_and_never_stops_early() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        plugin(folder.path(), "one", &format!("echo one $CNI_COMMAND >> {}", log.display()));
        plugin(folder.path(), "two", &format!("echo two >> {}; echo broken >&2; exit 3", log.display()));
        let error = parse(TWO).unwrap().delete(folder.path(), &pod(), None).await.unwrap_err();
        assert!(error.to_string().contains("broken"), "{error}");
        assert_eq!(std::fs::read_to_string(log).unwrap(), "two\none DEL\n");
    }
}
