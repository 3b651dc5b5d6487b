//! The attempts of one request: an endpoint for each, limits of time and number, and what is said when none succeeds.

use super::{
    body::{Body, Count, Incoming, Outgoing, full},
    head::{self, Parsed},
    outcome::{Failed, answer, deserves, no_endpoint, overflow, pause, timed_out},
    pool::{Connect, GiveBack, SendError},
    service::{Failure, Stream, random},
    tell::Said,
    upgrade,
};
use crate::{
    balance::{self, Endpoint, Outcome, Set, Wish},
    config::Config,
    destination::{HashBy, TrafficPolicy},
    route::{
        plan::{Forward, Reply},
        rule::{Backend, Retry},
    },
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use model::{AppProtocol, NamespacedHostname};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::{self, Instant};

/// What a request is sent with.
pub(super) struct Sending<'a, C> {
    pub(super) stream: &'a Arc<Stream<C>>,
    pub(super) config: &'a Config,
    pub(super) parsed: &'a Parsed,
    pub(super) plan: Option<&'a Forward>,
}

/// A response, and what is told of how it came.
pub(super) struct Attempted {
    pub(super) response: Response<Body>,
    pub(super) said: Said,
    pub(super) back: Option<GiveBack>,
}

/// Where a request goes: a service's port, or one workload.
struct Aim {
    service: Option<(NamespacedHostname, u16)>,
    set: Arc<Set>,
    policy: TrafficPolicy,
    http2: bool,
}

/// Counts one of several for as long as it lives.
struct Counted(Arc<balance::Load>, fn(&balance::Load) -> &AtomicU32);

impl Counted {
    fn below(load: &Arc<balance::Load>, which: fn(&balance::Load) -> &AtomicU32, limit: Option<u32>) -> Option<Self> {
        let before = which(load).fetch_add(1, Relaxed);
        let counted = Self(load.clone(), which);
        limit.is_none_or(|limit| before < limit).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1(&self.0).fetch_sub(1, Relaxed);
    }
}

impl<C: Connect> Sending<'_, C> {
    /// Sends the request, as often as its rule says, within the time that its rule gives.
    pub(super) async fn run(
        &self,
        mut request: Request<Incoming>,
        received: &Count,
    ) -> Result<Attempted, (Reply, Said)> {
        let wanted = head::upgrade(request.headers());
        let client = wanted.as_ref().map(|_| hyper::upgrade::on(&mut request));
        head::strip(request.headers_mut());
        let (mut parts, body) = request.into_parts();
        if let Some(plan) = self.plan {
            plan.request_edits().for_each(|edit| edit.apply(&mut parts.headers));
        }
        let retry = match self.plan {
            Some(plan) => plan.rule.retry.clone().unwrap_or_default(),
            None => Retry {
                attempts: 2,
                on: crate::route::rule::RetryOn { reset: true, connect_failure: true, ..Default::default() },
                ..Retry::default()
            },
        };
        let mirrors = self.plan.map_or(&[][..], |plan| &plan.rule.filters.mirrors);
        let hold = retry.attempts > 0 || !mirrors.is_empty();
        let body = Outgoing::new(body, hold, received.clone()).await;
        let body = body.map_err(|_| (Reply::text(400, "", "DC", "downstream_remote_disconnect"), Said::default()))?;
        self.mirror(&parts, &body);
        let limit = self.plan.and_then(|plan| plan.rule.timeout);
        let attempts = self.attempts(parts, body, &retry, wanted.as_ref());
        let mut attempted = match limit {
            None => attempts.await,
            Some(limit) => match time::timeout(limit, attempts).await {
                Ok(done) => done,
                Err(_) => Err((timed_out(), Said::default())),
            },
        }?;
        if let Some(client) = client {
            upgrade::join(&mut attempted.response, client);
        }
        Ok(attempted)
    }

    /// Where the request goes; nowhere when its subset is not known.
    fn aim(&self) -> Option<Aim> {
        let stream = self.stream;
        let backend = self.plan.map(Forward::backend);
        let service = backend.map(|backend| backend.service.clone()).or_else(|| stream.service.clone());
        let asked = stream.connection.port;
        let port = backend.map(|backend| backend.port).filter(|port| *port != 0).unwrap_or(asked);
        let Some(key) = service else {
            let set = Arc::new(Set::of_one(stream.connection.workload.clone()));
            return Some(Aim {
                service: None,
                set,
                policy: TrafficPolicy::default(),
                http2: self.speaks_http2(None, false),
            });
        };
        self.aim_at(key, port, backend)
    }

    fn aim_at(&self, key: NamespacedHostname, port: u16, backend: Option<&Backend>) -> Option<Aim> {
        let shared = &self.stream.shared;
        let snapshot = shared.mesh.load();
        let (mesh, generation) = &**snapshot;
        let destination = self.config.destination(&key);
        let subset = backend.and_then(|backend| backend.subset.as_ref());
        let policy = destination.map(|one| one.policy(port, subset.map(AsRef::as_ref)).clone()).unwrap_or_default();
        let members = match (subset, destination) {
            (None, _) => None,
            (Some(name), Some(destination)) => Some((name, &**destination)),
            (Some(_), None) => return None,
        };
        // A destination may have changed without the mesh: both number the set.
        let generation = generation.wrapping_mul(31) ^ std::ptr::from_ref(self.config) as usize;
        let set = shared.sets.get(mesh, generation, (&key, port), members);
        let spoken = mesh.service_by_key(&key).and_then(|service| service.protocol(port));
        let http2 = self.speaks_http2(spoken, policy.limits.http2);
        Some(Aim { service: Some((key, port)), set, policy, http2 })
    }

    /// What the port says; where it says nothing, what the client speaks.
    fn speaks_http2(&self, spoken: Option<AppProtocol>, wanted: bool) -> bool {
        match spoken {
            Some(AppProtocol::Http2 | AppProtocol::Grpc) => true,
            Some(AppProtocol::Http1) => wanted,
            _ => wanted || self.stream.spoken == super::Spoken::Http2,
        }
    }

    async fn attempts(
        &self,
        parts: http::request::Parts,
        mut body: Outgoing,
        retry: &Retry,
        upgrade: Option<&HeaderValue>,
    ) -> Result<Attempted, (Reply, Said)> {
        let aim = self.aim().ok_or_else(|| (no_endpoint(), Said::default()))?;
        let limits = &aim.policy.limits;
        let Some(_counted) = Counted::below(&aim.set.load, |load| &load.requests, limits.requests) else {
            return Err((overflow(), Said::default()));
        };
        let limit = retry.per_try.or_else(|| self.plan.and_then(|plan| plan.rule.attempt_timeout));
        let mut tried: Vec<SocketAddr> = Vec::new();
        let hash = self.hash(&aim.policy, &parts.headers);
        let mut held = None;
        for attempt in 0..=retry.attempts {
            let wish = Wish {
                policy: &aim.policy,
                hash,
                tried: &tried,
                original: self.stream.connection.address.map(|address| address.ip()),
                now: Instant::now(),
            };
            let below = |count: usize| usize::try_from(random(count as u64)).unwrap_or(0);
            let Some(endpoint) = aim.set.choose(&wish, below).cloned() else {
                return Err((no_endpoint(), Said { service: aim.service.clone(), ..Said::default() }));
            };
            tried.push(endpoint.address);
            let said = Said { endpoint: Some(endpoint.clone()), service: aim.service.clone(), ..Said::default() };
            let begun = Instant::now();
            let one = self.attempt(&aim, &endpoint, &parts, &mut body, upgrade, attempt);
            let outcome = match limit {
                None => one.await,
                Some(limit) => time::timeout(limit, one).await.unwrap_or(Err(Failed::Timeout)),
            };
            let last = attempt == retry.attempts;
            self.note(&aim, &endpoint, &outcome);
            let again = !last && body.is_whole() && deserves(&outcome, retry);
            if again {
                held = Counted::below(&aim.set.load, |load| &load.retries, limits.retries);
                let room = held.is_some() && self.stream.shared.retries.try_acquire().is_ok();
                if room {
                    drop(outcome);
                    time::sleep(pause(retry.backoff, attempt)).await;
                    continue;
                }
            }
            drop(held);
            return match outcome {
                Ok((response, back)) => {
                    let mut response = response;
                    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                        head::strip(response.headers_mut());
                    }
                    let response = response.map(|body| body.map_err(Failure::from).boxed_unsync());
                    let said = Said { first_byte: Some(begun.elapsed()), ..said };
                    Ok(Attempted { response, said, back })
                }
                Err(failed) => Err((answer(failed), said)),
            };
        }
        Err((no_endpoint(), Said::default()))
    }

    async fn attempt(
        &self,
        aim: &Aim,
        endpoint: &Endpoint,
        parts: &http::request::Parts,
        body: &mut Outgoing,
        upgrade: Option<&HeaderValue>,
        attempt: u32,
    ) -> Result<(Response<Incoming>, Option<GiveBack>), Failed> {
        let http2 = aim.http2 && upgrade.is_none();
        let within = aim.policy.limits.connect_timeout;
        let _busy = endpoint.health.begin();
        let mut fresh = false;
        loop {
            let lease = self.stream.pool.lease(endpoint, http2, fresh, within).await.map_err(Failed::Connect)?;
            let Some(content) = body.take() else { return Err(Failed::Reset("body already sent".to_owned(), false)) };
            let request = self.request(parts, content, http2, upgrade, attempt);
            let request = request.map_err(|error| Failed::Connect(error.to_string()))?;
            let used = lease.is_used();
            match lease.send(request).await {
                Ok(done) => return Ok(done),
                // The endpoint had closed a kept connection: no failure, only a new connection.
                Err(SendError::Unsent(request)) => {
                    body.restore(request.into_body());
                    if !used || fresh {
                        return Err(Failed::Reset("connection termination".to_owned(), true));
                    }
                    fresh = true;
                }
                Err(SendError::Lost(error)) if used && !fresh && body.is_whole() && error.is_incomplete_message() => {
                    fresh = true;
                }
                Err(SendError::Lost(error)) => return Err(Failed::Reset(error.to_string(), false)),
            }
        }
    }

    fn request(
        &self,
        parts: &http::request::Parts,
        body: Body,
        http2: bool,
        upgrade: Option<&HeaderValue>,
        attempt: u32,
    ) -> Result<Request<Body>, http::Error> {
        let rewritten = self.plan.and_then(|plan| plan.host.as_ref());
        let authority = rewritten.and_then(|host| host.to_str().ok()).unwrap_or(&self.parsed.authority);
        let path = match self.plan.and_then(|plan| plan.path.as_ref()) {
            Some(path) => path.clone(),
            None => self.parsed.path_and_query(),
        };
        let mut request = Request::new(body);
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = head::target(http2, authority, &path)?;
        *request.version_mut() = if http2 { http::Version::HTTP_2 } else { http::Version::HTTP_11 };
        *request.headers_mut() = parts.headers.clone();
        let headers = request.headers_mut();
        headers.remove(header::HOST);
        if !http2 {
            headers.insert(header::HOST, HeaderValue::try_from(authority)?);
        }
        if let Some(protocol) = upgrade {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, protocol.clone());
        }
        headers.insert("x-envoy-attempt-count", (attempt + 1).into());
        if self.plan.is_some_and(|plan| plan.path.is_some()) {
            headers.insert("x-envoy-original-path", HeaderValue::try_from(self.parsed.path_and_query())?);
        }
        Ok(request)
    }

    fn note(&self, aim: &Aim, endpoint: &Endpoint, outcome: &Result<(Response<Incoming>, Option<GiveBack>), Failed>) {
        let Some(outliers) = &aim.policy.outliers else { return };
        let result = match outcome {
            Ok((response, _)) => Outcome::of_status(response.status().as_u16()),
            Err(_) => Outcome::GatewayError,
        };
        let now = Instant::now();
        let all = &aim.set.endpoints;
        let room = || {
            let ejected = all.iter().filter(|one| one.health.is_ejected(now)).count();
            // One may always be left alone, as long as it is not the only one.
            ejected == 0 && all.len() > 1 || (ejected + 1) * 100 <= all.len() * outliers.max_percent as usize
        };
        if endpoint.health.note(result, outliers, now, room) {
            tracing::warn!(endpoint = %endpoint.address, "too many failures in a row: the endpoint is left alone");
        }
    }

    fn hash(&self, policy: &TrafficPolicy, headers: &HeaderMap) -> Option<u64> {
        match policy.hash.as_ref()? {
            HashBy::Header(name) => headers.get(name).map(|value| balance::hash(value.as_bytes())),
            HashBy::Source => Some(balance::hash(self.stream.connection.source.ip().to_string().as_bytes())),
            HashBy::Query(name) => {
                let query = self.parsed.query.as_deref()?;
                let value = query.split('&').find_map(|pair| pair.strip_prefix(&**name)?.strip_prefix('='));
                value.map(|value| balance::hash(value.as_bytes()))
            }
            HashBy::Cookie(name, ..) => {
                let cookies = headers.get(header::COOKIE)?.to_str().ok()?;
                let value = cookies.split(';').find_map(|pair| pair.trim().strip_prefix(&**name)?.strip_prefix('='));
                value.map(|value| balance::hash(value.as_bytes()))
            }
        }
    }

    /// Sends copies to those who want them; their answers are read by nobody.
    fn mirror(&self, parts: &http::request::Parts, body: &Outgoing) {
        let Some(plan) = self.plan else { return };
        for mirror in &plan.rule.filters.mirrors {
            let hit = mirror.share.is_none_or(|(part, of)| random(of.into()) < part.into());
            let Some(bytes) = body.held().filter(|_| hit && mirror.backend.invalid.is_none()).cloned() else {
                continue;
            };
            let port = if mirror.backend.port == 0 { self.stream.connection.port } else { mirror.backend.port };
            let Some(aim) = self.aim_at(mirror.backend.service.clone(), port, Some(&mirror.backend)) else { continue };
            let wish = Wish { policy: &aim.policy, hash: None, tried: &[], original: None, now: Instant::now() };
            let below = |count: usize| usize::try_from(random(count as u64)).unwrap_or(0);
            let Some(endpoint) = aim.set.choose(&wish, below).cloned() else { continue };
            let Ok(mut request) = self.request(parts, full(bytes), aim.http2, None, 0) else { continue };
            mirror.backend.filters.request.iter().for_each(|edit| edit.apply(request.headers_mut()));
            let pool = self.stream.pool.clone();
            runtime::task::spawn("mirrored request", async move {
                let copy = async {
                    let lease = pool.lease(&endpoint, aim.http2, false, None).await.ok()?;
                    let (response, back) = lease.send(request).await.ok()?;
                    response.into_body().collect().await.ok()?;
                    drop(back);
                    Some(())
                };
                let _nobody_reads_it = time::timeout(Duration::from_secs(15), copy).await;
            });
        }
    }
}
