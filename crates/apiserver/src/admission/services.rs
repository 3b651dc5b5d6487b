//! Services, their addresses, and endpoint slices.

use super::names;
use crate::object::Object;
use crate::status::{Cause, Result, Status};
use crate::store::Transaction;
use crate::verbs::Context;
use ipnet::Ipv4Net;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// The first addresses of the range are for those that ask for one by name.
const RESERVED: u32 = 16;

/// Defaults that depend on other fields.
pub(super) fn complete(service: &mut Value) {
    let Some(spec) = service.get_mut("spec").filter(|spec| spec.is_object()) else { return };
    let form = spec.text("/type").to_owned();
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if matches!(port.get("targetPort"), None | Some(Value::Null))
            || port["targetPort"] == 0
            || port["targetPort"] == ""
        {
            port["targetPort"] = port["port"].clone();
        }
    }
    if form == "ExternalName" {
        return;
    }
    if spec.get("internalTrafficPolicy").is_none() {
        spec["internalTrafficPolicy"] = "Cluster".into();
    }
    if matches!(form.as_str(), "NodePort" | "LoadBalancer") {
        if spec.get("externalTrafficPolicy").is_none() {
            spec["externalTrafficPolicy"] = "Cluster".into();
        }
        if form == "LoadBalancer" && spec.get("allocateLoadBalancerNodePorts").is_none() {
            spec["allocateLoadBalancerNodePorts"] = true.into();
        }
    }
    if spec.text("/sessionAffinity") == "ClientIP"
        && spec.pointer("/sessionAffinityConfig/clientIP/timeoutSeconds").is_none()
    {
        spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": 10_800}});
    }
}

/// Gives a service its address, or checks the one that it asks for.
pub(super) fn admit(
    transaction: &Transaction<'_>,
    context: &Context,
    service: &mut Value,
    old: Option<&Value>,
    range: Ipv4Net,
) -> Result<()> {
    if !service["spec"].is_object() {
        return Ok(());
    }
    if service.text("/spec/type") == "ExternalName" {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            service["spec"].as_object_mut().map(|spec| spec.remove(field));
        }
        return Ok(());
    }
    if let Some(old) = old {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if service["spec"].get(field).is_none()
                && let Some(kept) = old["spec"].get(field)
            {
                service["spec"][field] = kept.clone();
            }
        }
    }
    let asked = service.text("/spec/clusterIP").to_owned();
    let unchanged = old.is_some_and(|old| old.text("/spec/clusterIP") == asked) && !asked.is_empty();
    if !unchanged {
        let address = match asked.as_str() {
            "" => free_address(transaction, context, service, range)?.to_string(),
            "None" => asked,
            _ => {
                check_address(transaction, context, service, &asked, range)?;
                asked
            }
        };
        service["spec"]["clusterIP"] = address.into();
    }
    let spec = &mut service["spec"];
    spec["clusterIPs"] = json!([spec["clusterIP"]]);
    for (field, value) in [("ipFamilies", json!(["IPv4"])), ("ipFamilyPolicy", json!("SingleStack"))] {
        if spec.get(field).is_none() {
            spec[field] = value;
        }
    }
    Ok(())
}

fn taken(transaction: &Transaction<'_>, service: &Value) -> HashSet<String> {
    let services = transaction.list(&Arc::from("/services"));
    let others = services.iter().filter(|other| other.uid() != service.uid());
    others.map(|other| other.text("/spec/clusterIP").to_owned()).collect()
}

fn invalid(context: &Context, service: &Value, cause: Cause) -> Status {
    Status::invalid("", &context.kind.resource.kind, service.name(), &[cause])
}

fn check_address(
    transaction: &Transaction<'_>,
    context: &Context,
    service: &Value,
    asked: &str,
    range: Ipv4Net,
) -> Result<()> {
    let refuse = |detail: String| {
        let shown = json!([asked]).to_string();
        Err(invalid(context, service, Cause::invalid("spec.clusterIPs", &shown.into(), detail)))
    };
    match asked.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) if range.contains(&address) => {}
        Ok(_) => {
            return refuse(format!(
                "failed to allocate IP {asked}: the provided IP ({asked}) is not in the valid range. The range of valid IPs is {range}"
            ));
        }
        Err(_) => return refuse("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into()),
    }
    if taken(transaction, service).contains(asked) {
        return refuse(format!("failed to allocate IP {asked}: provided IP is already allocated"));
    }
    Ok(())
}

/// An address that nobody has, found from a random start so that one just given back is not given out at once.
fn free_address(transaction: &Transaction<'_>, context: &Context, service: &Value, range: Ipv4Net) -> Result<Ipv4Addr> {
    let taken = taken(transaction, service);
    let first = u32::from(range.network());
    let size = u32::from(range.broadcast()) - first;
    let low = RESERVED.min(size / 2).max(1);
    let count = size.saturating_sub(low);
    if count > 0 {
        let start = rand::random_range(0..count);
        for step in 0..count {
            let address = Ipv4Addr::from(first + low + (start + step) % count);
            if !taken.contains(&address.to_string()) {
                return Ok(address);
            }
        }
    }
    let cause = Cause {
        field: "spec.clusterIPs".into(),
        reason: "InternalError",
        message: format!("failed to allocate a serviceIP: the range {range} is full"),
    };
    Err(invalid(context, service, cause))
}

/// Rules on a service.
pub(super) fn validate(service: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let forms = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"].map(Value::from);
    let form = &service["spec"]["type"];
    if !forms.contains(form) {
        causes.push(Cause::unsupported("spec.type", form, &forms));
    }
    let headless = service.text("/spec/clusterIP") == "None";
    let ports = service.list("/spec/ports");
    if ports.is_empty() && form != "ExternalName" && !headless {
        causes.push(Cause::required("spec.ports", ""));
    }
    if form == "ExternalName" && service.text("/spec/externalName").is_empty() {
        causes.push(Cause::required("spec.externalName", ""));
    }
    let mut seen = HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        let name = port.text("/name");
        if ports.len() > 1 && name.is_empty() {
            causes.push(Cause::required(format!("{path}.name"), ""));
        } else if !name.is_empty() && names::label_problem(name).is_some() {
            let problem = names::label_problem(name).unwrap_or_default();
            causes.push(Cause::invalid(format!("{path}.name"), &name.into(), problem));
        } else if !seen.insert(name) {
            causes.push(Cause::duplicate(format!("{path}.name"), &name.into()));
        }
        if !port["port"].as_i64().is_some_and(|number| (1..=65_535).contains(&number)) {
            causes.push(Cause::invalid(
                format!("{path}.port"),
                &port["port"],
                "must be between 1 and 65535, inclusive",
            ));
        }
        let protocols = ["SCTP", "TCP", "UDP"].map(Value::from);
        if !protocols.contains(&port["protocol"]) {
            causes.push(Cause::unsupported(format!("{path}.protocol"), &port["protocol"], &protocols));
        }
    }
    if let Some(old) = old.filter(|old| form != "ExternalName" && old.text("/spec/type") != "ExternalName") {
        let (before, after) = (old.text("/spec/clusterIP"), service.text("/spec/clusterIP"));
        if !before.is_empty() && !after.is_empty() && before != after {
            let shown = json!([after]).to_string();
            causes.push(Cause::invalid("spec.clusterIPs[0]", &shown.into(), "may not change once set"));
        }
    }
    causes
}

/// Rules on an endpoint slice.
pub(super) fn validate_slice(slice: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let forms = ["FQDN", "IPv4", "IPv6"].map(Value::from);
    let form = &slice["addressType"];
    if form.is_null() {
        causes.push(Cause::required("addressType", ""));
    } else if !forms.contains(form) {
        causes.push(Cause::unsupported("addressType", form, &forms));
    }
    if old.is_some_and(|old| old["addressType"] != *form) {
        causes.push(Cause::invalid("addressType", form, "field is immutable"));
    }
    for (index, endpoint) in slice.list("/endpoints").iter().enumerate() {
        if endpoint.list("/addresses").is_empty() {
            causes.push(Cause::required(format!("endpoints[{index}].addresses"), "must contain at least 1 address"));
        }
    }
    causes
}
