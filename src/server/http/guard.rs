//! Who may ask: the Host allow-list, Origin and Fetch metadata, and the secret. Decides from a request's head alone.
//!
//! A web page elsewhere can make a browser send requests here. By DNS rebinding it does so under a name of its own, so
//! names have to be listed. From its own origin it may send whatever needs no permission, an image's GET for one, so
//! a request that a browser says another site made is refused.

use axum::http::header::{
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, HOST, HeaderName, ORIGIN, SEC_WEBSOCKET_PROTOCOL,
    USER_AGENT,
};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method};

use super::problem::Problem;
use crate::server::{Config, Secrets};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What of the configuration it takes to decide.
#[derive(Debug)]
pub(super) struct Guard {
    /// In lower case.
    hosts: Vec<String>,
    origins: Vec<HeaderValue>,
}

/// What a path gives away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exposure {
    /// Nothing: the console's page, and whether the server is well.
    Open,
    /// Data, or what is done to it.
    Guarded,
    /// As `Guarded`, on a WebSocket.
    Socket,
}

/// A request that may go on.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    /// The other origin that may read the answer.
    pub(super) cors: Option<HeaderValue>,
    /// Whether it only asks what it may ask.
    pub(super) is_preflight: bool,
    /// Whether it showed a secret.
    pub(super) authenticated: bool,
}

impl Guard {
    pub(super) fn new(config: &Config) -> Guard {
        let own = std::iter::once(&config.host);
        let hosts = own.chain(&config.allowed_hosts);
        let origins = config.cors_origins.iter();
        Guard {
            hosts: hosts.map(|host| host.to_ascii_lowercase()).collect(),
            origins: origins
                .filter_map(|origin| HeaderValue::from_str(origin).ok())
                .collect(),
        }
    }

    /// Whether answers depend on the origin.
    pub(super) fn has_cors(&self) -> bool {
        !self.origins.is_empty()
    }

    /// Whether a request may go on.
    ///
    /// # Errors
    /// The refusal: 400, 401 or 403.
    pub(super) fn check(
        &self,
        request: &Parts,
        exposure: Exposure,
        secrets: &Secrets,
    ) -> Result<Admitted, Problem> {
        let host = self.check_host(request)?;
        if exposure == Exposure::Open {
            return Ok(Admitted::default());
        }
        let headers = &request.headers;
        let origin = headers.get(ORIGIN);
        let cors = origin.filter(|origin| self.origins.contains(origin));
        let is_same_origin = origin.is_some_and(|origin| is_same_origin(origin, &host));
        if origin.is_some() && cors.is_none() && !is_same_origin {
            return Err(Problem::new(
                403,
                "origin_refused",
                "pages of this origin may not use the server; allow it by --cors-origin",
            ));
        }
        let mut admitted = Admitted {
            cors: cors.cloned(),
            ..Admitted::default()
        };
        if request.method == Method::OPTIONS {
            admitted.is_preflight = headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
            return Ok(admitted);
        }
        if secrets.are_set() {
            match presented(headers, exposure) {
                Some(secret) if secrets.accept(&secret) => admitted.authenticated = true,
                presented => return Err(unauthorized(presented.is_some())),
            }
            return Ok(admitted);
        }
        let is_fine = match headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes) {
            Some(b"same-origin" | b"none") => true,
            Some(_) => cors.is_some(),
            // Browsers that say nothing of WebSockets still name the page's origin.
            None if exposure == Exposure::Socket && is_same_origin => true,
            None => cors.is_some() || (origin.is_none() && !is_browser(headers)),
        };
        if is_fine {
            return Ok(admitted);
        }
        Err(Problem::new(
            403,
            "cross_site_refused",
            "a browser sent this for a page of another site, or does not say for which",
        ))
    }

    /// The host that the request is for.
    fn check_host(&self, request: &Parts) -> Result<Host, Problem> {
        let mut given = request.headers.get_all(HOST).iter();
        let (Some(host), None) = (given.next(), given.next()) else {
            return Err(Problem::new(
                400,
                "host_missing",
                "one Host header is needed",
            ));
        };
        let refused = || {
            Problem::new(
                403,
                "host_refused",
                "the server does not go by this Host; allow the name by --allowed-host",
            )
        };
        let host = Host::parse(host.as_bytes()).ok_or_else(refused)?;
        if !self.allows(&host) {
            return Err(refused());
        }
        let target = request.uri.authority().map(Authority::as_str);
        match target.map(|target| Host::parse(target.as_bytes())) {
            None => Ok(host),
            Some(Some(target)) if target.name == host.name => Ok(host),
            Some(_) => Err(refused()),
        }
    }

    /// An address cannot be rebound, names can. `localhost` and names below it never leave the machine.
    fn allows(&self, host: &Host) -> bool {
        host.is_address
            || host.name == "localhost"
            || host.name.ends_with(".localhost")
            || self.hosts.contains(&host.name)
    }
}

/// A host without its port, in lower case.
#[derive(Debug, PartialEq, Eq)]
struct Host {
    name: String,
    port: Option<u16>,
    is_address: bool,
}

impl Host {
    fn parse(text: &[u8]) -> Option<Host> {
        let text = std::str::from_utf8(text).ok()?;
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (name, rest) = rest.split_once(']')?;
                name.parse::<std::net::Ipv6Addr>().ok()?;
                match rest {
                    "" => (name, None),
                    _ => (name, Some(rest.strip_prefix(':')?)),
                }
            }
            None => match text.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (text, None),
            },
        };
        let port = match port {
            None => None,
            Some(port) => Some(port.parse().ok()?),
        };
        let is_address = name.parse::<std::net::IpAddr>().is_ok();
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        (!name.is_empty()).then_some(Host {
            name,
            port,
            is_address,
        })
    }
}

fn is_same_origin(origin: &HeaderValue, host: &Host) -> bool {
    let parse = || {
        let (scheme, authority) = origin.to_str().ok()?.split_once("://")?;
        let port = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        Some((Host::parse(authority.as_bytes())?, port))
    };
    parse().is_some_and(|(origin, default): (Host, u16)| {
        origin.name == host.name && origin.port.unwrap_or(default) == host.port.unwrap_or(default)
    })
}

fn is_browser(headers: &HeaderMap) -> bool {
    headers
        .get(USER_AGENT)
        .is_some_and(|agent| agent.as_bytes().starts_with(b"Mozilla/"))
}

/// The subprotocol of all sockets here.
pub(super) const PROTOCOL: &str = "atbr.v1";
/// The subprotocol that carries a secret: this, and the secret in base64url.
const SECRET_PROTOCOL: &str = "bearer.";

/// The secret that a request shows.
fn presented(headers: &HeaderMap, exposure: Exposure) -> Option<Vec<u8>> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let (scheme, secret) = value.as_bytes().split_at_checked(7)?;
        return scheme
            .eq_ignore_ascii_case(b"bearer ")
            .then(|| secret.trim_ascii().to_vec());
    }
    if exposure != Exposure::Socket {
        return None;
    }
    // Browsers let a page set no other header of a WebSocket.
    offered_protocols(headers).find_map(|protocol| {
        let encoded = protocol.strip_prefix(SECRET_PROTOCOL)?;
        super::json::from_base64(encoded.as_bytes())
    })
}

pub(super) fn offered_protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

fn unauthorized(was_wrong: bool) -> Problem {
    let detail = if was_wrong {
        "the token is not one of the server's"
    } else {
        "send the server's token: Authorization: Bearer TOKEN"
    };
    Problem::new(401, "unauthorized", detail).wrong_secret(was_wrong)
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn guard() -> Guard {
        Guard::new(&Config {
            allowed_hosts: vec!["Store.example".into()],
            cors_origins: vec!["https://app.example".into()],
            ..Config::default()
        })
    }

    fn code(exposure: Exposure, secrets: &Secrets, headers: &[(&str, &str)]) -> &'static str {
        asked("/get/key/a", exposure, secrets, headers)
    }

    fn asked(
        target: &str,
        exposure: Exposure,
        secrets: &Secrets,
        headers: &[(&str, &str)],
    ) -> &'static str {
        let mut request = Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        match guard().check(&parts, exposure, secrets) {
            Ok(_) => "ok",
            Err(problem) => problem.code,
        }
    }

    fn open(headers: &[(&str, &str)]) -> &'static str {
        code(Exposure::Guarded, &Secrets::default(), headers)
    }

    #[test]
    fn only_addresses_and_listed_names_are_hosts() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:8888",
            "10.0.0.1:1",
            "[::1]",
            "[::1]:8888",
            "localhost",
            "LOCALHOST:8888",
            "a.localhost",
            "localhost.",
            "store.EXAMPLE:80",
        ] {
            assert_eq!(open(&[("host", host)]), "ok", "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8888",
            "store.example.evil.example",
            "xstore.example",
            "127.0.0.1.evil.example",
            "0x7f.1",
            "2130706433",
            "127.1",
            "",
            ":8888",
            "[::1",
            "[evil]",
            "localhost:port",
            "localhost@evil.example",
        ] {
            assert_eq!(open(&[("host", host)]), "host_refused", "{host}");
        }
        assert_eq!(open(&[]), "host_missing");
        assert_eq!(
            open(&[("host", "localhost"), ("host", "localhost")]),
            "host_missing"
        );
    }

    #[test]
    fn an_address_with_a_host_names_the_same_one_as_the_header() {
        for (target, expected) in [
            ("http://localhost/get/key/a", "ok"),
            ("http://localhost:8888/get/key/a", "ok"),
            ("http://127.0.0.1/get/key/a", "host_refused"),
            ("http://evil.example/get/key/a", "host_refused"),
            ("http://localhost@evil.example/get/key/a", "host_refused"),
        ] {
            let headers = [("host", "localhost:8888")];
            let code = asked(target, Exposure::Guarded, &Secrets::default(), &headers);
            assert_eq!(code, expected, "{target}");
        }
    }

    #[test]
    fn pages_of_other_origins_are_refused_unless_listed() {
        let host = ("host", "localhost:8888");
        for (origin, answer) in [
            ("https://app.example", "ok"),
            ("http://evil.example", "origin_refused"),
            ("http://localhost:1234", "origin_refused"),
            ("http://localhost", "origin_refused"),
            ("https://app.example.evil", "origin_refused"),
            ("http://app.example", "origin_refused"),
            ("null", "origin_refused"),
            ("", "origin_refused"),
        ] {
            assert_eq!(open(&[host, ("origin", origin)]), answer, "{origin}");
            let socket = code(
                Exposure::Socket,
                &Secrets::default(),
                &[host, ("origin", origin)],
            );
            assert_eq!(socket, answer, "{origin}");
        }
        let own = ("origin", "http://localhost:8888");
        assert_eq!(open(&[host, own, ("sec-fetch-site", "same-origin")]), "ok");
        assert_eq!(open(&[host, own]), "cross_site_refused");
        assert_eq!(
            code(Exposure::Socket, &Secrets::default(), &[host, own]),
            "ok"
        );
    }

    #[test]
    fn what_a_browser_sends_for_another_site_is_refused() {
        let host = ("host", "localhost");
        for (site, answer) in [
            ("same-origin", "ok"),
            ("none", "ok"),
            ("same-site", "cross_site_refused"),
            ("cross-site", "cross_site_refused"),
            ("anything", "cross_site_refused"),
        ] {
            assert_eq!(open(&[host, ("sec-fetch-site", site)]), answer, "{site}");
        }
        for (agent, answer) in [
            ("curl/8", "ok"),
            ("Mozilla/5.0 (X11)", "cross_site_refused"),
        ] {
            assert_eq!(open(&[host, ("user-agent", agent)]), answer, "{agent}");
        }
        assert_eq!(open(&[host]), "ok");
    }

    #[test]
    fn a_secret_is_asked_for_where_there_is_one_and_makes_up_for_silence() {
        let secrets = Secrets::new(vec![b"token".to_vec()], Vec::new()).unwrap();
        let host = ("host", "10.0.0.1");
        let browser = ("user-agent", "Mozilla/5.0");
        for (exposure, name, value, answer) in [
            (Exposure::Guarded, "authorization", "Bearer token", "ok"),
            (Exposure::Guarded, "authorization", "bearer token", "ok"),
            (
                Exposure::Guarded,
                "authorization",
                "Bearer tokens",
                "unauthorized",
            ),
            (
                Exposure::Guarded,
                "authorization",
                "Bearer ",
                "unauthorized",
            ),
            (Exposure::Guarded, "authorization", "token", "unauthorized"),
            (Exposure::Guarded, "accept", "*/*", "unauthorized"),
            (
                Exposure::Guarded,
                "sec-websocket-protocol",
                "bearer.dG9rZW4",
                "unauthorized",
            ),
            (
                Exposure::Socket,
                "sec-websocket-protocol",
                "atbr.v1, bearer.dG9rZW4",
                "ok",
            ),
            (
                Exposure::Socket,
                "sec-websocket-protocol",
                "bearer.dG9rZW4x",
                "unauthorized",
            ),
            (Exposure::Open, "accept", "*/*", "ok"),
        ] {
            let answered = code(exposure, &secrets, &[host, browser, (name, value)]);
            assert_eq!(answered, answer, "{name}: {value}");
        }
        let elsewhere = ("origin", "http://evil.example");
        let headers = [host, elsewhere, ("authorization", "Bearer token")];
        assert_eq!(
            code(Exposure::Guarded, &secrets, &headers),
            "origin_refused"
        );
    }
}
