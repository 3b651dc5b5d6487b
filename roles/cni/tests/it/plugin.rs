//! What the plugin prints for what the kubelet says.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use cni::{Added, Call, answer};
use rstest::rstest;

const DOCUMENT: &str = r#"{
  "cniVersion": "1.0.0", "name": "kbase", "type": "istio-cni", "ambient_enabled": true,
  "cni_agent_run_dir": "/run/somewhere", "exclude_namespaces": ["kube-system"], "pod_namespace": "istio-system",
  "prevResult": {"cniVersion": "1.0.0", "zeta": 1, "interfaces": [{"name": "eth0"}],
    "ips": [{"interface": 2, "address": "10.244.1.6/24", "gateway": "10.244.1.1"}, {"address": "fd00::6/64"}]}
}"#;

fn call(command: &str, args: &str) -> Call {
    Call {
        command: command.to_owned(),
        netns: "/var/run/netns/cni-1".to_owned(),
        args: args.to_owned(),
        document: DOCUMENT.to_owned(),
    }
}

fn pod(namespace: &str, name: &str) -> String {
    format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_UID=u-1")
}

#[test]
fn a_pod_is_told_to_the_agent_and_the_result_passed_on() {
    let asked: RefCell<Vec<(PathBuf, Added)>> = RefCell::default();
    let (printed, outcome) = answer(&call("ADD", &pod("shop", "web")), |dir: &Path, added| {
        asked.borrow_mut().push((dir.to_owned(), added.clone()));
        Ok(())
    });
    assert!(outcome.is_ok());
    let document: serde_json::Value = serde_json::from_str(DOCUMENT).unwrap();
    assert_eq!(printed, document["prevResult"].to_string(), "unchanged, in its order");
    let asked = asked.into_inner();
    assert_eq!(asked[0].0, Path::new("/run/somewhere"));
    insta::assert_snapshot!(serde_json::to_string_pretty(&asked[0].1).unwrap());
}

#[rstest]
#[case::own_pod(&pod("istio-system", "istio-cni-node-x7"))]
#[case::excluded(&pod("kube-system", "dns"))]
#[case::no_pod("IgnoreUnknown=1")]
fn some_pass_without_asking(#[case] args: &str) {
    let (printed, outcome) = answer(&call("ADD", args), |_: &Path, _| panic!("asked"));
    assert!(outcome.is_ok() && printed.contains("10.244.1.6/24"));
}

#[test]
fn a_refusal_is_told_as_the_specification_says() {
    let refuse = |_: &Path, _: &Added| Err("the node agent answered 500: no ztunnel connection".to_owned());
    let (printed, outcome) = answer(&call("ADD", &pod("shop", "web")), refuse);
    assert_eq!(
        printed,
        r#"{"cniVersion":"1.0.0","code":100,"msg":"the node agent answered 500: no ztunnel connection"}"#
    );
    assert!(outcome.is_err());
}

#[rstest]
#[case("DEL", "")]
#[case("CHECK", "")]
#[case("STATUS", "")]
#[case("GC", "")]
fn the_rest_needs_nobody(#[case] command: &str, #[case] expected: &str) {
    let (printed, outcome) = answer(&call(command, &pod("shop", "web")), |_: &Path, _| panic!("asked"));
    assert_eq!((printed.as_str(), outcome.is_ok()), (expected, true));
}

#[test]
fn versions_are_listed() {
    let (printed, outcome) = answer(&call("VERSION", ""), |_: &Path, _| panic!("asked"));
    assert!(outcome.is_ok());
    assert!(printed.starts_with(r#"{"cniVersion":"1.0.0","supportedVersions":["0.1.0","0.2.0","0.3.0","#), "{printed}");
}

#[rstest]
#[case::not_json("ADD", "{", 6)]
#[case::no_command("", DOCUMENT, 4)]
#[case::other_command("MOVE", DOCUMENT, 4)]
fn nonsense_is_refused(#[case] command: &str, #[case] document: &str, #[case] code: u32) {
    let call = Call { document: document.to_owned(), ..call(command, "") };
    let (printed, outcome) = answer(&call, |_: &Path, _| panic!("asked"));
    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((printed["code"].as_u64(), outcome.is_err()), (Some(code.into()), true));
}
