//! What can be done to resources: one request in, one reply out. Nothing here waits or touches a socket.

mod delete;
mod fields;
mod patch;
mod read;
mod write;

pub(crate) use delete::{DeleteOptions, delete, delete_collection, remove};
pub(crate) use fields::{Strictness, admit_fields};
pub(crate) use patch::patch;
pub(crate) use read::{get, list, present, view_one, watch};
pub(crate) use write::{Context, create, create_object, update, update_object};

use crate::authn::User;
use crate::catalog::Kind;
use crate::request::negotiate::Form;
use crate::request::query::Query;
use crate::request::route::Target;
use crate::schema::{Schema, builtin, wire};
use crate::status::{Result, Status};
use crate::store::Key;
use crate::watch::Watcher;
use bytes::Bytes;
use serde_json::Value;
use std::sync::Arc;

/// A request about a resource.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) target: Target,
    pub(crate) kind: Kind,
    pub(crate) query: Query,
    pub(crate) form: Form,
    pub(crate) caller: User,
    pub(crate) content_type: String,
    pub(crate) user_agent: String,
    pub(crate) body: Bytes,
}

impl Request {
    /// Where the object of this request lives.
    pub(crate) fn key(&self) -> Key {
        self.key_of(&self.target.name)
    }

    /// Where an object of this request's kind and namespace lives.
    pub(crate) fn key_of(&self, name: &str) -> Key {
        Key::new(&self.kind.resource.storage, self.namespace(), name)
    }

    /// The namespace, empty for cluster-wide kinds.
    pub(crate) fn namespace(&self) -> &str {
        if self.kind.resource.namespaced { &self.target.namespace } else { "" }
    }

    pub(crate) fn dry_run(&self) -> bool {
        self.query.get("dryRun") == "All"
    }

    /// Who is named as the owner of what this request changes.
    pub(crate) fn manager(&self) -> String {
        match self.query.get("fieldManager") {
            "" => match self.user_agent.split('/').next() {
                None | Some("") => "unknown".into(),
                Some(name) => name.chars().take(128).collect(),
            },
            name => name.to_owned(),
        }
    }

    /// The schema of what a binary body says it is.
    fn encoded_kind(&self, name: &str) -> Option<Arc<Schema>> {
        let block = match name {
            "DeleteOptions" => "meta.v1.DeleteOptions",
            "Scale" => "autoscaling.v1.Scale",
            "TokenRequest" => "authentication.v1.TokenRequest",
            "Eviction" => "policy.v1.Eviction",
            "Binding" => "core.v1.Binding",
            _ => {
                return (self.kind.resource.kind == name && !self.kind.is_custom())
                    .then(|| Arc::clone(self.kind.schema()));
            }
        };
        builtin::types().get(block).cloned()
    }

    pub(crate) fn not_found(&self) -> Status {
        Status::not_found(&self.kind.resource.group, &self.kind.resource.plural, &self.target.name)
    }

    /// The body as JSON, whichever encoding it came in.
    pub(crate) fn json(&self) -> Result<Value> {
        if self.content_type.starts_with(wire::MEDIA) {
            let decoded = wire::decode(&self.body, |kind| self.encoded_kind(kind));
            return decoded.map_err(|error| Status::bad_request(error.to_string()));
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            Status::bad_request(format!("the body of the request was in an unknown format - not JSON: {error}"))
        })
    }
}

/// What is sent back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) body: Body,
    pub(crate) warnings: Vec<String>,
}

/// The body of a reply.
#[derive(Debug)]
pub(crate) enum Body {
    Json(Value),
    /// JSON under a media type of its own.
    Typed(&'static str, Value),
    Text(String),
    Raw(&'static str, Vec<u8>),
    Watch(Box<Watcher>),
}

impl Reply {
    pub(crate) fn ok(value: Value) -> Self {
        Self::with(200, value)
    }

    pub(crate) fn with(code: u16, value: Value) -> Self {
        Self { code, body: Body::Json(value), warnings: Vec::new() }
    }

    pub(crate) fn text(code: u16, text: impl Into<String>) -> Self {
        Self { code, body: Body::Text(text.into()), warnings: Vec::new() }
    }
}
