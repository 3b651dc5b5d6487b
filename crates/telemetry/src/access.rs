//! The one record of a connection that has ended (ztunnel.md §11.3).
//!
//! A [`Record`] is written under the scope `access`: INFO when the connection ended as its ends wished, ERROR with `error=`
//! otherwise. A connection that failed before its workload was known is a [`Failure`]. Unknown fields are left out.

use model::{Identity, Reason, Str};
use std::{fmt, net::SocketAddr, time::Duration};

/// Which way the connection went, seen from the local workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To the local workload.
    Inbound,
    /// From the local workload.
    Outbound,
}

impl Direction {
    /// As in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One end of a connection, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct End {
    /// Pod name, or what baggage says.
    pub workload: Option<Str>,
    /// Kubernetes namespace.
    pub namespace: Option<Str>,
    /// Proven by certificate.
    pub identity: Option<Identity>,
    /// Cluster id.
    pub cluster: Option<Str>,
}

/// A connection whose two ends are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Client's address.
    pub source_address: SocketAddr,
    /// Client.
    pub source: End,
    /// The next hop: the HBONE port when there is a tunnel.
    pub destination_address: SocketAddr,
    /// The tunnel's `:authority`.
    pub hbone_address: Option<Str>,
    /// Hostname of the service that was addressed.
    pub service: Option<Str>,
    /// Server.
    pub destination: End,
    /// Which way.
    pub direction: Direction,
}

/// How a recorded connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Bytes that left the local workload.
    pub sent: u64,
    /// Bytes that came to the local workload.
    pub received: u64,
    /// How long it lasted.
    pub duration: Duration,
    /// Why it ended.
    pub reason: Reason,
}

/// A connection that failed before its workload was known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Client's address.
    pub source_address: SocketAddr,
    /// Where it wanted to go.
    pub destination_address: SocketAddr,
    /// Which way.
    pub direction: Direction,
    /// Why.
    pub reason: Reason,
}

/// One event with the fields of a record; the order is the contract's.
macro_rules! record {
    ($level:ident, $record:expr, $message:literal $(, $more:tt = $value:expr)*) => {{
        let Record { source, destination, .. } = $record;
        tracing::$level!(
            target: "access",
            {
            src.addr = %$record.source_address,
            src.workload = source.workload.as_deref(),
            src.namespace = source.namespace.as_deref(),
            src.identity = source.identity.as_ref().map(ToString::to_string).as_deref(),
            src.cluster = source.cluster.as_deref(),
            dst.addr = %$record.destination_address,
            dst.hbone_addr = $record.hbone_address.as_deref().map(tracing::field::display),
            dst.service = $record.service.as_deref(),
            dst.workload = destination.workload.as_deref(),
            dst.namespace = destination.namespace.as_deref(),
            dst.identity = destination.identity.as_ref().map(ToString::to_string).as_deref(),
            dst.cluster = destination.cluster.as_deref(),
            direction = $record.direction.as_str(),
            $($more = $value,)*
            },
            $message
        );
    }};
}

impl Record {
    /// Logs that the connection was opened, at DEBUG.
    pub fn opened(&self) {
        record!(debug, self, "connection opened");
    }

    /// Logs how it ended.
    pub fn ended(&self, outcome: &Outcome) {
        let Outcome { sent, received, duration, reason } = outcome;
        let duration = format!("{}ms", duration.as_millis());
        if reason.is_success() {
            record!(info, self, "connection complete", bytes_sent = *sent, bytes_recv = *received, duration = duration);
        } else {
            record!(
                error,
                self,
                "connection complete",
                bytes_sent = *sent,
                bytes_recv = *received,
                duration = duration,
                error = reason.to_string()
            );
        }
    }
}

impl Failure {
    /// Logs it, at WARN.
    pub fn log(&self) {
        tracing::warn!(
            target: "access",
            {
            src.addr = %self.source_address,
            dst.addr = %self.destination_address,
            direction = self.direction.as_str(),
            error = self.reason.to_string(),
            },
            "connection failed"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Format, captured};

    fn end(workload: &str, account: &str) -> End {
        End {
            workload: Some(workload.into()),
            namespace: Some("shop".into()),
            identity: Some(format!("spiffe://cluster.local/ns/shop/sa/{account}").parse().unwrap()),
            cluster: Some("Kubernetes".into()),
        }
    }

    /// The connection of the first line of upstream's recorded walk.
    fn recorded() -> Record {
        Record {
            source_address: "10.244.1.7:37732".parse().unwrap(),
            source: end("client", "client"),
            destination_address: "10.244.1.6:15008".parse().unwrap(),
            hbone_address: Some("10.244.1.6:8080".into()),
            service: Some("web.shop.svc.cluster.local".into()),
            destination: end("web-57794d7bfc-zkpk5", "web"),
            direction: Direction::Inbound,
        }
    }

    fn outcome(reason: Reason) -> Outcome {
        Outcome { sent: 0, received: 0, duration: Duration::from_micros(900), reason }
    }

    #[test]
    fn a_complete_connection_reads_as_upstreams_does() {
        let lines = captured(Format::Plain, "info", || {
            recorded().opened();
            recorded().ended(&outcome(Reason::Complete));
        });
        assert_eq!(
            lines,
            [
                "info\taccess\tconnection complete\tsrc.addr=10.244.1.7:37732 src.workload=\"client\" src.namespace=\"shop\" \
              src.identity=\"spiffe://cluster.local/ns/shop/sa/client\" src.cluster=\"Kubernetes\" dst.addr=10.244.1.6:15008 \
              dst.hbone_addr=10.244.1.6:8080 dst.service=\"web.shop.svc.cluster.local\" \
              dst.workload=\"web-57794d7bfc-zkpk5\" dst.namespace=\"shop\" \
              dst.identity=\"spiffe://cluster.local/ns/shop/sa/web\" dst.cluster=\"Kubernetes\" direction=\"inbound\" \
              bytes_sent=0 bytes_recv=0 duration=\"0ms\""
            ]
        );
    }

    #[test]
    fn unknown_fields_are_left_out_and_errors_come_last() {
        let plaintext = Record {
            source: End { cluster: Some("Kubernetes".into()), ..End::default() },
            destination: End::default(),
            hbone_address: None,
            service: None,
            ..recorded()
        };
        let denied =
            Reason::PolicyDenied("explicitly denied by: istio-system/istio_converted_static_strict".to_owned());
        let lines = captured(Format::Plain, "info", || plaintext.ended(&outcome(denied)));
        assert_eq!(
            lines,
            ["error\taccess\tconnection complete\tsrc.addr=10.244.1.7:37732 src.cluster=\"Kubernetes\" \
              dst.addr=10.244.1.6:15008 direction=\"inbound\" bytes_sent=0 bytes_recv=0 duration=\"0ms\" \
              error=\"connection closed due to policy rejection: explicitly denied by: \
              istio-system/istio_converted_static_strict\""]
        );
    }

    #[test]
    fn json_has_the_same_fields_flat() {
        let lines = captured(Format::Json, "info", || recorded().ended(&outcome(Reason::Complete)));
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(line["dst.hbone_addr"], "10.244.1.6:8080");
        assert_eq!(line["bytes_sent"], 0);
        assert_eq!(line["scope"], "access");
    }

    #[test]
    fn an_early_failure_says_where_from_where_to_and_why() {
        let failure = Failure {
            source_address: "10.244.1.7:36918".parse().unwrap(),
            destination_address: "10.96.241.236:80".parse().unwrap(),
            direction: Direction::Outbound,
            reason: Reason::NoHealthyUpstream,
        };
        assert_eq!(
            captured(Format::Plain, "info", || failure.log()),
            ["warn\taccess\tconnection failed\tsrc.addr=10.244.1.7:36918 dst.addr=10.96.241.236:80 \
              direction=\"outbound\" error=\"no healthy upstream\""]
        );
    }
}
