//! From what a client sent to a complete object of its kind: forms checked, undeclared fields reported, defaults filled in.

use crate::admission;
use crate::catalog::Kind;
use crate::object::Object;
use crate::request::query::Query;
use crate::schema::{builtin, defaults, prune, validate};
use crate::status::{Result, Status};
use serde_json::Value;

/// What happens about fields that a kind does not declare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strictness {
    Ignore,
    Warn,
    Strict,
}

impl Strictness {
    /// What a request asks for; a warning when it says nothing.
    pub(crate) fn of(query: &Query) -> Result<Self> {
        match query.get("fieldValidation") {
            "" | "Warn" => Ok(Self::Warn),
            "Ignore" => Ok(Self::Ignore),
            "Strict" => Ok(Self::Strict),
            other => Err(Status::bad_request(format!(
                "fieldValidation: Unsupported value: \"{other}\": supported values: \"Ignore\", \"Strict\", \"Warn\""
            ))),
        }
    }
}

/// Makes a value a complete object of its kind, or says what is in the way. Undeclared fields are dropped.
pub(crate) fn admit_fields(
    kind: &Kind,
    value: &mut Value,
    strictness: Strictness,
    warnings: &mut Vec<String>,
) -> Result<()> {
    check_identity(kind, value)?;
    check_forms(kind, value)?;
    let dropped = prune::object(value, kind.schema());
    if !dropped.is_empty() {
        let named: Vec<String> = dropped.iter().map(|path| format!("unknown field \"{path}\"")).collect();
        match strictness {
            Strictness::Ignore => {}
            Strictness::Warn => warnings.extend(named),
            Strictness::Strict => {
                return Err(cannot_be_handled(kind, &format!("strict decoding error: {}", named.join(", "))));
            }
        }
    }
    if !kind.is_custom() {
        prune::normalise(value, kind.schema());
    } else if let (Some(metadata), Some(schema)) =
        (value.get_mut("metadata"), builtin::types().get("meta.v1.ObjectMeta"))
    {
        prune::normalise(metadata, schema);
    }
    defaults::fill(value, kind.schema());
    admission::complete(kind, value);
    Ok(())
}

fn cannot_be_handled(kind: &Kind, why: &str) -> Status {
    let (version, name) = (&kind.version().name, &kind.resource.kind);
    Status::bad_request(format!("{name} in version \"{version}\" cannot be handled as a {name}: {why}"))
}

/// The object must say that it is of this kind; what it leaves out is filled in.
fn check_identity(kind: &Kind, value: &mut Value) -> Result<()> {
    let Some(fields) = value.as_object_mut() else {
        return Err(cannot_be_handled(kind, "json: cannot unmarshal the body into an object"));
    };
    let api_version = kind.api_version();
    let mismatch = |what: &str, found: &str, wanted: &str| {
        Status::bad_request(format!("the {what} in the data ({found}) does not match the expected {what} ({wanted})"))
    };
    match fields.get("apiVersion").and_then(Value::as_str) {
        None | Some("") => {}
        Some(found) if found == api_version => {}
        Some(found) => return Err(mismatch("API version", found, &api_version)),
    }
    match fields.get("kind").and_then(Value::as_str) {
        None | Some("") => {}
        Some(found) if found == kind.resource.kind => {}
        Some(found) => return Err(mismatch("kind", found, &kind.resource.kind)),
    }
    fields.insert("apiVersion".into(), api_version.into());
    fields.insert("kind".into(), kind.resource.kind.clone().into());
    Ok(())
}

/// A decoder into typed fields would refuse these: all of a built-in object, the metadata of a custom one.
fn check_forms(kind: &Kind, value: &Value) -> Result<()> {
    let wrong = if kind.is_custom() {
        let metadata = builtin::types().get("meta.v1.ObjectMeta").zip(value.get("metadata"));
        metadata.and_then(|(schema, metadata)| validate::types(metadata, schema, "ObjectMeta"))
    } else {
        validate::types(value, kind.schema(), &kind.resource.kind)
    };
    match wrong {
        Some(problem) => Err(cannot_be_handled(kind, &problem)),
        None => Ok(()),
    }
}

/// Rules of the object itself, whoever sent it.
pub(super) fn check_object(kind: &Kind, value: &Value, old: Option<&Value>) -> Result<()> {
    let mut causes = admission::validate_metadata(kind, value);
    if kind.is_custom() {
        causes.extend(validate::check(value, kind.schema()));
    }
    if causes.is_empty() {
        causes.extend(admission::validate(kind, value, old));
    }
    if causes.is_empty() {
        return Ok(());
    }
    let name = match value.name() {
        "" => value.text("/metadata/generateName"),
        name => name,
    };
    Err(Status::invalid(&kind.resource.group, &kind.resource.kind, name, &causes))
}
