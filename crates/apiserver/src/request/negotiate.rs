//! Which form of the answer a client wants.

/// A form an object or list can be sent in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    #[default]
    Plain,
    /// `meta.k8s.io/v1` Table: what kubectl prints.
    Table,
    /// Only the metadata of each object.
    Metadata,
    /// Discovery of everything in one document.
    Discovery,
}

/// The first form in an `Accept` header that is served here; none when nothing in it is.
pub(crate) fn form(accept: &str) -> Option<Form> {
    if accept.trim().is_empty() {
        return Some(Form::Plain);
    }
    accept.split(',').find_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next()?;
        if !matches!(media, "application/json" | "application/*" | "*/*") {
            return None;
        }
        let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
        let get = |name: &str| parameters.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| *value);
        match (get("as"), get("v"), get("g")) {
            ("", ..) => Some(Form::Plain),
            ("Table", "v1", "meta.k8s.io") => Some(Form::Table),
            ("PartialObjectMetadata" | "PartialObjectMetadataList", "v1", "meta.k8s.io") => Some(Form::Metadata),
            ("APIGroupDiscoveryList", "v2", "apidiscovery.k8s.io") => Some(Form::Discovery),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("", Some(Form::Plain))]
    #[case("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Some(Form::Table))]
    #[case("application/vnd.kubernetes.protobuf, application/json", Some(Form::Plain))]
    #[case("application/vnd.kubernetes.protobuf", None)]
    #[case("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Some(Form::Metadata))]
    #[case(
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
        Some(Form::Discovery)
    )]
    fn the_first_known_form_wins(#[case] accept: &str, #[case] expected: Option<Form>) {
        assert_eq!(form(accept), expected);
    }
}
