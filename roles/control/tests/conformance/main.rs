//! What Gateway API's conformance tests (1.6.3) ask of routing, answered without a network: their objects go through the control plane's
//! translation into tables, their requests through the route engine.
//!
//! `tests.json` holds the objects and the expected exchanges as facts: Apache-2.0, gateway-api.sigs.k8s.io. What routing alone
//! cannot answer is counted with the reason why.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod ask;
mod place;

use serde_json::Value;
use std::collections::BTreeMap;

/// What a case came to.
enum Outcome {
    Passed,
    Failed(String),
    /// Routing does not decide it.
    Elsewhere(&'static str),
}

/// Tests that are about something else than routing.
fn elsewhere(test: &Value) -> Option<&'static str> {
    let name = test["name"].as_str().unwrap();
    let has = |feature: &str| test["features"].as_array().unwrap().iter().any(|one| one == feature);
    if test["objects"].as_array().unwrap().is_empty() && !test["mesh"].as_bool().unwrap() {
        return Some("its objects are not in the release");
    }
    match name {
        "HTTPRouteRedirectPortAndScheme" | "HTTPRouteMultipleGateways" => {
            Some("which of several gateways is asked is not told")
        }
        "HTTPRouteReferenceGrant" => Some("a grant that is taken away"),
        "MeshHTTPRouteNamedRule" => Some("its expected path is another request's"),
        "MeshGRPCRouteRequestHeaderModifier" => Some("its objects are not in the release"),
        _ if name.contains("Timeout") => Some("time"),
        _ if name.starts_with("TLSRoute") || name.contains("HTTPS") => Some("TLS"),
        _ if has("ListenerSet") => Some("listener sets"),
        _ if has("GatewayFrontendClientCertificateValidation") => Some("TLS"),
        _ if name == "HTTPRouteRetry" => Some("what a backend does"),
        _ => None,
    }
}

#[test]
fn gateway_api_cases() {
    let all: Value = serde_json::from_str(include_str!("tests.json")).unwrap();
    let (mut passed, mut failures) = (0, Vec::new());
    let mut not_here: BTreeMap<&str, usize> = BTreeMap::new();
    for test in all["tests"].as_array().unwrap() {
        let cases = test["cases"].as_array().unwrap();
        if let Some(reason) = elsewhere(test) {
            *not_here.entry(reason).or_default() += cases.len();
            continue;
        }
        let mesh = test["mesh"].as_bool().unwrap();
        let base = &all[if mesh { "mesh" } else { "gateway" }];
        let objects = base.as_array().unwrap().iter().chain(test["objects"].as_array().unwrap());
        let place = place::Place::new(objects, mesh);
        for (number, case) in cases.iter().enumerate() {
            match ask::answer(&place, case) {
                Outcome::Passed => passed += 1,
                Outcome::Elsewhere(reason) => *not_here.entry(reason).or_default() += 1,
                Outcome::Failed(why) => failures.push(format!("{} {number}: {why}\n    {case}", test["name"])),
            }
        }
    }
    println!("{passed} cases pass, {} fail; decided elsewhere: {not_here:?}", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(passed >= 280, "only {passed} cases were answered");
}
