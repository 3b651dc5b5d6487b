//! Who is asking: a client certificate, a service-account token or the administrator's token.

mod token;

pub use token::KeyError;
pub(crate) use token::{BoundPod, Signer, token_user};

use serde_json::{Map, Value, json};

/// Members of this group may do anything.
pub(crate) const MASTERS: &str = "system:masters";
/// Everybody who proved who they are.
pub(crate) const AUTHENTICATED: &str = "system:authenticated";
/// Everybody else.
pub(crate) const UNAUTHENTICATED: &str = "system:unauthenticated";

/// A caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) groups: Vec<String>,
    pub(crate) extra: Map<String, Value>,
}

impl User {
    /// A caller that showed nothing.
    pub(crate) fn anonymous() -> Self {
        Self { name: "system:anonymous".into(), groups: vec![UNAUTHENTICATED.into()], ..Self::default() }
    }

    /// A caller that proved a name and groups.
    pub(crate) fn authenticated(name: impl Into<String>, groups: impl IntoIterator<Item = String>) -> Self {
        let mut groups: Vec<String> = groups.into_iter().collect();
        groups.push(AUTHENTICATED.into());
        Self { name: name.into(), groups, ..Self::default() }
    }

    pub(crate) fn is_anonymous(&self) -> bool {
        self.groups.iter().any(|group| group == UNAUTHENTICATED)
    }

    /// The node that this kubelet runs, when it is one.
    pub(crate) fn node_name(&self) -> Option<&str> {
        let member = self.groups.iter().any(|group| group == "system:nodes");
        self.name.strip_prefix("system:node:").filter(|_| member)
    }

    pub(crate) fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }

    /// The `userInfo` of reviews.
    pub(crate) fn json(&self) -> Value {
        let mut info = json!({"username": self.name, "groups": self.groups});
        if !self.uid.is_empty() {
            info["uid"] = self.uid.clone().into();
        }
        if !self.extra.is_empty() {
            info["extra"] = Value::Object(self.extra.clone());
        }
        info
    }
}
