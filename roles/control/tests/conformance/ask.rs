//! One request of a case, and whether what comes of it is what the case expects.

use crate::{Outcome, place::Place};
use http::{HeaderMap, HeaderName, HeaderValue};
use l7::route::{
    Head, Table,
    plan::{Forward, Plan, Reply, plan},
};
use model::NamespacedHostname;
use serde_json::Value;

/// What came of a request.
enum Came {
    /// It was answered.
    Reply(Reply),
    /// It went to a service with these headers and this path; the response is edited so.
    Went { service: NamespacedHostname, headers: HeaderMap, host: String, path: String, response: HeaderMap },
}

pub(crate) fn answer(place: &Place, case: &Value) -> Outcome {
    let request = &case["Request"];
    if has_expression(case) {
        return Outcome::Elsewhere("addresses of pods");
    }
    let protocol = request["Protocol"].as_str().unwrap_or_default();
    if !request["SNI"].is_null() || protocol == "HTTPS" {
        return Outcome::Elsewhere("TLS");
    }
    let host = request["Host"].as_str().unwrap_or(if place.mesh { "echo" } else { "example.com" });
    let headers = headers(&request["Headers"]);
    let (path, query) = match request["Path"].as_str().unwrap_or("/").split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (request["Path"].as_str().unwrap_or("/"), None),
    };
    let path = if path.is_empty() { "/" } else { path };
    let written = l7::route::host(host);
    // A client may write any port: what counts is where it connected to.
    let port = host[written.len()..].strip_prefix(':').and_then(|port| port.parse().ok());
    let port = port.filter(|port| place.mesh || place.listeners.iter().any(|one| one.port == *port)).unwrap_or(80);
    let authority = request["Headers"]["Host"].as_str().unwrap_or(host).to_owned();
    let outside = case["TestCaseName"].as_str().is_some_and(|name| name.contains("not from consumer"));
    let consumer = case["TestCaseName"].as_str().is_some_and(|name| name.starts_with("request from consumer"));
    let namespace = if consumer && !outside { "gateway-conformance-mesh-consumer" } else { "gateway-conformance-mesh" };
    let head = Head {
        method: request["Method"].as_str().filter(|method| !method.is_empty()).unwrap_or("GET"),
        scheme: "http",
        authority: &authority,
        port,
        path,
        query,
        headers: &headers,
        source_namespace: Some(namespace),
    };
    let came = if place.mesh { in_mesh(place, case, written, &head) } else { at_gateways(place, case, &head) };
    match compare(case, came, &headers) {
        Ok(()) => Outcome::Passed,
        Err(why) => Outcome::Failed(why),
    }
}

fn has_expression(value: &Value) -> bool {
    match value {
        Value::Object(object) => object.keys().any(|key| key.starts_with('$')) || object.values().any(has_expression),
        Value::Array(list) => list.iter().any(has_expression),
        _ => false,
    }
}

fn headers(value: &Value) -> HeaderMap {
    let pairs = value.as_object().into_iter().flatten().filter(|(name, _)| *name != "Host");
    let pair = |(name, value): (&String, &Value)| {
        let name = HeaderName::try_from(name.as_str()).unwrap();
        (name, HeaderValue::try_from(value.as_str().unwrap()).unwrap())
    };
    pairs.map(pair).collect()
}

/// The service that is named, its routes, or the service itself.
fn in_mesh(place: &Place, case: &Value, host: &str, head: &Head<'_>) -> Came {
    let name = host.split('.').next().unwrap();
    let service = place.services.iter().find(|service| service.metadata.name == name).unwrap();
    let namespace = &service.metadata.namespace;
    let key = NamespacedHostname {
        namespace: namespace.as_str().into(),
        hostname: format!("{name}.{namespace}.svc.cluster.local").into(),
    };
    let routes = place.config.service_routes(&key);
    match routes.and_then(|routes| routes.table(head.source_namespace, head.port)) {
        Some(table) => through(table, case, head),
        None => {
            let path = head.path.to_owned();
            Came::Went {
                service: key,
                headers: head.headers.clone(),
                host: host.to_owned(),
                path,
                response: HeaderMap::new(),
            }
        }
    }
}

/// The most exact listener of the port answers; where several gateways have one, the one that knows a route.
fn at_gateways(place: &Place, case: &Value, head: &Head<'_>) -> Came {
    let wants = |gateway: &str| case["Gateway"].as_str().is_none_or(|wanted| wanted == gateway);
    let matches = |hostname: &str| match hostname.strip_prefix('*') {
        Some(suffix) => head.host().ends_with(suffix) && head.host().len() > suffix.len(),
        None => hostname == head.host(),
    };
    let mut last = None;
    let mut names: Vec<&str> = place.listeners.iter().map(|listener| listener.gateway.as_str()).collect();
    names.dedup();
    // Gateways that the test itself brings stand last.
    for gateway in names.into_iter().rev().filter(|gateway| wants(gateway)) {
        let own = place.listeners.iter().filter(|one| one.gateway == gateway && one.port == head.port);
        let exactness = |hostname: &str| (!hostname.starts_with('*'), hostname.len());
        let best = own.filter(|one| matches(&one.hostname)).max_by_key(|one| exactness(&one.hostname));
        let Some(listener) = best else { continue };
        match through(&listener.table, case, head) {
            Came::Reply(reply) if reply.flags == "NR" => last = Some(Came::Reply(reply)),
            came => return came,
        }
    }
    last.unwrap_or_else(|| Came::Reply(Reply::no_route()))
}

fn through(table: &Table, case: &Value, head: &Head<'_>) -> Came {
    let Some(selected) = table.select(head) else { return Came::Reply(Reply::no_route()) };
    match plan(&selected, head, |_| 0) {
        Plan::Reply(reply) => Came::Reply(reply),
        Plan::Forward(forward) => went(&forward, case, head),
    }
}

fn went(forward: &Forward, case: &Value, head: &Head<'_>) -> Came {
    let mut headers = head.headers.clone();
    forward.request_edits().for_each(|edit| edit.apply(&mut headers));
    // What the backend of this test answers with.
    let mut response = self::headers(&case["BackendSetResponseHeaders"]);
    forward.response_edits().for_each(|edit| edit.apply(&mut response));
    if let (Some(cors), Some(origin)) = (&forward.rule.filters.cors, head.headers.get("origin")) {
        cors.respond(origin, &mut response);
    }
    let host = forward.host.as_ref().map_or(head.authority, |host| host.to_str().unwrap()).to_owned();
    let path = forward.path.clone().unwrap_or_else(|| match head.query {
        Some(query) => format!("{}?{query}", head.path),
        None => head.path.to_owned(),
    });
    Came::Went { service: forward.backend().service.clone(), headers, host, path, response }
}

fn compare(case: &Value, came: Came, sent: &HeaderMap) -> Result<(), String> {
    let expected = &case["Response"];
    let statuses: Vec<u64> = match (&expected["StatusCodes"], &expected["StatusCode"]) {
        (Value::Array(list), _) => list.iter().filter_map(Value::as_u64).collect(),
        (_, Value::Number(one)) => one.as_u64().into_iter().collect(),
        _ => vec![200],
    };
    let (status, response) = match &came {
        Came::Reply(reply) => (u64::from(reply.status), &reply.headers),
        Came::Went { response, .. } => (200, response),
    };
    if !statuses.contains(&status) {
        return Err(format!("status {status} instead of {statuses:?}"));
    }
    response_headers(expected, response)?;
    if !case["RedirectRequest"].is_null() {
        return redirection(&case["RedirectRequest"], response);
    }
    let Came::Went { service, headers, host, path, .. } = &came else { return Ok(()) };
    if let Some(backend) = case["Backend"].as_str()
        && !backend.starts_with(service.hostname.split('.').next().unwrap())
        && !service.hostname.starts_with(backend)
    {
        return Err(format!("went to {service:?} instead of {backend}"));
    }
    request(case, headers, host, path, sent)
}

fn request(case: &Value, headers: &HeaderMap, host: &str, path: &str, sent: &HeaderMap) -> Result<(), String> {
    let expected = &case["ExpectedRequest"];
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    if let Some(wanted) = text(&expected["Request"]["Host"])
        && wanted != host
    {
        return Err(format!("host {host} instead of {wanted}"));
    }
    let wanted =
        text(&expected["Request"]["Path"]).or_else(|| text(&case["Request"]["Path"])).unwrap_or_else(|| "/".to_owned());
    if wanted != path {
        return Err(format!("path {path} instead of {wanted}"));
    }
    let wanted = match &expected["Request"]["Headers"] {
        Value::Object(_) => &expected["Request"]["Headers"],
        _ => &Value::Null,
    };
    for (name, value) in wanted.as_object().into_iter().flatten() {
        let got = headers.get(name.as_str()).map(|value| value.to_str().unwrap());
        if got != value.as_str() {
            return Err(format!("header {name} is {got:?}; sent were {sent:?}"));
        }
    }
    for name in expected["AbsentHeaders"].as_array().into_iter().flatten() {
        if headers.contains_key(name.as_str().unwrap()) {
            return Err(format!("header {name} is there"));
        }
    }
    Ok(())
}

fn response_headers(expected: &Value, response: &HeaderMap) -> Result<(), String> {
    let got = |name: &str| response.get(name).map(|value| value.to_str().unwrap().to_owned());
    for (name, value) in expected["Headers"].as_object().into_iter().flatten() {
        if got(name).as_deref() != value.as_str() {
            return Err(format!("response header {name} is {:?}", got(name)));
        }
    }
    for (name, values) in expected["ValidHeaderValues"].as_object().into_iter().flatten() {
        let valid = values.as_array().unwrap().iter().any(|value| got(name).as_deref() == value.as_str());
        if !valid {
            return Err(format!("response header {name} is {:?}", got(name)));
        }
    }
    for name in expected["AbsentHeaders"].as_array().into_iter().flatten() {
        if let Some(value) = got(name.as_str().unwrap()) {
            return Err(format!("response header {name} is there: {value}"));
        }
    }
    Ok(())
}

fn redirection(expected: &Value, response: &HeaderMap) -> Result<(), String> {
    let location = response.get("location").ok_or("no location")?.to_str().unwrap();
    let uri: http::Uri = location.parse().map_err(|_| format!("bad location {location}"))?;
    let text = |name: &str| expected[name].as_str().filter(|text| !text.is_empty());
    let port = uri.port_u16().map(|port| port.to_string());
    let fits = text("Scheme").is_none_or(|scheme| uri.scheme_str() == Some(scheme))
        && text("Host").is_none_or(|host| uri.host() == Some(host))
        && text("Path").is_none_or(|path| uri.path() == path)
        && port.as_deref() == text("Port");
    if fits { Ok(()) } else { Err(format!("location {location}")) }
}
