//! The node's CNI configuration and our entry in it: text in, text out. Which file, when and how it is written is
//! `install`'s business.

use serde_json::{Map, Value, json};

/// The `type` of our entry, which is also the name of the plugin's file.
pub(crate) const PLUGIN: &str = "istio-cni";

/// The network's name when a single configuration has to become a list.
const NETWORK: &str = "k8s-pod-network";

/// Why a file is not a configuration.
#[derive(Debug, thiserror::Error)]
pub enum NotConflist {
    /// It is not JSON.
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It is something else.
    #[error("neither `plugins` nor `type` in it")]
    Shape,
}

/// A list of plugins that the kubelet calls in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Conflist(Map<String, Value>);

/// What a file should be changed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The file's name; another than the source's when a single configuration became a list.
    pub file: String,
    /// Its text.
    pub text: String,
}

impl Conflist {
    /// Reads a list, or a single configuration as a list of one.
    pub fn read(text: &str) -> Result<Self, NotConflist> {
        let Value::Object(read) = serde_json::from_str(text)? else { return Err(NotConflist::Shape) };
        if read.get("plugins").is_some_and(Value::is_array) {
            return Ok(Self(read));
        }
        if !read.get("type").is_some_and(Value::is_string) {
            return Err(NotConflist::Shape);
        }
        let mut list = Map::new();
        list.insert("name".to_owned(), NETWORK.into());
        let version = read.get("cniVersion").cloned().unwrap_or_else(|| "0.3.1".into());
        list.insert("cniVersion".to_owned(), version);
        list.insert("plugins".to_owned(), json!([read]));
        Ok(Self(list))
    }

    fn plugins(&mut self) -> &mut Vec<Value> {
        // Only lists are ever read, so the fallback is never taken.
        let plugins = self.0.entry("plugins").or_insert_with(|| json!([]));
        if !plugins.is_array() {
            *plugins = json!([]);
        }
        match plugins {
            Value::Array(list) => list,
            _ => unreachable!("just made an array"),
        }
    }

    /// Makes `entry` the last plugin, replacing what an earlier version left.
    #[must_use]
    pub(crate) fn with(mut self, entry: Value) -> Self {
        self.plugins().retain(|plugin| plugin["type"] != PLUGIN);
        self.plugins().push(entry);
        self
    }

    /// Takes our entry out.
    #[must_use]
    pub(crate) fn without(mut self) -> Self {
        self.plugins().retain(|plugin| plugin["type"] != PLUGIN);
        self
    }

    /// Whether `entry` is the last plugin and the only one of its kind.
    pub(crate) fn has(&mut self, entry: &Value) -> bool {
        let plugins = self.plugins();
        plugins.last() == Some(entry) && plugins.iter().filter(|plugin| plugin["type"] == PLUGIN).count() == 1
    }

    pub(crate) fn text(&self) -> String {
        // A map of JSON values always prints.
        let mut text = serde_json::to_string_pretty(&self.0).unwrap_or_default();
        text.push('\n');
        text
    }
}

/// The file that the kubelet uses: the first by name that is a configuration.
pub(crate) fn main_file<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<(&'a str, Conflist)> {
    let mut files: Vec<_> = files.into_iter().filter(|(name, _)| is_config(name)).collect();
    files.sort_unstable();
    files.into_iter().find_map(|(name, text)| Some((name, Conflist::read(text).ok()?)))
}

fn is_config(name: &str) -> bool {
    [".conf", ".conflist"].iter().any(|suffix| name.ends_with(suffix))
}

/// What becomes of a configuration file with our entry in it, or nothing when it is there already.
pub(crate) fn joined(file: &str, mut list: Conflist, entry: &Value) -> Option<Target> {
    let name = match file.strip_suffix(".conf") {
        Some(stem) => format!("{stem}.conflist"),
        None => file.to_owned(),
    };
    if name == file && list.has(entry) {
        return None;
    }
    Some(Target { file: name, text: list.with(entry.clone()).text() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn entry() -> Value {
        json!({"type": PLUGIN, "name": PLUGIN, "ambient_enabled": true})
    }

    fn types(text: &str) -> Vec<String> {
        let list: Value = serde_json::from_str(text).unwrap();
        let plugins = list["plugins"].as_array().unwrap();
        plugins.iter().map(|plugin| plugin["type"].as_str().unwrap().to_owned()).collect()
    }

    #[rstest]
    #[case::first(r#"{"name":"n","plugins":[{"type":"bridge"},{"type":"portmap"}]}"#, &["bridge", "portmap", PLUGIN])]
    #[case::old_entry(r#"{"plugins":[{"type":"istio-cni","log_level":"x"},{"type":"bridge"}]}"#, &["bridge", PLUGIN])]
    #[case::twice(
        r#"{"plugins":[{"type":"istio-cni"},{"type":"istio-cni","name":"istio-cni","ambient_enabled":true}]}"#,
        &[PLUGIN]
    )]
    #[case::empty(r#"{"plugins":[]}"#, &[PLUGIN])]
    fn joins_a_list(#[case] text: &str, #[case] expected: &[&str]) {
        let target = joined("10-net.conflist", Conflist::read(text).unwrap(), &entry()).unwrap();
        assert_eq!(types(&target.text), expected);
        assert_eq!(target.file, "10-net.conflist");
        let again = Conflist::read(&target.text).unwrap();
        assert_eq!(joined("10-net.conflist", again.clone(), &entry()), None, "nothing to do twice");
        let left = again.without().text();
        assert!(!types(&left).contains(&PLUGIN.to_owned()));
    }

    #[test]
    fn a_single_configuration_becomes_a_list() {
        let list = Conflist::read(r#"{"cniVersion":"0.4.0","name":"net","type":"bridge"}"#).unwrap();
        let target = joined("10-net.conf", list, &entry()).unwrap();
        assert_eq!(target.file, "10-net.conflist");
        let value: Value = serde_json::from_str(&target.text).unwrap();
        assert_eq!((&value["name"], &value["cniVersion"]), (&json!("k8s-pod-network"), &json!("0.4.0")));
        assert_eq!(types(&target.text), ["bridge", PLUGIN]);
    }

    #[test]
    fn everything_else_stays_as_it_was() {
        let text = r#"{"cniVersion":"1.0.0","zeta":{"b":1,"a":[2]},"name":"n","plugins":[{"type":"x","mtu":1500}]}"#;
        let target = joined("a.conflist", Conflist::read(text).unwrap(), &entry()).unwrap();
        let back = Conflist::read(&target.text).unwrap().without().text();
        assert_eq!(back, Conflist::read(text).unwrap().text());
    }

    #[rstest]
    #[case(&[("20-b.conf", r#"{"type":"b"}"#), ("10-a.conflist", r#"{"plugins":[]}"#)], Some("10-a.conflist"))]
    #[case(&[("00-readme.txt", r#"{"type":"b"}"#), ("99-b.conf", r#"{"type":"b"}"#)], Some("99-b.conf"))]
    #[case(&[("10-broken.conf", "{"), ("11-odd.conflist", "[]"), ("12-good.conf", r#"{"type":"b"}"#)], Some("12-good.conf"))]
    #[case(&[], None)]
    fn picks_the_file_that_the_kubelet_uses(#[case] files: &[(&str, &str)], #[case] picked: Option<&str>) {
        assert_eq!(main_file(files.iter().copied()).map(|(name, _)| name), picked);
    }
}
