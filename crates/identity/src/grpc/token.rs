//! The bearer token that says who we are to the control plane.

use http::HeaderValue;
use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// Where the token comes from (AUTH_TOKEN).
#[derive(Clone, PartialEq, Eq, Default)]
pub enum TokenSource {
    /// No token is sent.
    #[default]
    None,
    /// A file, read again for each request: the kubelet renews it.
    File(PathBuf),
    /// The token itself.
    Literal(String),
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Literal(_) => f.write_str("Literal"),
        }
    }
}

/// Why there is no token to send.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("reading the token from {path}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// It is empty.
    #[error("the token is empty")]
    Empty,
    /// It has characters that a header cannot carry.
    #[error("the token has characters that a header cannot carry")]
    Illegal,
}

impl TokenSource {
    /// Reads a setting: a path that exists, or the token; unset, the usual file if it is there.
    pub fn interpret(value: Option<&str>, default: &Path) -> Self {
        match value {
            Some(value) if Path::new(value).exists() => Self::File(value.into()),
            Some(value) => Self::Literal(value.to_owned()),
            None if default.exists() => Self::File(default.to_owned()),
            None => Self::None,
        }
    }

    /// The `authorization` header as it is now.
    pub(super) async fn header(&self) -> Result<Option<HeaderValue>, TokenError> {
        match self {
            Self::None => Ok(None),
            Self::Literal(token) => bearer(token).map(Some),
            Self::File(path) => match tokio::fs::read_to_string(path).await {
                Ok(token) => bearer(&token).map(Some),
                Err(reason) => Err(TokenError::Read { path: path.clone(), reason }),
            },
        }
    }
}

fn bearer(token: &str) -> Result<HeaderValue, TokenError> {
    let token = token.trim();
    if token.is_empty() {
        return Err(TokenError::Empty);
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| TokenError::Illegal)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_read_again_and_an_empty_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("istio-token");
        std::fs::write(&file, "one\n").unwrap();
        let source = TokenSource::interpret(None, &file);
        assert_eq!(source.header().await.unwrap().unwrap(), "Bearer one");
        std::fs::write(&file, "two").unwrap();
        assert_eq!(source.header().await.unwrap().unwrap(), "Bearer two");
        std::fs::write(&file, " \n").unwrap();
        assert!(matches!(source.header().await, Err(TokenError::Empty)));
        std::fs::remove_file(&file).unwrap();
        assert!(source.header().await.unwrap_err().to_string().contains("istio-token"));
        assert_eq!(TokenSource::interpret(None, &file), TokenSource::None);
    }

    #[tokio::test]
    async fn a_literal_is_sent_and_never_printed() {
        let source = TokenSource::interpret(Some("secret"), Path::new("/nowhere"));
        let header = source.header().await.unwrap().unwrap();
        assert_eq!(header, "Bearer secret");
        assert!(!format!("{source:?}{header:?}").contains("secret"));
    }
}
