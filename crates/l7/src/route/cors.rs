//! Cross-origin requests: the answer to a preflight, and what is said on a response.

use super::filter::Cors;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

impl Cors {
    /// The headers that answer a preflight; `None` when the request is not one. One from an origin that is not allowed is
    /// answered with nothing, which browsers take as a no.
    pub fn preflight(&self, method: &str, headers: &HeaderMap) -> Option<HeaderMap> {
        let origin = headers.get(header::ORIGIN)?;
        let wanted = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
        if method != Method::OPTIONS.as_str() {
            return None;
        }
        let mut answer = HeaderMap::new();
        if !self.allows(origin) {
            return Some(answer);
        }
        self.origin(origin, &mut answer);
        let asked_headers = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        list(&self.methods, Some(wanted), header::ACCESS_CONTROL_ALLOW_METHODS, &mut answer);
        list(&self.headers, asked_headers, header::ACCESS_CONTROL_ALLOW_HEADERS, &mut answer);
        list(&self.expose, None, header::ACCESS_CONTROL_EXPOSE_HEADERS, &mut answer);
        if let Some(age) = self.max_age {
            answer.insert(header::ACCESS_CONTROL_MAX_AGE, age.as_secs().into());
        }
        Some(answer)
    }

    /// Says on a response whether the origin may read it; what the backend says of that is replaced.
    pub fn respond(&self, origin: &HeaderValue, response: &mut HeaderMap) {
        response.remove(header::ACCESS_CONTROL_ALLOW_ORIGIN);
        response.remove(header::ACCESS_CONTROL_ALLOW_CREDENTIALS);
        if self.allows(origin) {
            self.origin(origin, response);
            list(&self.expose, None, header::ACCESS_CONTROL_EXPOSE_HEADERS, response);
        }
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        origin.to_str().is_ok_and(|origin| self.origins.iter().any(|allowed| allowed.matches(origin)))
    }

    fn origin(&self, origin: &HeaderValue, answer: &mut HeaderMap) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.credentials {
            answer.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}

/// A list as written; `*` stands for what was asked, since a literal one means nothing with credentials.
fn list(items: &[model::Str], asked: Option<&HeaderValue>, name: HeaderName, answer: &mut HeaderMap) {
    let value = match items {
        [] => None,
        items if items.iter().any(|item| &**item == "*") => asked.cloned().or(Some(HeaderValue::from_static("*"))),
        items => HeaderValue::try_from(items.join(", ")).ok(),
    };
    if let Some(value) = value {
        answer.insert(name, value);
    }
}
