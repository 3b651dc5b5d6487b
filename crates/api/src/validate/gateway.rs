//! Checks of Gateway API's Gateways: those that its own definition makes by CEL rules.

use std::collections::BTreeSet;

use super::{Problem, Problems};
use crate::gateway::Gateway;

/// What is wrong with a Gateway.
pub fn gateway(gateway: &Gateway) -> Vec<Problem> {
    let mut problems = Problems::default();
    let (mut names, mut places) = (BTreeSet::new(), BTreeSet::new());
    for (index, listener) in gateway.spec.listeners.iter().enumerate() {
        let path = format!("spec.listeners[{index}]");
        problems.check(names.insert(&listener.name), format!("{path}.name"), "names of listeners must differ");
        let place = (listener.port, &listener.protocol, &listener.hostname);
        problems.check(places.insert(place), &path, "two listeners have the same port, protocol and hostname");
        problems.check(
            (1..=65_535).contains(&listener.port),
            format!("{path}.port"),
            format!("{} is not a port from 1 to 65535", listener.port),
        );
        let plain = matches!(listener.protocol.as_str(), "HTTP" | "TCP" | "UDP");
        problems.check(
            !plain || listener.tls.is_none(),
            format!("{path}.tls"),
            format!("a listener of protocol {} has no TLS", listener.protocol),
        );
        let hostless = matches!(listener.protocol.as_str(), "TCP" | "UDP");
        problems.check(
            !hostless || listener.hostname.is_empty(),
            format!("{path}.hostname"),
            format!("a listener of protocol {} has no hostname", listener.protocol),
        );
        if let Some(tls) = &listener.tls {
            let passes = tls.mode == "Passthrough";
            problems.check(
                !(passes && listener.protocol == "HTTPS"),
                format!("{path}.tls.mode"),
                "an HTTPS listener terminates TLS",
            );
            let certified = !tls.certificate_refs.is_empty() || !tls.options.is_empty();
            problems.check(
                passes || certified,
                format!("{path}.tls"),
                "a listener that terminates TLS needs certificateRefs",
            );
        }
    }
    let mut addresses = BTreeSet::new();
    for (index, address) in gateway.spec.addresses.iter().enumerate().filter(|(_, address)| !address.value.is_empty()) {
        let kind = if address.type_.is_empty() { "IPAddress" } else { &address.type_ };
        let path = format!("spec.addresses[{index}].value");
        problems.check(addresses.insert((kind, &address.value)), &path, format!("{:?} is there twice", address.value));
        let is_ip = address.value.parse::<std::net::IpAddr>().is_ok();
        problems.check(kind != "IPAddress" || is_ip, &path, format!("{:?} is not an IP address", address.value));
    }
    problems.0
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::super::told;
    use super::*;
    use crate::Resource;

    #[rstest]
    #[case(json!({"listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]}), &[])]
    #[case(json!({"listeners": [{"name": "a", "port": 80, "protocol": "HTTP"}, {"name": "a", "port": 81, "protocol": "HTTP"}]}), &["spec.listeners[1].name"])]
    #[case(json!({"listeners": [{"name": "a", "port": 80, "protocol": "HTTP"}, {"name": "b", "port": 80, "protocol": "HTTP"}]}), &["spec.listeners[1]"])]
    #[case(json!({"listeners": [{"name": "a", "port": 80, "protocol": "HTTP", "tls": {"mode": "Passthrough"}}]}), &["spec.listeners[0].tls"])]
    #[case(json!({"listeners": [{"name": "a", "port": 443, "protocol": "HTTPS", "tls": {"mode": "Passthrough"}}]}), &["spec.listeners[0].tls.mode"])]
    #[case(json!({"listeners": [{"name": "a", "port": 443, "protocol": "HTTPS", "tls": {}}]}), &["spec.listeners[0].tls"])]
    #[case(json!({"listeners": [{"name": "a", "port": 90, "protocol": "TCP", "hostname": "x.y"}]}), &["spec.listeners[0].hostname"])]
    #[case(json!({"addresses": [{"value": "10.0.0.1"}, {"value": "10.0.0.1"}, {"value": "x"}, {"type": "Hostname", "value": "x"}]}),
        &["spec.addresses[1].value", "spec.addresses[2].value"])]
    fn problems_name_their_field(#[case] spec: Value, #[case] paths: &[&str]) {
        let object = Gateway::from_value(json!({"metadata": {"name": "a"}, "spec": spec})).unwrap();
        assert_eq!(told(&gateway(&object)), paths);
    }
}
