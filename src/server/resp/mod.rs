//! The Redis protocol, versions 2 and 3.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::{Config, ConnectionGuard, Shared};

/// What the connections of the Redis protocol share.
pub(crate) struct Resp {}

impl Resp {
    pub(crate) fn new(_config: &Config) -> Resp {
        Resp {}
    }
}

/// Starts what looks after connections now and then.
pub(crate) fn spawn_housekeeping(_runtime: &Runtime, _shared: &Arc<Shared>) {}

/// Serves one connection until it ends.
pub(crate) async fn serve(
    stream: TcpStream,
    _peer: SocketAddr,
    shared: Arc<Shared>,
    guard: ConnectionGuard,
) {
    let _noted = shared.descriptors.note(stream.as_raw_fd());
    shared.shutdown.begun().await;
    drop(guard);
}
