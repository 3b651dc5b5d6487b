//! What the rules of a route say, read from the form in which routes keep them.

use serde_json::Value;

use crate::macros::object;

object! {
    /// One rule of an HTTPRoute.
    pub struct HttpRule {
        name: String,
        matches: Vec<HttpMatch>,
        filters: Vec<RouteFilter>,
        backend_refs: Vec<RouteBackend>,
        timeouts: Option<RouteTimeouts>,
        retry: Option<RouteRetry>,
    }

    /// One rule of a GRPCRoute.
    pub struct GrpcRule {
        name: String,
        matches: Vec<GrpcMatch>,
        filters: Vec<RouteFilter>,
        backend_refs: Vec<RouteBackend>,
    }

    /// And-ed conditions on a request.
    pub struct HttpMatch {
        path: Option<TypedValue>,
        headers: Vec<NamedValue>,
        query_params: Vec<NamedValue>,
        method: String,
    }

    /// And-ed conditions on a call.
    pub struct GrpcMatch {
        method: Option<GrpcMethod>,
        headers: Vec<NamedValue>,
    }

    /// A service, a method, or both.
    pub struct GrpcMethod {
        #[serde(rename = "type")]
        type_: String,
        service: String,
        method: String,
    }

    /// A text and how it is compared.
    pub struct TypedValue {
        #[serde(rename = "type")]
        type_: String,
        value: String,
    }

    /// A named text and how it is compared.
    pub struct NamedValue {
        #[serde(rename = "type")]
        type_: String,
        name: String,
        value: String,
    }

    /// One filter; the field that its type names says what it does.
    pub struct RouteFilter {
        #[serde(rename = "type")]
        type_: String,
        request_header_modifier: Option<HeaderModifier>,
        response_header_modifier: Option<HeaderModifier>,
        request_mirror: Option<RequestMirror>,
        request_redirect: Option<RequestRedirect>,
        url_rewrite: Option<UrlRewrite>,
        cors: Option<CorsFilter>,
        extension_ref: Option<Value>,
    }

    /// Sets, adds, removes.
    pub struct HeaderModifier {
        set: Vec<NamedValue>,
        add: Vec<NamedValue>,
        remove: Vec<String>,
    }

    /// Copies for another backend.
    pub struct RequestMirror {
        backend_ref: RouteBackend,
        percent: Option<u32>,
        fraction: Option<Fraction>,
    }

    /// A part of a whole, which is 100 unless told otherwise.
    pub struct Fraction {
        numerator: u32,
        denominator: Option<u32>,
    }

    /// Another place for the client to ask.
    pub struct RequestRedirect {
        scheme: String,
        hostname: String,
        path: Option<PathModifier>,
        port: Option<u32>,
        status_code: Option<u32>,
    }

    /// Another host or path for the backend.
    pub struct UrlRewrite {
        hostname: String,
        path: Option<PathModifier>,
    }

    /// Another path.
    pub struct PathModifier {
        #[serde(rename = "type")]
        type_: String,
        replace_full_path: Option<String>,
        replace_prefix_match: Option<String>,
    }

    /// Which other sites may use this one.
    pub struct CorsFilter {
        allow_origins: Vec<String>,
        allow_credentials: bool,
        allow_methods: Vec<String>,
        allow_headers: Vec<String>,
        expose_headers: Vec<String>,
        max_age: Option<i64>,
    }

    /// A place for requests, with its share.
    pub struct RouteBackend {
        group: String,
        kind: String,
        name: String,
        namespace: String,
        port: Option<u32>,
        weight: Option<u32>,
        filters: Vec<RouteFilter>,
    }

    /// Limits of time.
    pub struct RouteTimeouts {
        request: String,
        backend_request: String,
    }

    /// When to try again.
    pub struct RouteRetry {
        codes: Vec<u32>,
        attempts: Option<u32>,
        backoff: String,
    }
}
