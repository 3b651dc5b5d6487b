//! From method and path to what is meant: the attributes that authorization judges and the verbs act on.

use super::query::{Query, decode};
use http::Method;

/// What a request is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Route {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; the method in lower case for paths
    /// that are no resource.
    pub(crate) verb: String,
    pub(crate) path: String,
    pub(crate) resource: Option<Target>,
}

/// The resource named by a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: String,
    pub(crate) plural: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
}

impl Route {
    /// Reads a request line.
    pub(crate) fn parse(method: &Method, path: &str, query: &Query) -> Self {
        let resource = target(path);
        let verb = match &resource {
            None => method.as_str().to_ascii_lowercase(),
            Some(target) => verb(method, target, query).to_owned(),
        };
        Self { verb, path: path.to_owned(), resource }
    }
}

fn verb(method: &Method, target: &Target, query: &Query) -> &'static str {
    let named = !target.name.is_empty();
    match *method {
        Method::GET | Method::HEAD if !target.subresource.is_empty() => "get",
        Method::GET | Method::HEAD if query.flag("watch") => "watch",
        Method::GET | Method::HEAD if named => "get",
        Method::GET | Method::HEAD => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ => "",
    }
}

fn target(path: &str) -> Option<Target> {
    let parts: Vec<String> = path.split('/').skip(1).map(|part| decode(part, false).into_owned()).collect();
    let (group, version, rest) = match parts.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["api", version, _, ..] => ("", version, &parts[2..]),
        ["apis", group, version, _, ..] => (group, version, &parts[3..]),
        _ => return None,
    };
    let mut rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    while rest.last().is_some_and(|part| part.is_empty()) {
        rest.pop();
    }
    let mut target = Target { group: group.to_owned(), version: version.to_owned(), ..Target::default() };
    // The namespaces resource itself has its name where others have their namespace.
    let inside = rest.len() > 2 && rest[0] == "namespaces" && !matches!(rest[2], "status" | "finalize");
    if inside {
        target.namespace = rest[1].to_owned();
        rest.drain(..2);
    }
    let mut words = rest.into_iter();
    target.plural = words.next().filter(|word| !word.is_empty())?.to_owned();
    target.name = words.next().unwrap_or_default().to_owned();
    target.subresource = words.collect::<Vec<_>>().join("/");
    if target.plural == "namespaces" && target.group.is_empty() {
        target.namespace = target.name.clone();
    }
    Some(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("GET", "/api/v1/namespaces/a/pods/b/log", "get", ["", "a", "pods", "b", "log"])]
    #[case("GET", "/api/v1/pods?watch=true", "watch", ["", "", "pods", "", ""])]
    #[case("GET", "/api/v1/namespaces/a", "get", ["", "a", "namespaces", "a", ""])]
    #[case("PUT", "/api/v1/namespaces/a/finalize", "update", ["", "a", "namespaces", "a", "finalize"])]
    #[case("DELETE", "/apis/apps/v1/namespaces/a/deployments", "deletecollection", ["apps", "a", "deployments", "", ""])]
    #[case("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode", "get",
        ["rbac.authorization.k8s.io", "", "clusterroles", "system:node", ""])]
    fn paths_name_resources(#[case] method: &str, #[case] uri: &str, #[case] verb: &str, #[case] expected: [&str; 5]) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let route = Route::parse(&method.parse().unwrap(), path, &Query::parse(query));
        let target = route.resource.unwrap();
        assert_eq!(route.verb, verb);
        assert_eq!([target.group, target.namespace, target.plural, target.name, target.subresource], expected);
    }

    #[rstest]
    #[case("/healthz")]
    #[case("/api")]
    #[case("/api/v1")]
    #[case("/apis/apps/v1")]
    #[case("/openapi/v3/apis/apps/v1")]
    fn other_paths_are_no_resource(#[case] path: &str) {
        assert_eq!(Route::parse(&Method::GET, path, &Query::default()).resource, None);
    }
}
