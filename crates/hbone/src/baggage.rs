//! The `baggage` header: who the other end says it is, for telemetry only (ztunnel.md §4.2).

use http::{HeaderMap, HeaderName, HeaderValue};
use model::{Workload, WorkloadType};

pub(crate) const HEADER: HeaderName = HeaderName::from_static("baggage");

/// Longest value that is read; the rest of a longer one is ignored.
const MAX_BYTES: usize = 8192;

/// The labels of a workload; an empty one is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Baggage {
    /// `k8s.cluster.name`
    pub cluster: String,
    /// `k8s.namespace.name`
    pub namespace: String,
    /// `k8s.<type>.name`
    pub workload_name: String,
    /// The type in the key of `workload_name`.
    pub workload_type: Option<WorkloadType>,
    /// `service.name`: canonical name.
    pub service: String,
    /// `service.version`: canonical revision.
    pub version: String,
    /// `cloud.region`
    pub region: String,
    /// `cloud.availability_zone`
    pub zone: String,
}

impl Baggage {
    /// What is said of a workload.
    pub fn of(workload: &Workload) -> Self {
        Self {
            cluster: workload.cluster_id.to_string(),
            namespace: workload.namespace.to_string(),
            workload_name: workload.workload_name.to_string(),
            workload_type: Some(workload.workload_type),
            service: workload.canonical_name.to_string(),
            version: workload.canonical_revision.to_string(),
            region: workload.locality.region.to_string(),
            zone: workload.locality.zone.to_string(),
        }
    }

    /// The header's value; `None` when nothing is known, or when a label cannot stand in a header.
    pub fn header(&self) -> Option<HeaderValue> {
        let kind = self.workload_type.unwrap_or(WorkloadType::Deployment).as_str();
        let workload_key = format!("k8s.{kind}.name");
        let members: Vec<String> = [
            ("k8s.cluster.name", &self.cluster),
            ("k8s.namespace.name", &self.namespace),
            (workload_key.as_str(), &self.workload_name),
            ("service.name", &self.service),
            ("service.version", &self.version),
            ("cloud.region", &self.region),
            ("cloud.availability_zone", &self.zone),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty() && !value.contains([',', ';', '=']))
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
        if members.is_empty() {
            return None;
        }
        HeaderValue::from_str(&members.join(",")).ok()
    }

    /// Reads every `baggage` line. Members that are not ours, or not `key=value`, are ignored.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let mut baggage = Self::default();
        for line in headers.get_all(HEADER) {
            let bytes = &line.as_bytes()[..line.len().min(MAX_BYTES)];
            for member in bytes.split(|byte| *byte == b',') {
                if let Some((key, value)) =
                    std::str::from_utf8(member).ok().and_then(|text| text.trim().split_once('='))
                {
                    baggage.set(key.trim(), value.split(';').next().unwrap_or_default().trim());
                }
            }
        }
        baggage
    }

    fn set(&mut self, key: &str, value: &str) {
        let kind = match key {
            "k8s.deployment.name" => Some(WorkloadType::Deployment),
            "k8s.cronjob.name" => Some(WorkloadType::CronJob),
            "k8s.pod.name" => Some(WorkloadType::Pod),
            "k8s.job.name" => Some(WorkloadType::Job),
            _ => None,
        };
        let field = match key {
            _ if kind.is_some() => {
                self.workload_type = kind;
                &mut self.workload_name
            }
            "k8s.cluster.name" => &mut self.cluster,
            "k8s.namespace.name" => &mut self.namespace,
            "service.name" => &mut self.service,
            "service.version" => &mut self.version,
            "cloud.region" => &mut self.region,
            "cloud.availability_zone" => &mut self.zone,
            _ => return,
        };
        value.clone_into(field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (HEADER, HeaderValue::from_str(line).unwrap())).collect()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let workload = Workload {
            namespace: "shop".into(),
            workload_name: "web".into(),
            canonical_name: "web".into(),
            canonical_revision: "v1".into(),
            ..Workload::default()
        };
        let baggage = Baggage::of(&workload);
        let header = baggage.header().unwrap();
        assert_eq!(
            header,
            "k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=web,service.name=web,service.version=v1"
        );
        assert_eq!(Baggage::from_headers(&headers(&[header.to_str().unwrap()])), baggage);
    }

    #[test]
    fn several_lines_count_and_strangers_do_not() {
        let read = Baggage::from_headers(&headers(&["k8s.pod.name=a;x=1, other=2,=,junk", "cloud.region=r1"]));
        assert_eq!((read.workload_name.as_str(), read.workload_type), ("a", Some(WorkloadType::Pod)));
        assert_eq!(read.region, "r1");
        assert_eq!(Baggage::default().header(), None);
    }

    #[test]
    fn a_label_that_would_forge_another_is_left_out() {
        let forged = Baggage { namespace: "a,service.name=evil".into(), service: "web".into(), ..Baggage::default() };
        assert_eq!(forged.header().unwrap(), "service.name=web");
    }
}
