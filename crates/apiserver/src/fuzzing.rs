//! Every parser of foreign text and bytes in this crate, as functions that only have to return.

use crate::catalog::Catalog;
use crate::patch::{self, PatchType};
use crate::request::query::Query;
use crate::request::route::Route;
use crate::request::selector::Selector;
use crate::schema::{Schema, builtin, defaults, prune, structural, validate, wire};
use crate::table::Path;
use serde_json::Value;
use std::sync::Arc;

fn pod() -> Arc<Schema> {
    builtin::types().get("core.v1.Pod").cloned().unwrap_or_default()
}

/// A request line, its query, and the selectors in it.
pub fn request(text: &str) {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let query = Query::parse(query);
    Route::parse(&http::Method::GET, path, &query);
    if let Some(kind) = Catalog::built_in().preferred("", "pods") {
        Selector::parse(query.get("labelSelector"), query.get("fieldSelector"), &kind).ok();
        Selector::parse(text, text, &kind).ok();
    }
}

/// `[document, patch]` as JSON, by every patch format.
pub fn patches(bytes: &[u8]) {
    let Ok(Value::Array(parts)) = serde_json::from_slice(bytes) else { return };
    let [document, change, ..] = &parts[..] else { return };
    for form in [PatchType::Json, PatchType::Merge, PatchType::Strategic] {
        patch::apply(form, document, change, &pod()).ok();
    }
}

/// `[schema, value]` as JSON: the schema of a custom resource, and a value that is kept to it.
pub fn custom_resource(bytes: &[u8]) {
    let Ok(Value::Array(parts)) = serde_json::from_slice(bytes) else { return };
    let [schema, value, ..] = &parts[..] else { return };
    if let Ok(schema) = structural::parse(schema) {
        let mut value = value.clone();
        prune::object(&mut value, &schema);
        defaults::fill(&mut value, &schema);
        validate::check(&value, &schema);
    }
}

/// A pod in the binary encoding.
pub fn binary_object(bytes: &[u8]) {
    wire::decode(bytes, |_| Some(pod())).ok();
}

/// The path of a printer column.
pub fn column_path(text: &str) {
    Path::parse(text).ok();
}
