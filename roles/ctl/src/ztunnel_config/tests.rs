//! What is printed for upstream's own dump is what upstream's own command printed for it, byte for byte.

use clap::Parser;
use rstest::rstest;

use super::*;

const DUMP: &str = include_str!("../../tests/fixtures/ztunnel-config-dump.json");

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn shown(dump: &str, line: &str) -> String {
    let line = Line::try_parse_from(["zc"].into_iter().chain(line.split(' '))).unwrap();
    let dump = read_dump(dump.as_bytes(), "a fixture").unwrap();
    render(&line.args, &dump, None, "2026-11-21T13:35:00Z".parse().unwrap()).unwrap()
}

#[rstest]
#[case("workload", include_str!("../../tests/fixtures/zc-workloads.txt"))]
#[case("w -o short", include_str!("../../tests/fixtures/zc-workloads.txt"))]
#[case("svc", include_str!("../../tests/fixtures/zc-services.txt"))]
#[case("policies", include_str!("../../tests/fixtures/zc-policies.txt"))]
#[case("connections -o json", include_str!("../../tests/fixtures/zc-connections-json.txt"))]
#[case("all", include_str!("../../tests/fixtures/zc-all.txt"))]
fn a_dump_is_shown_as_upstream_shows_it(#[case] line: &str, #[case] recorded: &str) {
    assert_eq!(shown(DUMP, line), recorded);
}

#[test]
fn yaml_is_as_upstream_writes_it() {
    let recorded = include_str!("../../tests/fixtures/zc-workloads.yaml.txt");
    // Upstream's output was cut after its third workload; our writer quotes what looks like a number to some reader.
    let plain = |line: &str| if line.ends_with("\"\"") { line.to_owned() } else { line.replace('"', "") };
    let shown: Vec<_> = shown(DUMP, "workload -o yaml").lines().take(recorded.lines().count()).map(plain).collect();
    assert_eq!(shown, recorded.lines().collect::<Vec<_>>());
}

#[test]
fn policies_of_a_dump_are_shown_as_upstream_shows_them() {
    let recorded = include_str!("../../tests/fixtures/zc-policies.json");
    let dump = format!("{{\"policies\": {recorded}}}");
    assert_eq!(shown(&dump, "policy -o json"), recorded);
    assert_eq!(shown(&dump, "pol"), include_str!("../../tests/fixtures/zc-policies-strict-deny.txt"));
}

#[test]
fn services_of_a_dump_are_shown_as_upstream_shows_them() {
    let recorded = include_str!("../../tests/fixtures/zc-services.json");
    assert_eq!(shown(&format!("{{\"services\": {recorded}}}"), "services -o json"), recorded);
}

#[rstest]
#[case("w --workload-namespace shop", 3)]
#[case("w --workload-node n1", 5)]
#[case("w --address 10.244.2.9", 1)]
#[case("svc --service-namespace shop", 2)]
#[case("certs", 4)]
fn filters_leave_rows_out(#[case] line: &str, #[case] rows: usize) {
    assert_eq!(shown(DUMP, line).lines().count(), rows + 1);
}

#[test]
fn a_waypoint_is_shown_by_its_name() {
    let dump = r#"{
        "services": [{"name": "wp", "namespace": "shop", "hostname": "wp.shop.svc.cluster.local", "vips": ["net/10.0.0.1"]}],
        "workloads": {
            "a": {"name": "a", "waypoint": {"destination": "net/10.0.0.1"}},
            "b": {"name": "b", "waypoint": {"destination": "shop/wp.shop.svc.cluster.local"}},
            "c": {"name": "c", "waypoint": {"destination": "shop/gone.shop.svc.cluster.local"}},
            "d": {"name": "d", "waypoint": {"destination": "net/10.0.0.9"}}
        }
    }"#;
    let text = shown(dump, "workload");
    let names: Vec<_> = text.lines().skip(1).map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(names, ["wp", "wp", "gone", "10.0.0.9"]);
}

#[tokio::test]
async fn certificates_need_a_node() {
    let line = Line::try_parse_from(["zc", "certificate"]).unwrap();
    assert_eq!(run(line.args).await.unwrap_err().to_string(), "ztunnel pod name or --node must be set");
    let line = Line::try_parse_from(["zc", "certificate", "a", "--node", "b"]).unwrap();
    assert!(matches!(run(line.args).await.unwrap_err(), Error::Usage(_)));
}
