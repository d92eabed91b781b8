//! One HTTP connection: hyper over a watched stream, and what follows a WebSocket's handshake.

use std::future::Future;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;

use super::door::Door;
use super::link::{Link, Rest};
use super::watched::Watched;
use super::{App, socket};
use crate::server::stats::Stats;
use crate::server::stream::Stream;
use crate::server::{ConnectionGuard, Shared};

/// Most headers of a request.
const MAX_HEADERS: usize = 100;
/// What hyper needs at least.
const LEAST_BUFFER: usize = 8 << 10;

/// Why a conversation is over.
enum End {
    /// It rests, and can go on.
    Rest,
    Over,
}

type Outcome = Result<End, Box<dyn std::error::Error + Send + Sync>>;

/// Serves one connection until it ends.
pub(crate) async fn serve(
    stream: Stream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    guard: ConnectionGuard,
) {
    let link = Arc::new(Link::default());
    if !shared.secrets.are_set() {
        link.trust();
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
    let outcome = loop {
        if let Err(error) = watched.readable().await {
            break Err(error.into());
        }
        // Boxed, as what comes after it: connections that say nothing do without its room.
        let (stream, outcome) = Box::pin(converse(watched, peer, &shared, &link)).await;
        watched = stream;
        if !matches!(outcome, Ok(End::Rest)) {
            break outcome;
        }
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
    let may_rest = watched.may_rest();
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
        let mut rest = Rest::default();
        std::future::poll_fn(|cx| {
            loop {
                if let Poll::Ready(outcome) = connection.as_mut().poll_without_shutdown(cx) {
                    return Poll::Ready(outcome.map(|()| End::Over));
                }
                // What has come by now is a request that has begun, and is answered.
                if !asked_to_end && ending.as_mut().poll(cx).is_ready() {
                    asked_to_end = true;
                    connection.as_mut().graceful_shutdown();
                    continue;
                }
                return match may_rest {
                    true => rest.poll(link, cx).map(|()| Ok(End::Rest)),
                    false => Poll::Pending,
                };
            }
        })
        .await
    };
    let parts = connection.into_parts();
    let mut stream = parts.io.into_inner();
    let upgrade = link.upgrade.lock().take();
    let outcome = match (outcome, upgrade) {
        (Err(error), _) => Err(error.into()),
        (Ok(End::Rest), _) => {
            stream.ahead = parts.read_buf;
            Ok(End::Rest)
        }
        (Ok(End::Over), Some(upgrade)) => {
            stream.is_socket = true;
            let app = App(Arc::clone(shared));
            let held = app.hold(link);
            let run = socket::run(&mut stream, parts.read_buf, upgrade, held, shared);
            match Box::pin(run).await {
                Ok(()) => close(&mut stream).await,
                Err(error) => Err(error.into()),
            }
        }
        (Ok(End::Over), None) => close(&mut stream).await,
    };
    (stream, outcome)
}

async fn close(stream: &mut Watched) -> Outcome {
    let closed = Box::pin(stream.close()).await;
    closed.map(|()| End::Over).map_err(Into::into)
}
