//! The patch formats: pure functions from a document and a patch to another document.

mod json;
mod merge;
mod strategic;

use crate::catalog::Kind;
use crate::schema::Schema;
use crate::status::{Result, Status};
use serde_json::Value;

/// A patch format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchType {
    Json,
    Merge,
    Strategic,
    /// Server-side apply; worked out with the ownership of fields, not here.
    Apply,
}

impl PatchType {
    /// The format that a media type names.
    pub(crate) fn of(content_type: &str, kind: &Kind) -> Result<Self> {
        let media = content_type.split(';').next().unwrap_or_default().trim();
        match media {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" if !kind.is_custom() => Ok(Self::Strategic),
            "application/apply-patch+yaml" | "application/apply-patch+json" => Ok(Self::Apply),
            _ => Err(Status::unsupported_media(format!(
                "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, {}application/apply-patch+yaml",
                if kind.is_custom() { "" } else { "application/strategic-merge-patch+json, " }
            ))),
        }
    }
}

/// Applies a patch to a document.
pub(crate) fn apply(form: PatchType, document: &Value, patch: &Value, schema: &Schema) -> Result<Value> {
    match form {
        PatchType::Json => json::apply(document, patch),
        PatchType::Merge => {
            if !patch.is_object() {
                return Err(Status::bad_request("a merge patch must be an object"));
            }
            let mut value = document.clone();
            merge::apply(&mut value, patch);
            Ok(value)
        }
        PatchType::Strategic => strategic::apply(document, patch, schema),
        PatchType::Apply => Err(Status::internal("an apply patch has no meaning without managed fields")),
    }
}
