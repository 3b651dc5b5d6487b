//! What the proxy tells people and tools: readiness, the dump, log levels, access lines.

use super::{DENY_CLIENT, SERVER, World, mesh};
use crate::{lab::greeting, logged::logged};

#[test]
fn readiness_dump_and_levels_are_answered() {
    let world = World::new(&mesh(DENY_CLIENT, ""));
    world.n1.ready();
    let mut held = world.outside.connect(&format!("{SERVER}:8080")).unwrap();
    greeting(&mut held).unwrap();
    let (status, body) = world.n2.http("GET", 15000, "/config_dump");
    assert_eq!(status, 200);
    let dump: serde_json::Value = serde_json::from_str(&body).unwrap();
    let recorded: serde_json::Value = serde_json::from_str(include_str!("../data/ztunnel-config-dump.json")).unwrap();
    for key in recorded.as_object().unwrap().keys() {
        assert!(dump.get(key).is_some(), "{key} is missing");
    }
    same_types("config", &recorded["config"], &dump["config"]);
    let pod = &dump["workloadState"]["uid-server"];
    assert_eq!(pod["state"], "Up");
    assert_eq!(pod["connections"]["inbound"][0]["actualDst"], format!("{SERVER}:8080"));
    assert_eq!(pod["info"]["serviceAccount"], "server");
    assert_eq!(dump["certificates"][0]["identity"], "spiffe://cluster.local/ns/shop/sa/server");
    assert_eq!(dump["certificates"][0]["state"], "Available");
    assert_eq!(dump["services"][0]["ports"]["80"], 8080);
    assert_eq!(dump["policies"][0]["rules"][0][0][0]["destinationPorts"][0], 8080);
    assert_eq!(world.n1.http("GET", 15000, "/logging").0, 405);
    assert_eq!(world.n1.http("GET", 15000, "/nowhere").0, 404);
    assert_eq!(world.n1.http("POST", 15000, "/quitquitquit"), (200, "shutdown now\n".to_owned()));
    assert_eq!(world.n1.ended(), Ok(()));
}

/// What we show has the type that upstream's recorded value has; null may stand for what is not set.
fn same_types(at: &str, recorded: &serde_json::Value, ours: &serde_json::Value) {
    use serde_json::Value;
    match (recorded, ours) {
        (Value::Object(recorded), Value::Object(ours)) => {
            for (key, value) in ours {
                if let Some(recorded) = recorded.get(key) {
                    same_types(&format!("{at}.{key}"), recorded, value);
                }
            }
        }
        (Value::Null, _) | (_, Value::Null) => {}
        _ => assert_eq!(std::mem::discriminant(recorded), std::mem::discriminant(ours), "{at}: {recorded} and {ours}"),
    }
}

#[test]
fn levels_are_shown_changed_and_reset() {
    let world = World::new(&mesh("", ""));
    let said = |query: &str| world.n1.http("POST", 15000, &format!("/logging{query}"));
    let initial = said("?reset").1;
    assert!(initial.starts_with("current log level is ") && initial.ends_with('\n'), "{initial}");
    assert_eq!(said(""), (200, initial.clone()), "without a wish it is shown");
    let (status, changed) = said("?level=nobody=error");
    assert!(status == 200 && changed.contains("nobody=error"), "{changed}");
    let (status, help) = said("?level=loud");
    assert!(status == 400 && help.contains("usage: POST /logging"), "{help}");
    assert_eq!(said("?reset"), (200, initial));
}

/// Names of the fields of an access line, in order.
fn fields(line: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut rest = line.rsplit('\t').next().unwrap();
    while let Some((name, after)) = rest.split_once('=') {
        fields.push(name.trim().to_owned());
        rest = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap().1,
            None => after.split_once(' ').map_or("", |(_, rest)| rest),
        };
    }
    fields
}

#[test]
fn access_lines_have_the_recorded_fields_in_the_recorded_order() {
    let world = World::new(&mesh(DENY_CLIENT, ""));
    world.client.exchange("10.96.0.80:80", b"denied").unwrap_err();
    world.outside.exchange(&format!("{SERVER}:8080"), b"plain").unwrap();
    drop(world);
    let world = World::new(&mesh("", ""));
    world.client.exchange("10.96.0.80:80", b"well").unwrap();
    drop(world);
    // Each kind of line that upstream wrote in the walk, by what tells it from the others.
    for parts in [
        &["direction=\"outbound\"", "src.identity", "dst.service=\"web.shop.svc.cluster.local\"", "duration=\""][..],
        &["direction=\"inbound\"", "src.identity", "dst.hbone_addr", "dst.service=\"web.shop"],
        &["direction=\"inbound\"", "src.workload=\"outside\"", "dst.service=\"web"],
        &["direction=\"outbound\"", "dst.service=\"web.shop", "error=\"http status: 401 Unauthorized\""],
        &["direction=\"inbound\"", "dst.service=\"web.shop", "explicitly denied by: shop/deny-client\""],
    ] {
        let failed = parts.last().is_some_and(|part| part.contains("error") || part.contains("denied"));
        let wanted = |line: &str| {
            line.contains("complete")
                && parts.iter().all(|part| line.contains(part))
                && line.contains("error=") == failed
        };
        let recorded = include_str!("../data/policy-walk.txt").lines().find(|line| wanted(line)).unwrap();
        let ours = logged().until(wanted);
        assert_eq!(fields(&ours), fields(recorded), "{ours}\n{recorded}");
    }
}
