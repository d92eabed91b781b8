//! HTTP and WebSocket.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;

use super::{ConnectionGuard, Shared};

/// How long the head of a request may take to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// All paths.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/health", get(|| async { "ok\n" }))
        .with_state(shared)
}

/// Serves one connection until it ends.
pub(crate) async fn serve(
    stream: TcpStream,
    _peer: SocketAddr,
    shared: Arc<Shared>,
    guard: ConnectionGuard,
) {
    let fd = stream.as_raw_fd();
    let service = TowerToHyperService::new(router(Arc::clone(&shared)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let ending = shared.shutdown.begun();
    tokio::pin!(connection, ending);
    // Goes before the stream does.
    let _noted = shared.descriptors.note(fd);
    let mut asked_to_end = false;
    let result = std::future::poll_fn(|cx| {
        if !asked_to_end && ending.as_mut().poll(cx).is_ready() {
            asked_to_end = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    })
    .await;
    if let Err(error) = result {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
    drop(guard);
}
