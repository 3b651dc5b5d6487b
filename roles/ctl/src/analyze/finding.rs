//! Something that is worth telling about an object, and the forms in which it is told.

use std::fmt;

use api::object_name;
use serde_json::{Value, json};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Good to know.
    Info,
    /// Probably not what was meant.
    Warning,
    /// Does not work.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "Info",
            Self::Warning => "Warning",
            Self::Error => "Error",
        })
    }
}

impl std::str::FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "info" => Ok(Self::Info),
            "warn" | "warning" => Ok(Self::Warning),
            "error" => Ok(Self::Error),
            _ => Err(format!("{text:?} is none of Info, Warning and Error")),
        }
    }
}

/// What can be found. Codes are upstream's where it knows the same; ours begin with AMB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) code: &'static str,
    pub(crate) name: &'static str,
    pub(crate) level: Level,
}

const fn kind(code: &'static str, name: &'static str, level: Level) -> Kind {
    Kind { code, name, level }
}

pub(crate) const MISSING_REFERENCE: Kind = kind("IST0101", "ReferencedResourceNotFound", Level::Error);
pub(crate) const NOT_ENROLLED: Kind = kind("IST0102", "NamespaceNotInjected", Level::Info);
pub(crate) const INVALID: Kind = kind("IST0106", "SchemaValidationError", Level::Error);
pub(crate) const PORT_NAME: Kind = kind("IST0118", "PortNameIsNotUnderNamingConvention", Level::Info);
pub(crate) const NO_WORKLOADS: Kind = kind("IST0127", "NoMatchingWorkloadsFound", Level::Warning);
pub(crate) const SELECTS_WAYPOINT: Kind = kind("IST0166", "IneffectiveSelector", Level::Warning);
pub(crate) const INEFFECTIVE: Kind = kind("IST0167", "IneffectivePolicy", Level::Warning);
pub(crate) const NEGATIVE_CONDITION: Kind = kind("IST0171", "NegativeConditionStatus", Level::Warning);
pub(crate) const NETWORK_POLICY: Kind = kind("AMB0001", "NetworkPolicyBlocksTunnel", Level::Warning);

/// One thing found about one object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finding {
    pub(crate) kind: Kind,
    /// `AuthorizationPolicy shop/deny`.
    pub(crate) object: String,
    /// Namespace of the object; a namespace's own name.
    pub(crate) namespace: String,
    /// The file that it was read from, if any.
    pub(crate) file: Option<String>,
    pub(crate) message: String,
}

impl Finding {
    pub(crate) fn new(kind: Kind, object: &super::Object, message: impl Into<String>) -> Self {
        let value = &object.value;
        let what = value["kind"].as_str().unwrap_or("object");
        let namespace = value["metadata"]["namespace"].as_str().or_else(|| value["metadata"]["name"].as_str());
        Self {
            kind,
            object: format!("{what} {}", object_name(value)),
            namespace: namespace.unwrap_or_default().to_owned(),
            file: object.file.clone(),
            message: message.into(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        let mut value = json!({
            "code": self.kind.code, "level": self.kind.level.to_string(), "message": self.message, "origin": self.object,
        });
        if let Some(file) = &self.file {
            value["reference"] = file.as_str().into();
        }
        value
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}] ({}", self.kind.level, self.kind.code, self.object)?;
        if let Some(file) = &self.file {
            write!(f, " {file}")?;
        }
        write!(f, ") {}", self.message)
    }
}
