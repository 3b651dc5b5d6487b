//! What a peer's proxy writes into a CONNECT.

use crate::text;
use hbone::{Authority, Baggage, forwarded_host, span_id};
use http::{HeaderMap, HeaderName, HeaderValue};

#[test]
fn authorities() {
    fuzz::run("authorities", &[b"10.0.0.1:80", b"[fd00::1]:80", b"web.shop.svc.cluster.local:80"], |bytes| {
        let Ok(authority) = text(bytes).parse::<Authority>() else { return };
        assert_eq!(authority.to_string().parse::<Authority>().ok(), Some(authority));
    });
}

#[test]
fn headers() {
    let seeds: &[&[u8]] = &[
        b"k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=web,service.name=web,service.version=v1",
        b"for=\"10.244.1.7:37732\";host=web.shop.svc.cluster.local",
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
    ];
    fuzz::run("headers", seeds, |bytes| {
        let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
        let names = ["baggage", "forwarded", "traceparent"].map(HeaderName::from_static);
        let headers: HeaderMap = names.into_iter().map(|name| (name, value.clone())).collect();
        let _ = (Baggage::from_headers(&headers), forwarded_host(&headers), span_id(&headers));
    });
}
