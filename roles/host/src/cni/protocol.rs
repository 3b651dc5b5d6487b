//! The CNI specification's words: the request in environment and standard input, and the answers on standard output.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::Error;
use super::link::Link;

/// Versions whose result format the plugin speaks, oldest first.
pub(crate) const SUPPORTED_VERSIONS: [&str; 4] = ["0.4.0", "1.0.0", "1.0.1", "1.1.0"];

const DEFAULT_DATA_DIR: &str = "/var/lib/cni/networks/ambit";
const DEFAULT_MTU: u32 = 1500;

/// What the runtime asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Add,
    Del,
    Check,
    Version,
}

/// One request, checked as far as it can be without looking at the machine.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) command: Command,
    pub(super) version: String,
    pub(super) container: String,
    pub(super) interface: String,
    pub(super) data_dir: PathBuf,
    pub(super) mtu: u32,
    namespace: Option<PathBuf>,
    pod_range: Option<ipnet::Ipv4Net>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    cni_version: Option<String>,
    pod_range: Option<ipnet::Ipv4Net>,
    data_dir: Option<PathBuf>,
    mtu: Option<u32>,
}

impl Request {
    pub(super) fn read(variable: impl Fn(&str) -> Option<String>, config: &[u8]) -> Result<Self, Error> {
        let need = |name: &'static str| variable(name).filter(|text| !text.is_empty()).ok_or(Error::Variable(name));
        let command = match need("CNI_COMMAND")?.as_str() {
            "ADD" => Command::Add,
            "DEL" => Command::Del,
            "CHECK" => Command::Check,
            "VERSION" => Command::Version,
            other => return Err(Error::Malformed(format!("CNI_COMMAND {other} is not known"))),
        };
        let config: Config =
            serde_json::from_slice(config).map_err(|error| Error::Malformed(format!("standard input: {error}")))?;
        let version = config.cni_version.unwrap_or_else(|| "1.0.0".to_owned());
        let about_a_pod = command != Command::Version;
        if about_a_pod && !SUPPORTED_VERSIONS.contains(&version.as_str()) {
            return Err(Error::Version(version));
        }
        let container = if about_a_pod { identifier(need("CNI_CONTAINERID")?)? } else { String::new() };
        let interface = if about_a_pod { interface_name(need("CNI_IFNAME")?)? } else { String::new() };
        Ok(Self {
            command,
            version,
            container,
            interface,
            data_dir: config.data_dir.unwrap_or_else(|| DEFAULT_DATA_DIR.into()),
            mtu: config.mtu.unwrap_or(DEFAULT_MTU),
            namespace: variable("CNI_NETNS").filter(|path| !path.is_empty()).map(Into::into),
            pod_range: config.pod_range,
        })
    }

    pub(super) fn namespace(&self) -> Result<&PathBuf, Error> {
        self.namespace.as_ref().ok_or(Error::Variable("CNI_NETNS"))
    }

    pub(super) fn pod_range(&self) -> Result<ipnet::Ipv4Net, Error> {
        self.pod_range.ok_or_else(|| Error::Malformed("the configuration has no podRange".to_owned()))
    }
}

/// The specification's characters only: the name becomes part of a path.
fn identifier(text: String) -> Result<String, Error> {
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let allowed = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    if starts_well && allowed && text.len() <= 255 {
        Ok(text)
    } else {
        Err(Error::Malformed(format!("CNI_CONTAINERID {text:?} is not an identifier")))
    }
}

fn interface_name(text: String) -> Result<String, Error> {
    let bad = text.len() > 15 || text == "." || text == ".." || text.contains(|c: char| c == '/' || c.is_whitespace());
    if bad { Err(Error::Malformed(format!("CNI_IFNAME {text:?} is not an interface name"))) } else { Ok(text) }
}

pub(super) fn version_answer(version: &str) -> Value {
    json!({ "cniVersion": version, "supportedVersions": SUPPORTED_VERSIONS })
}

pub(super) fn add_answer(request: &Request, link: &Link, address: Ipv4Addr) -> Value {
    let gateway = super::link::GATEWAY;
    let mut ip = json!({ "address": format!("{address}/32"), "gateway": gateway, "interface": 1 });
    if request.version.starts_with("0.") {
        ip["version"] = json!("4");
    }
    json!({
        "cniVersion": request.version,
        "interfaces": [
            { "name": link.host_name, "mac": link.host_mac },
            { "name": request.interface, "mac": link.pod_mac, "sandbox": request.namespace },
        ],
        "ips": [ip],
        "routes": [{ "dst": "0.0.0.0/0", "gw": gateway }],
        "dns": {},
    })
}

/// The specification's error object; the version is the request's where it can be read.
pub(super) fn error_answer(config: &[u8], code: u32, message: &str) -> Value {
    let config: Option<Value> = serde_json::from_slice(config).ok();
    let version = config.and_then(|config| config.get("cniVersion")?.as_str().map(str::to_owned));
    json!({ "cniVersion": version.as_deref().unwrap_or("1.0.0"), "code": code, "msg": message })
}

/// The addresses of a result, without their prefix lengths, in order.
pub(crate) fn result_addresses(result: &Value) -> Vec<std::net::IpAddr> {
    let ips = result.get("ips").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let text = ips.iter().filter_map(|ip| ip.get("address")?.as_str());
    text.filter_map(|address| address.split('/').next()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"cniVersion":"1.0.0","name":"ambit","type":"ambit-ptp","podRange":"10.244.1.0/24"}"#;

    fn environment(pairs: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        move |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    const ADD: &[(&str, &str)] = &[
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "abc-1"),
        ("CNI_NETNS", "/proc/7/ns/net"),
        ("CNI_IFNAME", "eth0"),
    ];

    #[test]
    fn reads_an_add() {
        let request = Request::read(environment(ADD), CONFIG.as_bytes()).unwrap();
        assert_eq!(request.command, Command::Add);
        assert_eq!(request.namespace().unwrap(), &PathBuf::from("/proc/7/ns/net"));
        assert_eq!(request.pod_range().unwrap().to_string(), "10.244.1.0/24");
    }

    #[rstest::rstest]
    #[case::no_command(&[], CONFIG, 4)]
    #[case::strange_command(&[("CNI_COMMAND", "RUN")], CONFIG, 7)]
    #[case::no_container(&[("CNI_COMMAND", "ADD"), ("CNI_IFNAME", "eth0")], CONFIG, 4)]
    #[case::path_in_container(&[("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "../x"), ("CNI_IFNAME", "eth0")], CONFIG, 7)]
    #[case::bad_interface(&[("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "x"), ("CNI_IFNAME", "a/b")], CONFIG, 7)]
    #[case::no_json(ADD, "nothing", 7)]
    #[case::old_version(ADD, r#"{"cniVersion":"0.2.0"}"#, 1)]
    fn refuses(#[case] pairs: &'static [(&str, &str)], #[case] config: &str, #[case] code: u32) {
        assert_eq!(Request::read(environment(pairs), config.as_bytes()).unwrap_err().code(), code);
    }

    #[test]
    fn an_answer_carries_what_the_next_plugin_needs() {
        let request = Request::read(environment(ADD), CONFIG.as_bytes()).unwrap();
        let link = Link {
            host_name: "vethabc".into(),
            host_mac: "02:00:00:00:00:01".into(),
            pod_mac: "02:00:00:00:00:02".into(),
        };
        let answer = add_answer(&request, &link, Ipv4Addr::new(10, 244, 1, 5));
        assert_eq!(answer["interfaces"][1]["sandbox"], "/proc/7/ns/net");
        assert_eq!(answer["ips"][0]["address"], "10.244.1.5/32");
        assert_eq!(result_addresses(&answer), ["10.244.1.5".parse::<std::net::IpAddr>().unwrap()]);
        assert!(result_addresses(&json!({})).is_empty());
    }
}
