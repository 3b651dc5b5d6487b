//! What the names of a cluster mean.
//!
//! A name is looked up as labels below the cluster domain: `web.shop.svc`, `a-1.web.shop.svc`, `_http._tcp.web.shop.svc`.
//! A name exists if it has records or is the parent of one that does; the difference is NODATA or NXDOMAIN.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::discovery::SERVICE_NAME_LABEL;
use api::{EndpointSlice, Resource, Service};

/// What a name stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Records {
    pub(super) addresses: BTreeSet<IpAddr>,
    /// Port and target (a name of the zone).
    pub(super) services: BTreeSet<(u16, String)>,
    /// Another name, outside or inside.
    pub(super) alias: Option<String>,
}

/// The names of the cluster, lower case, below the cluster domain and without it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Zone {
    names: BTreeMap<String, Records>,
}

impl Zone {
    pub(super) fn build<'a>(
        services: impl IntoIterator<Item = &'a Service>,
        slices: impl IntoIterator<Item = &'a EndpointSlice>,
    ) -> Self {
        let mut by_service: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
        for slice in slices {
            if let Some(name) = slice.metadata().label(SERVICE_NAME_LABEL) {
                by_service.entry((slice.namespace(), name)).or_default().push(slice);
            }
        }
        let mut zone = Self::default();
        zone.exist("svc");
        for service in services {
            let slices = by_service.get(&(service.namespace(), service.name())).map(Vec::as_slice).unwrap_or_default();
            zone.add(service, slices);
        }
        zone
    }

    /// The records of a name; `None` if it does not exist.
    pub(super) fn lookup(&self, name: &str) -> Option<&Records> {
        self.names.get(name)
    }

    fn add(&mut self, service: &Service, slices: &[&EndpointSlice]) {
        let name = format!("{}.{}.svc", service.name(), service.namespace());
        if service.spec.type_ == "ExternalName" {
            self.record(&name).alias = Some(service.spec.external_name.trim_end_matches('.').to_lowercase());
            return;
        }
        self.exist(&name);
        let own = service.spec.cluster_ips.iter().chain(std::iter::once(&service.spec.cluster_ip));
        let own: BTreeSet<IpAddr> = own.filter_map(|text| text.parse().ok()).collect();
        if own.is_empty() {
            self.add_headless(&name, service, slices);
            return;
        }
        self.record(&name).addresses.extend(own);
        for port in &service.spec.ports {
            if let Ok(number) = u16::try_from(port.port) {
                self.add_port(&port.name, &port.protocol, &name, number, name.clone());
            }
        }
    }

    /// The endpoints themselves, each also under a name of its own.
    fn add_headless(&mut self, name: &str, service: &Service, slices: &[&EndpointSlice]) {
        for slice in slices {
            for endpoint in &slice.endpoints {
                let ready = endpoint.conditions.ready.unwrap_or(true) || service.spec.publish_not_ready_addresses;
                if !ready {
                    continue;
                }
                for address in endpoint.addresses.iter().filter_map(|text| text.parse::<IpAddr>().ok()) {
                    let label =
                        if endpoint.hostname.is_empty() { dashed(address) } else { endpoint.hostname.to_lowercase() };
                    let target = format!("{label}.{name}");
                    self.record(name).addresses.insert(address);
                    self.record(&target).addresses.insert(address);
                    for port in &slice.ports {
                        if let Some(number) = port.port.and_then(|port| u16::try_from(port).ok()) {
                            self.add_port(&port.name, &port.protocol, name, number, target.clone());
                        }
                    }
                }
            }
        }
    }

    /// `_port._protocol.service`, for ports that have a name; and the service's own name.
    fn add_port(&mut self, port: &str, protocol: &str, service: &str, number: u16, target: String) {
        self.record(service).services.insert((number, target.clone()));
        if !port.is_empty() {
            let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_lowercase() };
            let name = format!("_{}._{protocol}.{service}", port.to_lowercase());
            self.record(&name).services.insert((number, target));
        }
    }

    fn record(&mut self, name: &str) -> &mut Records {
        self.exist(name);
        self.names.entry(name.to_owned()).or_default()
    }

    /// Makes a name and its parents exist.
    fn exist(&mut self, name: &str) {
        let mut rest = name;
        loop {
            if !self.names.contains_key(rest) {
                self.names.insert(rest.to_owned(), Records::default());
            }
            match rest.split_once('.') {
                Some((_, parent)) => rest = parent,
                None => return,
            }
        }
    }
}

/// The name of an endpoint that has none: its address with dashes.
fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::dns) fn zone() -> Zone {
        let mut web = Service { metadata: api::ObjectMeta::named("shop", "web"), ..Service::default() };
        web.spec.cluster_ip = "10.96.0.5".to_owned();
        web.spec.ports.push(api::ServicePort { name: "http".to_owned(), port: 80, ..Default::default() });
        let mut db = Service { metadata: api::ObjectMeta::named("shop", "db"), ..Service::default() };
        db.spec.cluster_ip = "None".to_owned();
        let mut outside = Service { metadata: api::ObjectMeta::named("shop", "outside"), ..Service::default() };
        outside.spec.type_ = "ExternalName".to_owned();
        outside.spec.external_name = "Example.com.".to_owned();
        let mut slice = EndpointSlice { metadata: api::ObjectMeta::named("shop", "db-1"), ..EndpointSlice::default() };
        slice.metadata.labels.insert(SERVICE_NAME_LABEL.to_owned(), "db".to_owned());
        slice.ports.push(api::EndpointPort { name: "sql".to_owned(), port: Some(5432), ..Default::default() });
        let endpoint = |address: &str, hostname: &str, ready| api::Endpoint {
            addresses: vec![address.to_owned()],
            hostname: hostname.to_owned(),
            conditions: api::EndpointConditions { ready: Some(ready), ..Default::default() },
            ..Default::default()
        };
        slice.endpoints = vec![
            endpoint("10.244.1.2", "db-0", true),
            endpoint("10.244.1.3", "", true),
            endpoint("10.244.1.4", "db-2", false),
        ];
        Zone::build([&web, &db, &outside], [&slice])
    }

    fn addresses(name: &str) -> Option<String> {
        let texts = |records: &Records| records.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        zone().lookup(name).map(texts)
    }

    #[rstest::rstest]
    #[case::service("web.shop.svc", Some("10.96.0.5"))]
    #[case::headless("db.shop.svc", Some("10.244.1.2 10.244.1.3"))]
    #[case::hostname("db-0.db.shop.svc", Some("10.244.1.2"))]
    #[case::no_hostname("10-244-1-3.db.shop.svc", Some("10.244.1.3"))]
    #[case::namespace_exists("shop.svc", Some(""))]
    #[case::not_ready("db-2.db.shop.svc", None)]
    #[case::absent("nothing.shop.svc", None)]
    #[case::absent_namespace("web.other.svc", None)]
    fn names(#[case] name: &str, #[case] expected: Option<&str>) {
        assert_eq!(addresses(name).as_deref(), expected);
    }

    #[rstest::rstest]
    #[case("_http._tcp.web.shop.svc", &[(80, "web.shop.svc")])]
    #[case("_sql._tcp.db.shop.svc", &[(5432, "10-244-1-3.db.shop.svc"), (5432, "db-0.db.shop.svc")])]
    #[case("web.shop.svc", &[(80, "web.shop.svc")])]
    fn ports(#[case] name: &str, #[case] expected: &[(u16, &str)]) {
        let expected = expected.iter().map(|(port, target)| (*port, (*target).to_owned())).collect();
        assert_eq!(zone().lookup(name).unwrap().services, expected);
    }

    #[test]
    fn an_external_name_is_an_alias() {
        assert_eq!(zone().lookup("outside.shop.svc").unwrap().alias.as_deref(), Some("example.com"));
    }
}
