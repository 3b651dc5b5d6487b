//! What went wrong between us and an API server: what was being done, to which object, why not, and what to do next.

use api::ParseError;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something could not be done with an API server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server answered no.
    #[error("cannot {action}: {message}{}", hint(*.code))]
    Refused {
        /// What was being done, to which object.
        action: String,
        /// HTTP status.
        code: u16,
        /// Kubernetes' word for it: `NotFound`, `Conflict`, `Forbidden`.
        reason: String,
        /// The server's own words.
        message: String,
    },
    /// The server did not answer, or not in a way that can be understood.
    #[error("cannot {action}: {}; is the API server running, and is its address right?", chain(.source))]
    Unreachable {
        /// What was being done, to which object.
        action: String,
        /// What the connection said.
        source: Box<kube::Error>,
    },
    /// There is no usable configuration.
    #[error("cannot find out how to reach an API server: {message}; set KUBECONFIG or give a kubeconfig file")]
    Configuration {
        /// What is missing.
        message: String,
    },
    /// An object does not have its kind's shape.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A manifest cannot be applied as it is.
    #[error("cannot apply {object}: {message}")]
    Manifest {
        /// Kind and name.
        object: String,
        /// What is wrong with it.
        message: String,
    },
    /// A stream to a pod broke.
    #[error("cannot {action}: {message}")]
    Stream {
        /// What was being done, to which pod.
        action: String,
        /// What the stream said.
        message: String,
    },
}

impl Error {
    /// An error of the kube client while doing `action`.
    pub(crate) fn from_kube(action: impl Into<String>, source: kube::Error) -> Self {
        let action = action.into();
        match source {
            kube::Error::Api(status) => Self::Refused {
                action,
                code: status.code,
                reason: status.reason.clone(),
                message: if status.message.is_empty() { status.reason } else { status.message },
            },
            source => Self::Unreachable { action, source: Box::new(source) },
        }
    }

    fn is(&self, wanted_code: u16, wanted_reason: &str) -> bool {
        matches!(self, Self::Refused { code, reason, .. } if *code == wanted_code && (reason.is_empty() || reason == wanted_reason))
    }

    /// Whether the object (or its kind) does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code: 404, .. })
    }

    /// Whether an object of this name exists already.
    pub fn is_already_exists(&self) -> bool {
        self.is(409, "AlreadyExists")
    }

    /// Whether somebody else changed the object in between.
    pub fn is_conflict(&self) -> bool {
        self.is(409, "Conflict")
    }

    /// Whether the caller lacks the right.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Refused { code: 401 | 403, .. })
    }

    /// Whether the server found the object itself wrong, so that trying again is of no use.
    pub fn is_invalid(&self) -> bool {
        matches!(self, Self::Refused { code: 400 | 422, .. } | Self::Parse(_) | Self::Manifest { .. })
    }

    /// Whether nothing is known about the request's fate.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// What to do about a refusal, where that is not in the server's words already.
fn hint(code: u16) -> &'static str {
    match code {
        401 => "; check the token or client certificate that is used",
        403 => "; grant the right with a role binding",
        409 => "; read the object again and repeat",
        429 | 503 => "; the server is busy, try again",
        _ => "",
    }
}

/// An error and everything that caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, reason: &str) -> Error {
        let status = kube::core::Status::failure("pods \"a\" is there", reason).with_code(code);
        Error::from_kube("create Pod b/a", kube::Error::Api(status.boxed()))
    }

    #[test]
    fn a_refusal_says_what_was_being_done_and_what_next() {
        assert_eq!(
            refused(403, "Forbidden").to_string(),
            "cannot create Pod b/a: pods \"a\" is there; grant the right with a role binding"
        );
    }

    #[test]
    fn both_kinds_of_409_are_told_apart() {
        assert!(refused(409, "AlreadyExists").is_already_exists() && !refused(409, "AlreadyExists").is_conflict());
        assert!(refused(409, "Conflict").is_conflict() && !refused(409, "Conflict").is_already_exists());
        assert!(refused(404, "NotFound").is_not_found() && refused(422, "Invalid").is_invalid());
    }
}
