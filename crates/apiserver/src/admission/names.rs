//! Which names, labels and keys are allowed.

use crate::catalog::Kind;

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// What is wrong with an object's name.
pub(crate) fn problem(kind: &Kind, name: &str) -> Option<String> {
    match (kind.resource.group.as_str(), kind.resource.plural.as_str()) {
        ("rbac.authorization.k8s.io", _) => match name {
            "." | ".." => Some(format!("may not be '{name}'")),
            _ if name.contains(['/', '%']) => Some("may not contain '/' or '%'".into()),
            _ => None,
        },
        ("", "namespaces") => label_problem(name),
        ("", "services") => (!is_label_1035(name)).then(|| LABEL_1035.into()),
        _ => subdomain_problem(name),
    }
}

/// A DNS label of RFC 1123.
pub(crate) fn is_label(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = text.as_bytes();
    text.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
}

fn is_label_1035(text: &str) -> bool {
    is_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase())
}

/// What is wrong with a DNS label.
pub(crate) fn label_problem(text: &str) -> Option<String> {
    (!is_label(text)).then(|| if text.len() > 63 { "must be no more than 63 characters".into() } else { LABEL.into() })
}

/// What is wrong with a DNS name.
pub(crate) fn subdomain_problem(text: &str) -> Option<String> {
    if text.len() > 253 {
        return Some("must be no more than 253 characters".into());
    }
    let parts = text.split('.').all(|part| {
        let unlimited =
            part.len() <= 63 || part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        unlimited && is_label(part.get(..part.len().min(63)).unwrap_or_default())
    });
    (!parts).then(|| SUBDOMAIN.into())
}

/// What is wrong with the key of a label, an annotation or a finalizer.
pub(crate) fn label_key_problem(key: &str) -> Option<String> {
    let (prefix, name) = match key.rsplit_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if let Some(prefix) = prefix
        && subdomain_problem(prefix).is_some()
    {
        return Some(format!("prefix part {SUBDOMAIN}"));
    }
    qualified_problem(name)
}

fn qualified_problem(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("name part must be non-empty".into());
    }
    if name.len() > 63 {
        return Some("name part must be no more than 63 characters".into());
    }
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let fits = edge(name.chars().next())
        && edge(name.chars().last())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    (!fits).then(|| QUALIFIED.into())
}

/// What is wrong with the value of a label.
pub(crate) fn label_value_problem(value: &str) -> Option<String> {
    if value.is_empty() { None } else { qualified_problem(value).map(|problem| problem.replace("name part ", "")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("a", true)]
    #[case("a-b.c", true)]
    #[case("A", false)]
    #[case("a..b", false)]
    #[case("-a", false)]
    #[case("", false)]
    fn names_are_dns_names(#[case] name: &str, #[case] fits: bool) {
        assert_eq!(subdomain_problem(name).is_none(), fits);
    }

    #[rstest]
    #[case("app", true)]
    #[case("istio.io/dataplane-mode", true)]
    #[case("a b", false)]
    #[case("/x", false)]
    #[case("x/", false)]
    fn label_keys_have_an_optional_prefix(#[case] key: &str, #[case] fits: bool) {
        assert_eq!(label_key_problem(key).is_none(), fits);
    }
}
