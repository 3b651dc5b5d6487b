//! Tokens and rights: asking for a token, asking whose it is, asking what somebody may do.

use api::{
    BoundObjectReference, Pod, Resource, ResourceAttributes, ServiceAccount, SubjectAccessReview,
    SubjectAccessReviewStatus, TokenRequest, TokenRequestStatus, TokenReview, TokenReviewStatus, UserInfo,
};
use http::Method;

use crate::client::{Client, JSON};
use crate::error::Result;
use crate::object::named;
use crate::path;

impl Client {
    /// Asks for a token of a service account; with a pod, one that dies with it.
    pub async fn token_request(
        &self,
        namespace: &str,
        service_account: &str,
        audiences: &[String],
        expiration_seconds: Option<i64>,
        pod: Option<&Pod>,
    ) -> Result<TokenRequestStatus> {
        let mut request = TokenRequest::default();
        request.spec.audiences = audiences.to_vec();
        request.spec.expiration_seconds = expiration_seconds;
        request.spec.bound_object_ref = pod.map(|pod| BoundObjectReference {
            kind: Pod::KIND.to_owned(),
            api_version: Pod::api_version(),
            name: pod.name().to_owned(),
            uid: pod.metadata.uid.clone(),
        });
        let path = path::object::<ServiceAccount>(namespace, service_account, "token");
        let action = named::<ServiceAccount>("get a token of", namespace, service_account);
        let answer: TokenRequest =
            self.request_object(action, Method::POST, path, Some((JSON, request.to_value()))).await?;
        Ok(answer.status)
    }

    /// Asks whose token this is. An answer that is not `authenticated` is no error.
    pub async fn token_review(&self, token: &str, audiences: &[String]) -> Result<TokenReviewStatus> {
        let mut review = TokenReview::default();
        review.spec.token = token.to_owned();
        review.spec.audiences = audiences.to_vec();
        let path = path::collection::<TokenReview>("");
        let answer: TokenReview =
            self.request_object("review a token", Method::POST, path, Some((JSON, review.to_value()))).await?;
        Ok(answer.status)
    }

    /// Asks whether somebody may do something.
    pub async fn subject_access_review(
        &self,
        user: &UserInfo,
        attributes: ResourceAttributes,
    ) -> Result<SubjectAccessReviewStatus> {
        let mut review = SubjectAccessReview::default();
        review.spec.user.clone_from(&user.username);
        review.spec.groups.clone_from(&user.groups);
        review.spec.uid.clone_from(&user.uid);
        review.spec.extra.clone_from(&user.extra);
        review.spec.resource_attributes = Some(attributes);
        let path = path::collection::<SubjectAccessReview>("");
        let action = format!("ask what {} may do", user.username);
        let answer: SubjectAccessReview =
            self.request_object(action, Method::POST, path, Some((JSON, review.to_value()))).await?;
        Ok(answer.status)
    }
}
