//! Where objects are in the API's tree of paths, and which of them are meant.

use api::Resource;

/// Which objects of a kind: everywhere or in one namespace, all or those that selectors pick.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope {
    pub(crate) namespace: Option<String>,
    pub(crate) labels: Option<String>,
    pub(crate) fields: Option<String>,
}

impl Scope {
    /// All objects.
    pub fn all() -> Self {
        Self::default()
    }

    /// The objects of one namespace; the empty name means all.
    pub fn namespace(namespace: impl Into<String>) -> Self {
        let namespace = namespace.into();
        Self { namespace: (!namespace.is_empty()).then_some(namespace), ..Self::default() }
    }

    /// One object.
    pub fn object(namespace: impl Into<String>, name: &str) -> Self {
        Self::namespace(namespace).fields(format!("metadata.name={name}"))
    }

    /// Only those with labels that a selector picks.
    #[must_use]
    pub fn labels(mut self, selector: impl Into<String>) -> Self {
        self.labels = Some(selector.into());
        self
    }

    /// Only those with fields that a selector picks: `spec.nodeName=n1`.
    #[must_use]
    pub fn fields(mut self, selector: impl Into<String>) -> Self {
        self.fields = Some(selector.into());
        self
    }

    pub(crate) fn query(&self) -> Vec<(&'static str, String)> {
        let labels = self.labels.clone().map(|selector| ("labelSelector", selector));
        labels.into_iter().chain(self.fields.clone().map(|selector| ("fieldSelector", selector))).collect()
    }
}

/// Path of a kind's collection; the namespace counts only for a namespaced kind.
pub(crate) fn collection<T: Resource>(namespace: &str) -> String {
    collection_of(T::GROUP, T::VERSION, T::PLURAL, if T::NAMESPACED { namespace } else { "" })
}

/// Path of the collection `plural` in a group and version.
pub(crate) fn collection_of(group: &str, version: &str, plural: &str, namespace: &str) -> String {
    let mut path = group_version(group, version);
    if !namespace.is_empty() {
        path.push_str("/namespaces/");
        path.push_str(&encode(namespace));
    }
    path.push('/');
    path.push_str(plural);
    path
}

/// Path of a group and version.
pub(crate) fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

/// Path of one object, or of a subresource of it when that is not empty.
pub(crate) fn object<T: Resource>(namespace: &str, name: &str, subresource: &str) -> String {
    let path = format!("{}/{}", collection::<T>(namespace), encode(name));
    if subresource.is_empty() { path } else { format!("{path}/{subresource}") }
}

/// A path with a query.
pub(crate) fn with_query(path: String, query: &[(&str, String)]) -> String {
    query.iter().enumerate().fold(path, |path, (index, (key, value))| {
        format!("{path}{}{key}={}", if index == 0 { '?' } else { '&' }, encode(value))
    })
}

/// Percent-encodes everything but the characters that mean themselves everywhere in a URL.
fn encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use api::{Deployment, GatewayClass, Namespace, Pod};

    use super::*;

    #[test]
    fn every_kind_has_its_place() {
        assert_eq!(collection::<Pod>(""), "/api/v1/pods");
        assert_eq!(object::<Pod>("a", "b", "status"), "/api/v1/namespaces/a/pods/b/status");
        assert_eq!(object::<Deployment>("a", "b", ""), "/apis/apps/v1/namespaces/a/deployments/b");
        assert_eq!(object::<Namespace>("ignored", "b", ""), "/api/v1/namespaces/b");
        assert_eq!(collection::<GatewayClass>("ignored"), "/apis/gateway.networking.k8s.io/v1/gatewayclasses");
        assert_eq!(object::<Pod>("a", "../b?c", ""), "/api/v1/namespaces/a/pods/..%2Fb%3Fc");
    }

    #[test]
    fn a_scope_is_a_query() {
        let scope = Scope::namespace("a").labels("app in (b,c)").fields("spec.nodeName=n1");
        assert_eq!(
            with_query(collection::<Pod>("a"), &scope.query()),
            "/api/v1/namespaces/a/pods?labelSelector=app%20in%20%28b%2Cc%29&fieldSelector=spec.nodeName%3Dn1"
        );
    }
}
