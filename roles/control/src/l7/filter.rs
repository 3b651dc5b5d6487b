//! Filters, matches and times of Gateway API as the wire says them.

use super::route::Refs;
use api::gateway::{
    CorsFilter, GrpcMatch, HeaderModifier, HttpMatch, NamedValue, PathModifier, RequestMirror, RequestRedirect,
    RouteFilter, TypedValue, UrlRewrite,
};
use proto::l7::{self as wire, filter::Kind, path_match, path_rewrite, string_match::How};

/// Filters; the error names the one that cannot be carried out.
pub(super) fn filters(list: &[RouteFilter], refs: &mut Refs<'_>) -> Result<Vec<wire::Filter>, String> {
    list.iter().map(|filter| Ok(wire::Filter { kind: Some(kind(filter, refs)?) })).collect()
}

fn kind(filter: &RouteFilter, refs: &mut Refs<'_>) -> Result<Kind, String> {
    let unknown = || format!("filter {} is not supported", filter.type_);
    Ok(match filter.type_.as_str() {
        "RequestHeaderModifier" => {
            Kind::RequestHeaders(headers(filter.request_header_modifier.as_ref().ok_or_else(unknown)?))
        }
        "ResponseHeaderModifier" => {
            Kind::ResponseHeaders(headers(filter.response_header_modifier.as_ref().ok_or_else(unknown)?))
        }
        "RequestRedirect" => Kind::Redirect(redirect(filter.request_redirect.as_ref().ok_or_else(unknown)?)),
        "URLRewrite" => Kind::Rewrite(rewrite(filter.url_rewrite.as_ref().ok_or_else(unknown)?)),
        "RequestMirror" => Kind::Mirror(mirror(filter.request_mirror.as_ref().ok_or_else(unknown)?, refs)),
        "CORS" => Kind::Cors(cors(filter.cors.as_ref().ok_or_else(unknown)?)),
        _ => return Err(unknown()),
    })
}

fn headers(modifier: &HeaderModifier) -> wire::HeaderEdit {
    let pair = |one: &NamedValue| wire::Header { name: one.name.clone(), value: one.value.clone() };
    wire::HeaderEdit {
        set: modifier.set.iter().map(pair).collect(),
        add: modifier.add.iter().map(pair).collect(),
        remove: modifier.remove.clone(),
    }
}

fn redirect(redirect: &RequestRedirect) -> wire::Redirect {
    wire::Redirect {
        scheme: redirect.scheme.clone(),
        host: redirect.hostname.clone(),
        path: redirect.path.as_ref().map(path),
        port: redirect.port.unwrap_or_default(),
        status: redirect.status_code.unwrap_or(302),
        keep_port: false,
    }
}

fn rewrite(rewrite: &UrlRewrite) -> wire::Rewrite {
    wire::Rewrite { host: rewrite.hostname.clone(), path: rewrite.path.as_ref().map(path) }
}

fn path(path: &PathModifier) -> wire::PathRewrite {
    let how = match (&path.replace_full_path, &path.replace_prefix_match) {
        (Some(full), _) => Some(path_rewrite::How::Full(full.clone())),
        (None, Some(prefix)) => Some(path_rewrite::How::Prefix(prefix.clone())),
        (None, None) => None,
    };
    wire::PathRewrite { how }
}

fn mirror(mirror: &RequestMirror, refs: &mut Refs<'_>) -> wire::Mirror {
    let fraction = mirror.fraction.as_ref().map(|part| (part.numerator, part.denominator.unwrap_or(100)));
    let (numerator, denominator) =
        fraction.or_else(|| mirror.percent.map(|percent| (percent, 100))).unwrap_or_default();
    wire::Mirror { backend: Some(refs.backend(&mirror.backend_ref)), numerator, denominator }
}

fn cors(cors: &CorsFilter) -> wire::Cors {
    let origin = |text: &String| {
        let how = match text.as_str() {
            "*" => How::Present(true),
            text if text.contains('*') => How::Regex(pattern(text)),
            text => How::Exact(text.to_owned()),
        };
        wire::StringMatch { how: Some(how), ignore_case: false }
    };
    wire::Cors {
        origins: cors.allow_origins.iter().map(origin).collect(),
        methods: cors.allow_methods.clone(),
        headers: cors.allow_headers.clone(),
        expose: cors.expose_headers.clone(),
        max_age: cors.max_age.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
        credentials: cors.allow_credentials,
    }
}

/// A star stands for any text; everything else for itself.
fn pattern(text: &str) -> String {
    let literal = |part: &str| -> String {
        part.chars().flat_map(|c| if c.is_ascii_alphanumeric() { vec![c] } else { vec!['\\', c] }).collect()
    };
    text.split('*').map(literal).collect::<Vec<_>>().join(".*")
}

/// A match of an HTTPRoute.
pub(super) fn http_match(one: &HttpMatch) -> wire::Match {
    let method = (!one.method.is_empty()).then(|| exact(&one.method));
    wire::Match {
        path: one.path.as_ref().map(http_path),
        headers: one.headers.iter().map(named).collect(),
        queries: one.query_params.iter().map(named).collect(),
        method,
        ..wire::Match::default()
    }
}

fn http_path(path: &TypedValue) -> wire::PathMatch {
    let value = path.value.clone();
    let how = match path.type_.as_str() {
        "Exact" => path_match::How::Exact(value),
        "RegularExpression" => path_match::How::Regex(value),
        _ => path_match::How::Prefix(if value.is_empty() { "/".to_owned() } else { value }),
    };
    wire::PathMatch { how: Some(how), ignore_case: false }
}

/// A match of a GRPCRoute: a call is a request for `/service/method`.
pub(super) fn grpc_match(one: &GrpcMatch) -> wire::Match {
    let path = one.method.as_ref().and_then(|method| {
        let (service, name) = (&method.service, &method.method);
        let how = match (method.type_ == "RegularExpression", service.is_empty(), name.is_empty()) {
            (_, true, true) => return None,
            (false, false, false) => path_match::How::Exact(format!("/{service}/{name}")),
            (false, false, true) => path_match::How::TextPrefix(format!("/{service}/")),
            (true, false, false) => path_match::How::Regex(format!("/{service}/{name}")),
            (true, false, true) => path_match::How::Regex(format!("/{service}/.+")),
            (true, true, false) => path_match::How::Regex(format!("/[^/]+/{name}")),
            (false, true, false) => path_match::How::Regex(format!("/[^/]+/{}", pattern(name))),
        };
        Some(wire::PathMatch { how: Some(how), ignore_case: false })
    });
    wire::Match { path, headers: one.headers.iter().map(named).collect(), ..wire::Match::default() }
}

fn named(one: &NamedValue) -> wire::NamedMatch {
    let value = match one.type_.as_str() {
        "RegularExpression" => wire::StringMatch { how: Some(How::Regex(one.value.clone())), ignore_case: false },
        _ => exact(&one.value),
    };
    wire::NamedMatch { name: one.name.clone(), value: Some(value), invert: false }
}

fn exact(text: &str) -> wire::StringMatch {
    wire::StringMatch { how: Some(How::Exact(text.to_owned())), ignore_case: false }
}

/// A time such as `1m30s`; none for what is empty or zero.
pub(super) fn time(text: &str) -> Option<prost_types::Duration> {
    let time = runtime::settings::parse_duration(text).filter(|time| !time.is_zero())?;
    Some(prost_types::Duration {
        seconds: i64::try_from(time.as_secs()).ok()?,
        nanos: i32::try_from(time.subsec_nanos()).ok()?,
    })
}
