//! One HTTP connection: hyper over a watched stream, and what follows a WebSocket's handshake.

use std::future::Future;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;

use super::consumers::Consumer;
use super::door::Door;
use super::watched::Watched;
use super::{App, socket};
use crate::server::stats::Stats;
use crate::server::stream::Stream;
use crate::server::{ConnectionGuard, Shared};

/// Most headers of a request.
const MAX_HEADERS: usize = 100;
/// What hyper needs at least.
const LEAST_BUFFER: usize = 8 << 10;
/// What the parts of one connection tell each other.
#[derive(Default)]
pub(super) struct Link {
    pub(super) phase: AtomicU8,
    /// What it holds of memory.
    pub(super) consumer: Arc<Consumer>,
    /// A request has shown a secret.
    authenticated: AtomicBool,
    /// What goes on after the answer to a handshake.
    pub(super) upgrade: Mutex<Option<socket::Upgrade>>,
}

/// Between requests.
pub(super) const IDLE: u8 = 0;
/// Bytes of a request's head have come, and not all.
pub(super) const IN_HEAD: u8 = 1;
/// The head is whole, and there is no answer yet.
pub(super) const AT_WORK: u8 = 2;

impl Link {
    /// The head of a request is there.
    #[inline]
    pub(super) fn begin(&self) {
        self.phase.store(AT_WORK, Ordering::Relaxed);
    }

    /// The request has its answer.
    #[inline]
    pub(super) fn end(&self) {
        self.phase.store(IDLE, Ordering::Relaxed);
    }

    /// Whether the client has shown a secret, or none is asked for.
    pub(super) fn is_known(&self) -> bool {
        self.authenticated.load(Ordering::Relaxed)
    }

    /// The client has shown a secret.
    pub(super) fn authenticate(&self, shared: &Shared) {
        if !self.authenticated.swap(true, Ordering::Relaxed) {
            shared.strangers.leave();
        }
    }
}

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Serves one connection until it ends.
pub(crate) async fn serve(
    stream: Stream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    guard: ConnectionGuard,
) {
    let link = Arc::new(Link::default());
    if !shared.secrets.are_set() {
        link.authenticated.store(true, Ordering::Relaxed);
    } else if !shared
        .strangers
        .enter(shared.config.limits.max_unauthenticated)
    {
        Stats::add(&shared.stats.connections_refused, 1);
        return;
    }
    let place = Place(Arc::clone(&shared), Arc::clone(&link));
    let noted = shared.descriptors.note(stream.as_raw_fd());
    let mut watched = Watched::new(stream, Arc::clone(&shared), Arc::clone(&link));
    let outcome = match watched.readable().await {
        Ok(()) => {
            let (stream, outcome) = converse(watched, peer, &shared, &link).await;
            watched = stream;
            outcome
        }
        Err(error) => Err(error.into()),
    };
    if let Err(error) = outcome {
        tracing::debug!(%peer, %error, "an HTTP connection ended early");
    }
    drop(noted);
    drop(watched);
    drop(place);
    drop(guard);
}

/// The place among those who have shown no secret, taken until they do.
struct Place(Arc<Shared>, Arc<Link>);

impl Drop for Place {
    fn drop(&mut self) {
        self.1.authenticate(&self.0);
    }
}

/// Answers requests, and after a handshake messages. Gives back the stream, to be closed.
async fn converse(
    watched: Watched,
    peer: SocketAddr,
    shared: &Arc<Shared>,
    link: &Arc<Link>,
) -> (Watched, Outcome) {
    let limits = &shared.config.limits;
    let door = Door::new(Arc::clone(shared), Arc::clone(link), peer);
    let mut connection = http1::Builder::new()
        .max_headers(MAX_HEADERS)
        // The door looks at each by itself.
        .max_buf_size((limits.max_request_line + limits.max_headers).max(LEAST_BUFFER))
        // It would end idle connections, too; `Watched` knows which are idle.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(watched), door);
    let outcome = {
        let mut connection = Pin::new(&mut connection);
        let mut ending = pin!(shared.shutdown.begun());
        let mut asked_to_end = false;
        std::future::poll_fn(|cx| {
            if !asked_to_end && ending.as_mut().poll(cx).is_ready() {
                asked_to_end = true;
                connection.as_mut().graceful_shutdown();
            }
            connection.poll_without_shutdown(cx)
        })
        .await
    };
    let parts = connection.into_parts();
    let mut stream = parts.io.into_inner();
    let upgrade = link.upgrade.lock().take();
    let outcome = match (outcome, upgrade) {
        (Err(error), _) => Err(error.into()),
        (Ok(()), Some(upgrade)) => {
            stream.is_socket = true;
            let app = App(Arc::clone(shared));
            let held = app.hold(link);
            let outcome = socket::run(&mut stream, &parts.read_buf, upgrade, held, shared).await;
            let outcome = match outcome {
                Ok(()) => stream.close().await,
                error => error,
            };
            outcome.map_err(Into::into)
        }
        (Ok(()), None) => stream.close().await.map_err(Into::into),
    };
    (stream, outcome)
}
