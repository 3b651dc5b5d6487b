//! The small languages inside a policy's text fields, read once for everybody: for whoever tells a writer what is wrong
//! ([`crate::validate`]) and for whoever enforces the policy.
//!
//! Errors are sentences about the text. Whoever enforces must take a text that cannot be read as a rule that cannot be
//! trusted, not as an absent condition.

use std::net::IpAddr;

use ipnet::IpNet;
use model::{ServiceAccountMatch, StringMatch};

/// An address or a range of addresses.
pub fn range(text: &str) -> Result<IpNet, String> {
    let range = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    range.ok_or_else(|| format!("{text:?} is neither an IP address nor a CIDR range"))
}

/// A port number in decimal digits.
pub fn port(text: &str) -> Result<u16, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| digits && *port > 0);
    port.ok_or_else(|| format!("{text:?} is not a port from 1 to 65535"))
}

/// `*`, `*suffix`, `prefix*` or the whole text.
pub fn string(text: &str) -> Result<StringMatch, String> {
    Ok(if text.is_empty() {
        return Err("must not be empty".to_owned());
    } else if text == "*" {
        StringMatch::Presence
    } else if let Some(suffix) = text.strip_prefix('*') {
        StringMatch::Suffix(suffix.into())
    } else if let Some(prefix) = text.strip_suffix('*') {
        StringMatch::Prefix(prefix.into())
    } else {
        StringMatch::Exact(text.into())
    })
}

/// A peer's name as proxies compare it. With the `spiffe://` that certificates write it would never match.
pub fn principal(text: &str) -> Result<StringMatch, String> {
    string(text.strip_prefix("spiffe://").unwrap_or(text))
}

/// `account` of this namespace, or `namespace/account`; no wildcards.
pub fn service_account(text: &str, namespace: &str) -> Result<ServiceAccountMatch, String> {
    let (namespace, account) = text.split_once('/').unwrap_or((namespace, text));
    let valid = !namespace.is_empty() && !account.is_empty() && !account.contains('/') && !text.contains('*');
    if !valid {
        return Err(format!("{text:?} is neither ACCOUNT nor NAMESPACE/ACCOUNT"));
    }
    Ok(ServiceAccountMatch { namespace: namespace.into(), service_account: account.into() })
}

/// What a condition asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// `source.ip`.
    SourceIp,
    /// `source.namespace`.
    SourceNamespace,
    /// `source.principal`.
    SourcePrincipal,
    /// `source.serviceAccount`.
    SourceServiceAccount,
    /// `destination.ip`.
    DestinationIp,
    /// `destination.port`.
    DestinationPort,
    /// `remote.ip`: the client's address as the edge of the mesh was told it.
    RemoteIp,
    /// Anything else that only layer 7 sees, by the name of its family.
    Layer7(&'static str),
}

/// A condition's key; none for what cannot be asked.
pub fn attribute(key: &str) -> Option<Attribute> {
    let bracketed = |family: &str| {
        let rest = key.strip_prefix(family).and_then(|rest| rest.strip_prefix('['));
        rest.is_some_and(|rest| rest.len() > 1 && rest.ends_with(']'))
    };
    Some(match key {
        "source.ip" => Attribute::SourceIp,
        "source.namespace" => Attribute::SourceNamespace,
        "source.principal" => Attribute::SourcePrincipal,
        "source.serviceAccount" => Attribute::SourceServiceAccount,
        "destination.ip" => Attribute::DestinationIp,
        "destination.port" => Attribute::DestinationPort,
        "remote.ip" => Attribute::RemoteIp,
        "connection.sni" => Attribute::Layer7("connection.sni"),
        "request.auth.principal" => Attribute::Layer7("request.auth.principal"),
        "request.auth.audiences" => Attribute::Layer7("request.auth.audiences"),
        "request.auth.presenter" => Attribute::Layer7("request.auth.presenter"),
        _ if bracketed("request.headers") => Attribute::Layer7("request.headers"),
        _ if bracketed("request.auth.claims") => Attribute::Layer7("request.auth.claims"),
        _ if key.starts_with("experimental.envoy.filters.") => Attribute::Layer7("experimental"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("10.0.0.1", Some("10.0.0.1/32"))]
    #[case("10.0.0.0/8", Some("10.0.0.0/8"))]
    #[case("2001:db8::/32", Some("2001:db8::/32"))]
    #[case("10.0.0.0/33", None)]
    #[case("10.0.0", None)]
    #[case("", None)]
    fn ranges(#[case] text: &str, #[case] expected: Option<&str>) {
        assert_eq!(range(text).ok().map(|range| range.to_string()).as_deref(), expected);
    }

    #[rstest]
    #[case("80", Some(80))]
    #[case("65535", Some(65535))]
    #[case("0", None)]
    #[case("+80", None)]
    #[case("65536", None)]
    #[case("http", None)]
    #[case("", None)]
    fn ports(#[case] text: &str, #[case] expected: Option<u16>) {
        assert_eq!(port(text).ok(), expected);
    }

    #[rstest]
    #[case("*", Ok(StringMatch::Presence))]
    #[case("*a", Ok(StringMatch::Suffix("a".into())))]
    #[case("a*", Ok(StringMatch::Prefix("a".into())))]
    #[case("a", Ok(StringMatch::Exact("a".into())))]
    #[case("", Err(()))]
    #[case("spiffe://cluster.local/ns/a/sa/b", Ok(StringMatch::Exact("cluster.local/ns/a/sa/b".into())))]
    fn principals(#[case] text: &str, #[case] expected: Result<StringMatch, ()>) {
        assert_eq!(principal(text).map_err(drop), expected);
    }

    #[rstest]
    #[case("b", Some(("own", "b")))]
    #[case("a/b", Some(("a", "b")))]
    #[case("a/b/c", None)]
    #[case("a/", None)]
    #[case("/b", None)]
    #[case("", None)]
    #[case("a/*", None)]
    fn service_accounts(#[case] text: &str, #[case] expected: Option<(&str, &str)>) {
        let read = service_account(text, "own").ok();
        assert_eq!(read.as_ref().map(|account| (&*account.namespace, &*account.service_account)), expected);
    }

    #[rstest]
    #[case("source.ip", Some(Attribute::SourceIp))]
    #[case("request.headers[x]", Some(Attribute::Layer7("request.headers")))]
    #[case("request.headers[]", None)]
    #[case("request.headers", None)]
    #[case("request.auth.claims[a][b]", Some(Attribute::Layer7("request.auth.claims")))]
    #[case("source.ipx", None)]
    fn attributes(#[case] key: &str, #[case] expected: Option<Attribute>) {
        assert_eq!(attribute(key), expected);
    }
}
