//! Who a workload is: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.

use crate::Str;
use std::{fmt, str::FromStr};

/// A SPIFFE identity of the mesh's one form (ztunnel.md §3.2).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// Trust domain, never empty.
    pub trust_domain: Str,
    /// Kubernetes namespace.
    pub namespace: Str,
    /// Kubernetes service account.
    pub service_account: Str,
}

/// Why a text is not an [`Identity`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not of the form spiffe://<trust domain>/ns/<namespace>/sa/<service account>")]
pub struct IdentityError(pub String);

impl Identity {
    /// An identity from its parts; none may be empty or hold a slash.
    pub fn new(
        trust_domain: impl Into<Str>,
        namespace: impl Into<Str>,
        service_account: impl Into<Str>,
    ) -> Result<Self, IdentityError> {
        let identity = Self {
            trust_domain: trust_domain.into(),
            namespace: namespace.into(),
            service_account: service_account.into(),
        };
        let bad = |part: &str| part.is_empty() || part.contains('/');
        if bad(&identity.trust_domain) || bad(&identity.namespace) || bad(&identity.service_account) {
            return Err(IdentityError(identity.to_string()));
        }
        Ok(identity)
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(uri: &str) -> Result<Self, IdentityError> {
        let parts = || {
            let mut segments = uri.strip_prefix("spiffe://")?.split('/');
            let trust_domain = segments.next()?;
            let namespace = (segments.next()? == "ns").then(|| segments.next())??;
            let account = (segments.next()? == "sa").then(|| segments.next())??;
            segments.next().is_none().then_some((trust_domain, namespace, account))
        };
        let (trust_domain, namespace, account) = parts().ok_or_else(|| IdentityError(uri.to_owned()))?;
        Self::new(trust_domain, namespace, account).map_err(|_| IdentityError(uri.to_owned()))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("spiffe://cluster.local/ns/shop/sa/web", true)]
    #[case("spiffe://cluster.local/ns/shop/sa/", false)]
    #[case("spiffe:///ns/shop/sa/web", false)]
    #[case("spiffe://cluster.local/ns/shop/sa/web/more", false)]
    #[case("spiffe://cluster.local/sa/web/ns/shop", false)]
    #[case("https://cluster.local/ns/shop/sa/web", false)]
    fn only_the_five_segment_form_is_an_identity(#[case] uri: &str, #[case] valid: bool) {
        let parsed = uri.parse::<Identity>();
        assert_eq!(parsed.is_ok(), valid, "{uri}");
        if let Ok(identity) = parsed {
            assert_eq!(identity.to_string(), uri);
        }
    }
}
