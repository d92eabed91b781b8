//! The door without a network: what fuzzing and tests ask.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::header::HOST;
use axum::http::{Method, Request, Uri};
use tokio::runtime::{Builder, Runtime};

use super::door::Door;
use super::link::Link;
use crate::engine::{Databases, Options, Store};
use crate::server::{Config, Secrets, Shared};

/// A store and the door of HTTP to it.
pub struct Probe {
    door: Door,
    #[cfg(fuzzing)]
    databases: Arc<Databases>,
    runtime: Runtime,
}

impl Probe {
    /// An empty store behind a door that asks for no secret, and without a data folder.
    ///
    /// # Errors
    /// What stops a server from starting.
    pub fn new() -> Result<Probe, Box<dyn std::error::Error>> {
        let zero = Arc::new(Store::new(&Options::default())?);
        let databases = Arc::new(Databases::new(zero)?);
        let shared = Shared::new(
            Config::default(),
            Secrets::default(),
            Arc::clone(&databases),
        )?;
        let peer = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 1);
        Ok(Probe {
            door: Door::new(Arc::new(shared), Arc::new(Link::default()), peer),
            #[cfg(fuzzing)]
            databases,
            runtime: Builder::new_current_thread().enable_all().build()?,
        })
    }

    /// What is behind the door.
    #[cfg(fuzzing)]
    pub fn databases(&self) -> &Databases {
        &self.databases
    }

    /// Status and body of the answer to a request without a body; None where the target is none that HTTP knows.
    pub fn ask(&self, method: &str, target: &[u8]) -> Option<(u16, Vec<u8>)> {
        let uri = Uri::try_from(target).ok()?;
        let method = Method::from_bytes(method.as_bytes()).ok()?;
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(HOST, "localhost");
        let (parts, body) = request.body(Body::empty()).ok()?.into_parts();
        self.runtime.block_on(async {
            let Ok(response) = self.door.answer(parts, body).await;
            let status = response.status().as_u16();
            let body = to_bytes(response.into_body(), usize::MAX).await.ok()?;
            Some((status, body.to_vec()))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_door_answers_without_a_network() {
        let probe = Probe::new().unwrap();
        assert_eq!(
            probe.ask("GET", b"/put/key/a%2Fb/value/c+d"),
            Some((200, Vec::new()))
        );
        assert_eq!(
            probe.ask("GET", b"/v1/keys/a/b"),
            Some((200, b"c+d".to_vec()))
        );
        assert_eq!(probe.ask("HEAD", b"/v1/key?k=a%2fb").unwrap().0, 200);
        assert_eq!(probe.ask("DELETE", b"/v1/key?k64=YS9i").unwrap().0, 204);
        assert_eq!(probe.ask("GET", b"/get/key/a/b"), Some((200, Vec::new())));
        assert_eq!(probe.ask("GET", b"no target"), None);
    }

    proptest! {
        #[test]
        fn what_is_put_by_an_address_is_got_by_every_other(
            key in prop::collection::vec(any::<u8>(), 1..20),
            value in prop::collection::vec(any::<u8>(), 1..20),
        ) {
            let encode = |bytes: &[u8]| bytes.iter().map(|byte| format!("%{byte:02X}")).collect::<String>();
            let probe = Probe::new().unwrap();
            let put = format!("/put/key/{}/value/{}", encode(&key), encode(&value));
            prop_assert_eq!(probe.ask("GET", put.as_bytes()), Some((200, Vec::new())));
            for start in ["/get/key/", "/v1/keys/", "/v1/key?k="] {
                let target = format!("{start}{}", encode(&key));
                prop_assert_eq!(probe.ask("GET", target.as_bytes()), Some((200, value.clone())));
            }
        }
    }
}
