//! Ports: bound before anything starts, each with one task that accepts.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::config::Config;
use super::connections::OpenDoor;
use super::secrets::Secrets;
use super::stats::Stats;
use super::stream::Stream;
use super::tls::TlsError;
use super::{ConnectionGuard, Shared, http, resp};

/// A protocol, and so a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Http,
    Resp,
}

impl Door {
    /// The command line's flag for the port.
    fn flag(self) -> &'static str {
        match self {
            Door::Http => "--http",
            Door::Resp => "--resp",
        }
    }
}

/// Why a server did not start. One line that says what to change.
#[derive(Debug)]
pub enum StartError {
    /// A port could not be bound.
    Port {
        /// The flag that chooses the port.
        flag: &'static str,
        /// The host that was to be bound.
        host: String,
        /// The port that was to be bound.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// Other machines could connect, and there is no secret.
    Unprotected {
        /// The flag that chooses the port.
        flag: &'static str,
        /// The address that was to be bound.
        address: SocketAddr,
    },
    /// The data folder cannot be opened.
    DataFolder {
        /// The folder.
        path: std::path::PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The certificate or its key cannot be used.
    Tls(TlsError),
    /// The runtime did not start.
    Runtime(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Port {
                flag,
                host,
                port,
                source,
            } => {
                write!(
                    f,
                    "cannot listen at {host}, port {port} ({flag}): {source}; choose another port by {flag}"
                )
            }
            StartError::Unprotected { flag, address } => write!(
                f,
                "{flag} at {address} can be reached from other machines and needs --password-file or --token-file; or listen at 127.0.0.1"
            ),
            StartError::DataFolder { path, source } => {
                write!(f, "cannot open {} (--data-dir): {source}", path.display())
            }
            StartError::Tls(error) => write!(f, "{error}"),
            StartError::Runtime(source) => write!(f, "cannot start the server: {source}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::Port { source, .. }
            | StartError::DataFolder { source, .. }
            | StartError::Runtime(source) => Some(source),
            StartError::Tls(error) => Some(error.source()),
            StartError::Unprotected { .. } => None,
        }
    }
}

/// Connections that wait to be accepted, where the system allows so many. With the 128 of the standard library, whoever comes
/// when more do so at once tries again after a second.
const BACKLOG: libc::c_int = 1024;

/// A listener at a port. Where other machines could connect, there has to be a secret.
pub(crate) fn bind(
    config: &Config,
    secrets: &Secrets,
    door: Door,
    port: u16,
) -> Result<TcpListener, StartError> {
    let flag = door.flag();
    let failed = |source| StartError::Port {
        flag,
        host: config.host.clone(),
        port,
        source,
    };
    let addresses = (config.host.as_str(), port)
        .to_socket_addrs()
        .map_err(failed)?;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        if !address.ip().is_loopback() && !secrets.are_set() {
            return Err(StartError::Unprotected { flag, address });
        }
        match TcpListener::bind(address) {
            Ok(listener) => {
                listener.set_nonblocking(true).map_err(failed)?;
                // SAFETY: a socket of ours, which listens already: only the length of its queue changes.
                unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) };
                return Ok(listener);
            }
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

/// Accepts until the shutdown, in a task of its own, and then who had connected before.
pub(crate) fn spawn(door: Door, listener: tokio::net::TcpListener, shared: Arc<Shared>) {
    let open = OpenDoor::new(&shared);
    tokio::spawn(async move {
        let noted = shared.descriptors.note(listener.as_raw_fd());
        let accepting = accept(door, &listener, &shared);
        shared.shutdown.unless_begun(accepting).await;
        drop(noted);
        match listener.into_std() {
            Ok(listener) => accept_the_last(door, &listener, &shared),
            Err(error) => tracing::warn!(%error, "cannot see who waits to be accepted"),
        }
        drop(open);
    });
}

/// Accepts who waits, without waiting, and no more.
fn accept_the_last(door: Door, listener: &TcpListener, shared: &Arc<Shared>) {
    for _ in 0..BACKLOG {
        let (stream, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            // One that left while it waited; others may wait behind it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(_) => break,
        };
        let stream = stream
            .set_nonblocking(true)
            .and_then(|()| TcpStream::from_std(stream));
        match stream {
            Ok(stream) => admit(door, stream, peer, shared),
            Err(error) => tracing::warn!(%error, "cannot accept a connection"),
        }
    }
    // A child that was forked this moment may still hold the socket. Nobody listens at it any more, whoever holds it.
    // SAFETY: the descriptor is the listener's, which is open.
    unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR) };
}

async fn accept(door: Door, listener: &tokio::net::TcpListener, shared: &Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => admit(door, stream, peer, shared),
            // Out of descriptors, for one: waiting lets connections end.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn admit(door: Door, stream: TcpStream, peer: SocketAddr, shared: &Arc<Shared>) {
    Stats::add(&shared.stats.connections_received, 1);
    // Replies are written whole; waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    let Some(guard) = ConnectionGuard::new(shared, door) else {
        Stats::add(&shared.stats.connections_refused, 1);
        if door == Door::Resp {
            let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
        }
        return;
    };
    let shared = Arc::clone(shared);
    if shared.tls.is_some() {
        tokio::spawn(encrypt(door, stream, peer, shared, guard));
        return;
    }
    let stream = Stream::Plain(stream);
    match door {
        Door::Http => drop(tokio::spawn(http::serve(stream, peer, shared, guard))),
        Door::Resp => drop(tokio::spawn(resp::serve(stream, peer, shared, guard))),
    }
}

/// Shakes hands, then serves. Who has not ended the handshake has shown no secret either.
async fn encrypt(
    door: Door,
    stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    guard: ConnectionGuard,
) {
    let Some(stream) = shake_hands(door, stream, peer, &shared).await else {
        return;
    };
    // In a task of its own, so that a connection does not hold what its handshake needed.
    match door {
        Door::Http => drop(tokio::spawn(http::serve(stream, peer, shared, guard))),
        Door::Resp => drop(tokio::spawn(resp::serve(stream, peer, shared, guard))),
    }
}

async fn shake_hands(
    door: Door,
    stream: TcpStream,
    peer: SocketAddr,
    shared: &Arc<Shared>,
) -> Option<Stream> {
    let tls = shared.tls.as_ref()?;
    let limits = &shared.config.limits;
    let is_counted = shared.secrets.are_set();
    if is_counted && !shared.strangers.enter(limits.max_unauthenticated) {
        Stats::add(&shared.stats.connections_refused, 1);
        return None;
    }
    let noted = shared.descriptors.note(stream.as_raw_fd());
    let limit = limits.unauthenticated_timeout;
    let shaking = tokio::time::timeout(limit, tls.accept(door, stream));
    let shaken = shared.shutdown.unless_begun(shaking).await;
    drop(noted);
    if is_counted {
        shared.strangers.leave();
    }
    match shaken {
        Some(Ok(Ok(stream))) => Some(stream),
        Some(Ok(Err(error))) => {
            tracing::debug!(%peer, %error, "a handshake failed");
            None
        }
        Some(Err(_)) | None => None,
    }
}
