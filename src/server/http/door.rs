//! What every request goes through: the guard, the two paths that read one key, and the router for all others.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, VARY,
};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use super::guard::{Admitted, Exposure};
use super::keys::{Call, Found};
use super::link::Link;
use super::path::{Plus, Query, decode};
use super::problem::Problem;
use super::reply::{self, IsMadeYet};
use super::routes;
use super::unread::Unread;
use super::{App, LARGE};
use crate::server::Shared;
use crate::server::stats::Stats;

/// One connection's way in.
pub(super) struct Door {
    app: App,
    link: Arc<Link>,
    peer: SocketAddr,
    router: TowerToHyperService<Router>,
}

/// An answer, at once or later.
pub(super) enum Answer {
    Now(Ready<Result<Response, Infallible>>),
    Later(Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>),
}

impl Future for Answer {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Answer::Now(answer) => Pin::new(answer).poll(cx),
            Answer::Later(answer) => answer.as_mut().poll(cx),
        }
    }
}

impl Service<Request<Incoming>> for Door {
    type Response = Response;
    type Error = Infallible;
    type Future = Answer;

    #[inline]
    fn call(&self, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        self.answer(parts, body)
    }
}

impl Door {
    /// Answers a request.
    #[inline]
    pub(super) fn answer<B>(&self, parts: Parts, body: B) -> Answer
    where
        B: hyper::body::Body<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static,
    {
        let is_bare = body.is_end_stream();
        self.link.begin(is_bare);
        if is_bare {
            return self.respond(parts, Body::empty());
        }
        let (unread, body) = Unread::watch(&parts, body);
        let answer = self.respond(parts, body);
        let (app, link) = (self.app.clone(), Arc::clone(&self.link));
        Answer::Later(Box::pin(async move {
            let Ok(mut response) = answer.await;
            unread.settle(&app, &link, &mut response).await;
            Ok(response)
        }))
    }

    #[inline]
    fn respond(&self, mut parts: Parts, body: Body) -> Answer {
        let started = Instant::now();
        let exposure = exposure(parts.uri.path());
        let admitted = self.check_size(&parts);
        let admitted = match admitted.and_then(|()| self.admit(&parts, exposure)) {
            Ok(admitted) => admitted,
            Err(problem) => {
                let refusal = rendered(problem, parts.uri.path());
                return self.now(refusal, Admitted::default(), started);
            }
        };
        if admitted.is_preflight {
            return self.now(preflight(&admitted), admitted, started);
        }
        if let Some(answer) = self.read_key(&parts) {
            return match answer {
                Ok(OneKey::Answer(response)) => self.now(response, admitted, started),
                Ok(OneKey::Large(found)) => self.large(parts, found, admitted, started),
                Err(problem) => {
                    let refusal = rendered(problem, parts.uri.path());
                    self.now(refusal, admitted, started)
                }
            };
        }
        parts.extensions.insert(self.app.clone());
        parts.extensions.insert(Arc::clone(&self.link));
        let answer = self.router.call(Request::from_parts(parts, body));
        let (app, link) = (self.app.clone(), Arc::clone(&self.link));
        Answer::Later(Box::pin(async move {
            let Ok(mut response) = answer.await;
            finish(&app, &link, &mut response, admitted, started);
            Ok(response)
        }))
    }
}

/// What reading one key came to.
enum OneKey {
    Answer(Response),
    /// A value that takes long to hash.
    Large(Found),
}

impl Door {
    pub(super) fn new(shared: Arc<Shared>, link: Arc<Link>, peer: SocketAddr) -> Door {
        let app = App(shared);
        Door {
            router: TowerToHyperService::new(app.http.router.clone()),
            app,
            link,
            peer,
        }
    }

    /// Whether a request's head is as short as it has to be.
    ///
    /// # Errors
    /// 414, 431.
    #[inline]
    fn check_size(&self, parts: &Parts) -> Result<(), Problem> {
        let limits = &self.app.config.limits;
        let target = parts.uri.path().len() + parts.uri.query().map_or(0, |query| query.len() + 1);
        if target > limits.max_request_line {
            let detail = format!("addresses have at most {} bytes", limits.max_request_line);
            return Err(Problem::new(414, "address_too_long", detail));
        }
        let headers = parts.headers.iter();
        // Each is followed by a colon, and by the end of its line.
        let size: usize = headers
            .map(|(name, value)| name.as_str().len() + value.len() + 3)
            .sum();
        if size > limits.max_headers {
            let detail = format!("headers have at most {} bytes together", limits.max_headers);
            return Err(Problem::new(431, "headers_too_large", detail));
        }
        Ok(())
    }

    fn admit(&self, parts: &Parts, exposure: Exposure) -> Result<Admitted, Problem> {
        let app = &self.app;
        let address = self.peer.ip();
        let is_asked = exposure != Exposure::Open && app.secrets.are_set();
        if is_asked && !self.link.is_known() && !app.strangers.may_try(address, Instant::now()) {
            return Err(Problem::new(
                429,
                "too_many_failures",
                "too many wrong tokens came from this address; wait a second",
            ));
        }
        let checked = app.http.guard.check(parts, exposure, &app.secrets);
        match &checked {
            Ok(admitted) if admitted.authenticated => self.link.authenticate(&app.0),
            Err(problem) if problem.guesses => {
                Stats::add(&app.stats.failed_auth, 1);
                app.strangers.failed(address, Instant::now());
            }
            _ => {}
        }
        checked
    }

    /// GET and HEAD of `/v1/keys/{key}` and GET of `/get/key/{key}`, which most requests are; None: it is another.
    #[inline]
    fn read_key(&self, parts: &Parts) -> Option<Result<OneKey, Problem>> {
        let is_get = parts.method == Method::GET;
        if !is_get && parts.method != Method::HEAD {
            return None;
        }
        let path = parts.uri.path();
        let query = Query::new(parts.uri.query());
        if let Some(encoded) = path.strip_prefix("/v1/keys/") {
            return Some(self.read_v1(parts, encoded, query));
        }
        let encoded = path.strip_prefix("/get/key/")?;
        is_get.then(|| self.read_original(encoded, query))
    }

    #[inline]
    fn read_v1(&self, parts: &Parts, encoded: &str, query: Query<'_>) -> Result<OneKey, Problem> {
        let call = Call::of_path(encoded, query)?;
        let found = self.app.look_up(call.db, &call.key)?;
        match found {
            Some(found) if found.value.as_slice().len() > LARGE => Ok(OneKey::Large(found)),
            found => {
                let answer = self.app.get(&parts.method, &parts.headers, found);
                answer.map(OneKey::Answer)
            }
        }
    }

    #[inline]
    fn read_original(&self, encoded: &str, query: Query<'_>) -> Result<OneKey, Problem> {
        let key = decode(encoded.as_bytes(), Plus::Plus)
            .ok_or_else(|| Problem::new(400, "invalid_key", "a '%' lacks its two digits"))?;
        let found = self.app.look_up(query.database()?, &key)?;
        let value = found.map(|found| found.value.into_bytes());
        Ok(OneKey::Answer(reply::stored_text(
            value.unwrap_or_default(),
        )))
    }

    fn large(&self, parts: Parts, found: Found, admitted: Admitted, started: Instant) -> Answer {
        let (app, link) = (self.app.clone(), Arc::clone(&self.link));
        Answer::Later(Box::pin(async move {
            let worker = app.clone();
            let work = move || worker.get(&parts.method, &parts.headers, Some(found));
            let answer = app.offload.run(work).await;
            let mut response = answer.unwrap_or_else(Problem::into_response);
            finish(&app, &link, &mut response, admitted, started);
            Ok(response)
        }))
    }

    #[inline]
    fn now(&self, mut response: Response, admitted: Admitted, started: Instant) -> Answer {
        finish(&self.app, &self.link, &mut response, admitted, started);
        self.link.settle();
        Answer::Now(ready(Ok(response)))
    }
}

/// Adds what every answer has, and counts it.
#[inline]
fn finish(app: &App, link: &Link, response: &mut Response, admitted: Admitted, started: Instant) {
    if app.http.guard.has_cors() {
        allow_origin(response, admitted);
    }
    let stats = &app.stats;
    Stats::add(&stats.commands, 1);
    Stats::add(&stats.errors, u64::from(response.status().as_u16() >= 500));
    stats.took(1, started.elapsed().as_nanos() as u64);
    if response.extensions().get::<IsMadeYet>().is_none() {
        link.end();
    }
}

fn allow_origin(response: &mut Response, admitted: Admitted) {
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = admitted.cors {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("etag, atbr-ttl-ms, content-range, accept-ranges"),
        );
    }
}

/// What a browser asks before it sends what needs permission.
fn preflight(admitted: &Admitted) -> Response {
    let mut response = reply::empty(StatusCode::NO_CONTENT);
    if admitted.cors.is_some() {
        let headers = response.headers_mut();
        headers.insert(
            ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, HEAD, PUT, POST, DELETE"),
        );
        headers.insert(
            ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static(
                "authorization, content-type, atbr-ttl-ms, if-match, if-none-match, if-range, range",
            ),
        );
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
    response
}

/// A refusal in the words of the path that was asked.
fn rendered(problem: Problem, path: &str) -> Response {
    match routes::is_original(path) {
        true => problem.line(),
        false => problem.into_response(),
    }
}

fn exposure(path: &str) -> Exposure {
    match path {
        "/" | "/health" => Exposure::Open,
        part if part.starts_with("/console/") => Exposure::Open,
        "/v1/ws" | "/getws/" | "/putws/" | "/loadws/" | "/savews/" => Exposure::Socket,
        _ => Exposure::Guarded,
    }
}
