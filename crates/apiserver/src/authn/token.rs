//! Service-account tokens: JWTs signed with ES256, bound to objects that must still exist.

use super::User;
use crate::object::Object;
use crate::store::{Key, Store};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// Longer tokens are refused unread.
const LONGEST: usize = 16 * 1024;
/// What a clock may be behind by.
const SKEW_SECONDS: i64 = 10;

/// The pod a token is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reference {
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// The pod a token is bound to, with the node it runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BoundPod {
    pub(crate) pod: Reference,
    pub(crate) node: Option<Reference>,
}

impl BoundPod {
    pub(crate) fn new(pod: (&str, &str), node: Option<(&str, &str)>) -> Self {
        let reference = |(name, uid): (&str, &str)| Reference { name: name.to_owned(), uid: uid.to_owned() };
        Self { pod: reference(pod), node: node.map(reference) }
    }
}

/// Kubernetes' own part of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Private {
    namespace: String,
    serviceaccount: Reference,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<Reference>,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) aud: Vec<String>,
    pub(crate) exp: i64,
    pub(crate) iat: i64,
    pub(crate) nbf: i64,
    pub(crate) iss: String,
    pub(crate) jti: String,
    pub(crate) sub: String,
    #[serde(rename = "kubernetes.io")]
    private: Private,
}

/// Why a token is not believed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum TokenError {
    #[error("the token is not a JWT signed with ES256")]
    Form,
    #[error("the token's signature does not match this server's key")]
    Signature,
    #[error("the token's issuer is not this server")]
    Issuer,
    #[error("token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    Early,
    #[error("token audiences {0:?} is invalid for the target audiences {1:?}")]
    Audience(Vec<String>, Vec<String>),
    #[error("the {0} that the token is bound to no longer exists")]
    Unbound(&'static str),
}

/// The signing key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It is not what was expected.
    #[error("reading the key for service-account tokens: {0}; it must be a P-256 private key in PEM form")]
    Form(String),
}

/// Signs tokens and checks them.
pub(crate) struct Signer {
    key: EcdsaKeyPair,
    id: String,
    issuer: String,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Signer").field("id", &self.id).field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl Signer {
    /// Uses the key in this PEM text, or a new one.
    pub(crate) fn new(pem: Option<&str>, issuer: &str) -> Result<Self, KeyError> {
        let rejected = |error: &dyn std::fmt::Display| KeyError::Form(error.to_string());
        let key = match pem {
            None => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|error| rejected(&error))?,
            Some(pem) => {
                use rustls_pki_types::pem::PemObject as _;
                let der = rustls_pki_types::PrivateKeyDer::from_pem_slice(pem.as_bytes())
                    .map_err(|error| rejected(&error))?;
                EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_der())
                    .or_else(|_| EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_der()))
                    .map_err(|error| rejected(&error))?
            }
        };
        let id = BASE64.encode(Sha256::digest(key.public_key().as_ref()));
        Ok(Self { key, id, issuer: issuer.to_owned() })
    }

    /// A new key as PEM text.
    pub(crate) fn new_key() -> Result<String, KeyError> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .and_then(|key| key.to_pkcs8v1())
            .map_err(|error| KeyError::Form(error.to_string()))?;
        let text = base64::engine::general_purpose::STANDARD.encode(key.as_ref());
        let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
        Ok(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n")))
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The public key, for those who check tokens themselves.
    pub(crate) fn jwks(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let (x, y) = (point.get(1..33).unwrap_or_default(), point.get(33..65).unwrap_or_default());
        json!({"keys": [{"use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256",
            "x": BASE64.encode(x), "y": BASE64.encode(y)}]})
    }

    /// A token for a service account, with the claims it carries.
    pub(crate) fn issue(
        &self,
        account: (&str, &str, &str),
        bound: Option<&BoundPod>,
        audiences: Vec<String>,
        now: i64,
        seconds: i64,
    ) -> String {
        let (namespace, name, uid) = account;
        let claims = Claims {
            aud: audiences,
            exp: now + seconds,
            iat: now,
            nbf: now,
            iss: self.issuer.clone(),
            jti: uuid::Uuid::new_v4().to_string(),
            sub: format!("system:serviceaccount:{namespace}:{name}"),
            private: Private {
                namespace: namespace.to_owned(),
                serviceaccount: Reference { name: name.to_owned(), uid: uid.to_owned() },
                pod: bound.map(|bound| bound.pod.clone()),
                node: bound.and_then(|bound| bound.node.clone()),
            },
        };
        let header = json!({"alg": "ES256", "kid": self.id, "typ": "JWT"});
        let body = serde_json::to_string(&claims).unwrap_or_default();
        let signed = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(body));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes());
        // Signing with a key that was loaded fails only when the machine has no randomness: such a token is simply invalid.
        signature.map(|signature| format!("{signed}.{}", BASE64.encode(signature.as_ref()))).unwrap_or_default()
    }

    /// What a token says, when it was signed here, is of this time, and is meant for one of these audiences.
    pub(crate) fn verify(&self, token: &str, audiences: &[String], now: i64) -> Result<Claims, TokenError> {
        if token.len() > LONGEST {
            return Err(TokenError::Form);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Form)?;
        let (header, body) = signed.split_once('.').ok_or(TokenError::Form)?;
        let decode = |text: &str| BASE64.decode(text).map_err(|_| TokenError::Form);
        let header: Value = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Form)?;
        if header.text("/alg") != "ES256" {
            return Err(TokenError::Form);
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref())
            .verify(signed.as_bytes(), &decode(signature)?)
            .map_err(|_| TokenError::Signature)?;
        let claims: Claims = serde_json::from_slice(&decode(body)?).map_err(|_| TokenError::Form)?;
        if claims.iss != self.issuer {
            return Err(TokenError::Issuer);
        }
        if claims.exp + SKEW_SECONDS < now {
            return Err(TokenError::Expired);
        }
        if claims.nbf - SKEW_SECONDS > now {
            return Err(TokenError::Early);
        }
        if !claims.aud.iter().any(|audience| audiences.contains(audience)) {
            return Err(TokenError::Audience(claims.aud, audiences.to_vec()));
        }
        Ok(claims)
    }
}

/// The user that a token stands for, as long as the objects it is bound to exist.
pub(crate) fn token_user(claims: &Claims, store: &Store) -> Result<User, TokenError> {
    let private = &claims.private;
    let exists = |kind: &str, namespace: &str, reference: &Reference| {
        store
            .get(&Key::new(&Arc::from(kind), namespace, &reference.name))
            .is_some_and(|object| object.uid() == reference.uid)
    };
    if !exists("/serviceaccounts", &private.namespace, &private.serviceaccount) {
        return Err(TokenError::Unbound("service account"));
    }
    if private.pod.as_ref().is_some_and(|pod| !exists("/pods", &private.namespace, pod)) {
        return Err(TokenError::Unbound("pod"));
    }
    let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{}", private.namespace)];
    let mut user = User::authenticated(&claims.sub, groups);
    user.uid = private.serviceaccount.uid.clone();
    let mut extra = |name: &str, value: String| {
        user.extra.insert(format!("authentication.kubernetes.io/{name}"), json!([value]));
    };
    extra("credential-id", format!("JTI={}", claims.jti));
    for (what, reference) in [("pod", &private.pod), ("node", &private.node)] {
        if let Some(reference) = reference {
            extra(&format!("{what}-name"), reference.name.clone());
            extra(&format!("{what}-uid"), reference.uid.clone());
        }
    }
    Ok(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audiences() -> Vec<String> {
        vec!["istio-ca".to_owned()]
    }

    #[test]
    fn a_token_is_believed_only_as_it_was_issued() {
        let signer = Signer::new(None, "https://issuer").unwrap();
        let pod = BoundPod::new(("p", "pu"), Some(("n1", "nu")));
        let token = signer.issue(("ns", "sa", "u"), Some(&pod), audiences(), 1000, 600);
        let claims = signer.verify(&token, &audiences(), 1100).unwrap();
        assert_eq!(claims.sub, "system:serviceaccount:ns:sa");
        assert_eq!(claims.private.node.as_ref().unwrap().name, "n1");
        assert_eq!(signer.verify(&token, &audiences(), 2000), Err(TokenError::Expired));
        assert_eq!(signer.verify(&token, &audiences(), 100), Err(TokenError::Early));
        assert!(matches!(signer.verify(&token, &["x".into()], 1100), Err(TokenError::Audience(..))));
        let other = Signer::new(None, "https://issuer").unwrap();
        assert_eq!(other.verify(&token, &audiences(), 1100), Err(TokenError::Signature));
        assert_eq!(signer.verify("a.b", &audiences(), 1100), Err(TokenError::Form));
    }

    #[test]
    fn a_token_ends_with_its_service_account() {
        let (store, _inbox) = Store::open(None).unwrap();
        let signer = Signer::new(None, "https://issuer").unwrap();
        let token = signer.issue(("ns", "sa", "u"), None, audiences(), 1000, 600);
        let claims = signer.verify(&token, &audiences(), 1100).unwrap();
        assert_eq!(token_user(&claims, &store), Err(TokenError::Unbound("service account")));
        let kind = Arc::from("/serviceaccounts");
        let account = json!({"metadata": {"namespace": "ns", "name": "sa", "uid": "u"}});
        store.write(false, |transaction| Ok(transaction.put(Key::new(&kind, "ns", "sa"), account))).unwrap();
        let user = token_user(&claims, &store).unwrap();
        assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"]);
    }
}
