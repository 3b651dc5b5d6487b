//! Who is calling, and what may they do: token requests, token reviews and access reviews.

use std::collections::BTreeMap;

use crate::macros::{object, resource};
use crate::meta::ObjectMeta;
use crate::time::Time;

object! {
    /// Asks for a token of a service account.
    pub struct TokenRequest {
        metadata: ObjectMeta,
        spec: TokenRequestSpec,
        status: TokenRequestStatus,
    }

    /// What the token is for.
    pub struct TokenRequestSpec {
        audiences: Vec<String>,
        expiration_seconds: Option<i64>,
        bound_object_ref: Option<BoundObjectReference>,
    }

    /// The object that the token dies with.
    pub struct BoundObjectReference {
        kind: String,
        api_version: String,
        name: String,
        uid: String,
    }

    /// The token.
    pub struct TokenRequestStatus {
        token: String,
        expiration_timestamp: Option<Time>,
    }

    /// Asks whom a token belongs to.
    pub struct TokenReview {
        metadata: ObjectMeta,
        spec: TokenReviewSpec,
        status: TokenReviewStatus,
    }

    /// The token in question.
    pub struct TokenReviewSpec {
        token: String,
        audiences: Vec<String>,
    }

    /// The answer.
    pub struct TokenReviewStatus {
        authenticated: bool,
        user: UserInfo,
        audiences: Vec<String>,
        error: String,
    }

    /// A caller.
    pub struct UserInfo {
        username: String,
        uid: String,
        groups: Vec<String>,
        extra: BTreeMap<String, Vec<String>>,
    }

    /// Asks whether a caller may do something.
    pub struct SubjectAccessReview {
        metadata: ObjectMeta,
        spec: SubjectAccessReviewSpec,
        status: SubjectAccessReviewStatus,
    }

    /// Who wants to do what.
    pub struct SubjectAccessReviewSpec {
        resource_attributes: Option<ResourceAttributes>,
        user: String,
        groups: Vec<String>,
        extra: BTreeMap<String, Vec<String>>,
        uid: String,
    }

    /// What is to be done to which object.
    pub struct ResourceAttributes {
        namespace: String,
        verb: String,
        group: String,
        version: String,
        resource: String,
        subresource: String,
        name: String,
    }

    /// The answer.
    pub struct SubjectAccessReviewStatus {
        allowed: bool,
        denied: bool,
        reason: String,
        evaluation_error: String,
    }
}

resource!(TokenRequest, "authentication.k8s.io" / "v1", "tokenrequests", namespaced);
resource!(TokenReview, "authentication.k8s.io" / "v1", "tokenreviews", cluster);
resource!(SubjectAccessReview, "authorization.k8s.io" / "v1", "subjectaccessreviews", cluster);
