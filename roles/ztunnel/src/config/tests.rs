//! What the variables of the contract do to the settings.

use super::*;
use rstest::rstest;

fn read(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::read(&pairs.iter().copied().collect(), &["proxy".to_owned(), "ztunnel".to_owned()])
}

#[test]
fn an_empty_environment_gives_the_defaults_of_the_contract() {
    let config = read(&[]).unwrap();
    assert_eq!(config.control.address.as_deref(), Some("https://localhost:15012"));
    assert_eq!(config.certificates.authority.address.as_deref(), Some("https://localhost:15012"));
    assert_eq!(config.cluster_id, "Kubernetes");
    assert_eq!(config.instance_ip, "1.1.1.1");
    assert_eq!(config.sockets.mark, Some(1337));
    assert_eq!(config.mode, Mode::Shared);
    assert!(!config.socks5 && !config.on_demand && !config.certificates.fake);
    assert_eq!(config.tunnels.stream_window, 4_194_304);
    assert_eq!(config.tunnels.connection_window, 16_777_216);
    assert_eq!(config.termination_deadline, Duration::from_secs(5));
    assert_eq!((config.admin_port, config.stats_port, config.readiness_port), (15000, 15020, 15021));
    assert!(config.dns.enabled && config.proxy && config.own.is_none() && config.response_baggage);
    assert_eq!(config.arguments, "proxy ztunnel");
}

#[rstest]
#[case(&[("KUBERNETES_SERVICE_HOST", "10.96.0.1")], Some("https://istiod.istio-system.svc:15012"))]
#[case(&[("XDS_ADDRESS", "istiod:15012")], Some("https://istiod:15012"))]
#[case(&[("XDS_ADDRESS", "")], None)]
#[case(&[("PROXY_CONFIG", "discoveryAddress: other:1")], Some("https://other:1"))]
fn control_plane_addresses(#[case] pairs: &[(&str, &str)], #[case] expected: Option<&str>) {
    assert_eq!(read(pairs).unwrap().control.address.as_deref(), expected);
}

#[rstest]
#[case(&[("TERMINATION_GRACE_PERIOD_SECONDS", "30")], 25)]
#[case(&[("TERMINATION_GRACE_PERIOD_SECONDS", "5")], 4)]
#[case(&[("TERMINATION_GRACE_PERIOD_SECONDS", "1")], 1)]
#[case(&[("TERMINATION_GRACE_PERIOD_SECONDS", "0")], 5)]
#[case(&[("TERMINATION_GRACE_PERIOD_SECONDS", "30"), ("CONNECTION_TERMINATION_DEADLINE", "2s")], 2)]
fn drain_deadlines(#[case] pairs: &[(&str, &str)], #[case] seconds: u64) {
    assert_eq!(read(pairs).unwrap().termination_deadline, Duration::from_secs(seconds));
}

#[rstest]
#[case::http(&[("XDS_ADDRESS", "http://istiod:15010")], "only https")]
#[case::nothing_to_do(&[("ENABLE_PROXY", "false"), ("ISTIO_META_DNS_CAPTURE", "false")], "nothing to do")]
#[case::on_demand(&[("XDS_ON_DEMAND", "true")], "ISTIO_META_DNS_CAPTURE=false")]
#[case::both_local(&[("LOCAL_XDS", "{}"), ("LOCAL_XDS_PATH", "x")], "exclude each other")]
#[case::mark(&[("PACKET_MARK", "x")], "PACKET_MARK")]
#[case::mode(&[("PROXY_MODE", "both")], "shared and dedicated")]
#[case::dedicated_to_nobody(&[("PROXY_MODE", "dedicated")], "needs PROXY_WORKLOAD_INFO")]
#[case::workload_of_a_shared_proxy(&[("PROXY_WORKLOAD_INFO", "a/b/c")], "belongs to PROXY_MODE=dedicated")]
#[case::workload(&[("PROXY_MODE", "dedicated"), ("PROXY_WORKLOAD_INFO", "a/b")], "<namespace>/<name>")]
#[case::compliance(&[("COMPLIANCE_POLICY", "fips")], "only policy is pqc")]
#[case::address(&[("INSTANCE_IP", "here")], "INSTANCE_IP")]
fn what_means_nothing_stops_the_start(#[case] pairs: &[(&str, &str)], #[case] part: &str) {
    let error = read(pairs).unwrap_err().to_string();
    assert!(error.contains(part), "{error}");
}

#[test]
fn a_dedicated_proxy_has_a_workload_and_no_mark_of_its_own() {
    let dedicated = |more: &[(&str, &str)]| {
        let base = [("PROXY_MODE", "dedicated"), ("PROXY_WORKLOAD_INFO", "ns/name/account")];
        read(&[&base, more].concat()).unwrap()
    };
    let config = dedicated(&[]);
    let Mode::Dedicated(workload) = &config.mode else { panic!("{:?}", config.mode) };
    assert_eq!((&*workload.namespace, &*workload.name, &*workload.service_account), ("ns", "name", "account"));
    assert_eq!(config.sockets.mark, None);
    assert_eq!(dedicated(&[("PACKET_MARK", "7")]).sockets.mark, Some(7));
}

#[test]
fn optional_faces_are_off_until_asked_for() {
    assert_eq!(read(&[]).unwrap().illegal_ports(), [15006, 15008, 15001]);
    assert_eq!(read(&[("UNSTABLE_ENABLE_SOCKS5", "true")]).unwrap().illegal_ports(), [15006, 15008, 15001, 15080]);
    let pairs = [("XDS_ON_DEMAND", "true"), ("ISTIO_META_DNS_CAPTURE", "false"), ("TRUST_DOMAIN_ALIASES", "a, b,,")];
    let config = read(&pairs).unwrap();
    assert!(config.on_demand && !config.dns.enabled);
    assert_eq!(config.certificates.trust_domain_aliases, [Str::from("a"), "b".into()]);
}

#[test]
fn the_metadata_cluster_id_wins_and_headers_are_collected() {
    let pairs = [("CLUSTER_ID", "a"), ("ISTIO_META_CLUSTER_ID", "b"), ("XDS_HEADER_x-y", "z")];
    let config = read(&pairs).unwrap();
    assert_eq!(config.cluster_id, "b");
    assert_eq!(config.control.headers, [("x-y".to_owned(), "z".to_owned())]);
    assert!(config.certificates.authority.headers.is_empty());
}

#[test]
fn the_page_of_the_reference_is_what_the_code_says() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/ztunnel-environment.md");
    let held = std::fs::read_to_string(&path).unwrap_or_default();
    if held != page() && std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, page()).unwrap();
        return;
    }
    assert!(held == page(), "{} is out of date; run this test with UPDATE_DOCS=1", path.display());
}

#[test]
fn every_variable_that_is_read_is_documented_and_the_other_way_round() {
    let environment = Environment::default();
    Config::read(&environment, &[]).unwrap();
    let documented = VARIABLES.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(environment.asked(), documented);
}
