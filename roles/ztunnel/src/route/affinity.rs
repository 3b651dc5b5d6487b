//! Kubernetes' session affinity: which endpoint each client of a service keeps, and until when.
//!
//! A client that comes back within the service's time after its last connection gets the endpoint that it had, whatever else
//! has come meanwhile, as long as that one may still be chosen.

use model::{NamespacedHostname, Str};
use parking_lot::Mutex;
use std::{collections::HashMap, net::IpAddr, time::Duration};
use tokio::time::Instant;

/// Entries beyond which those that have had their time are looked for.
const SWEEP_ABOVE: usize = 1024;
/// Longest time that can be asked for: Kubernetes' own limit.
const LONGEST: Duration = Duration::from_secs(86_400);

/// What the clients of one pod keep.
#[derive(Debug, Default)]
pub(crate) struct Affinity {
    kept: Mutex<HashMap<(NamespacedHostname, IpAddr), (Str, Instant)>>,
}

impl Affinity {
    /// The workload that the client had, if its last connection is no longer ago than `timeout`.
    pub(crate) fn kept(
        &self,
        service: &NamespacedHostname,
        client: IpAddr,
        timeout: Duration,
        now: Instant,
    ) -> Option<Str> {
        let kept = self.kept.lock();
        let (uid, since) = kept.get(&(service.clone(), client))?;
        (now.duration_since(*since) <= timeout).then(|| uid.clone())
    }

    /// The client has got a connection to this workload.
    pub(crate) fn keep(&self, service: NamespacedHostname, client: IpAddr, uid: Str, now: Instant) {
        let mut kept = self.kept.lock();
        if kept.len() > SWEEP_ABOVE {
            kept.retain(|_, (_, since)| now.duration_since(*since) <= LONGEST);
        }
        kept.insert((service, client), (uid, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_kept_for_the_time_after_the_last_connection() {
        let affinity = Affinity::default();
        let service = NamespacedHostname { namespace: "ns".into(), hostname: "web".into() };
        let (client, other): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let (minute, begun) = (Duration::from_secs(60), Instant::now());
        let kept = |client, after| affinity.kept(&service, client, minute, begun + Duration::from_secs(after));
        assert_eq!(kept(client, 0), None);
        affinity.keep(service.clone(), client, "a".into(), begun);
        assert_eq!((kept(client, 60), kept(client, 61), kept(other, 0)), (Some("a".into()), None, None));
        affinity.keep(service.clone(), client, "a".into(), begun + Duration::from_secs(50));
        assert_eq!(kept(client, 110), Some("a".into()), "the time begins again with each connection");
    }
}
