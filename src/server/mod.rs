//! `atbr serve`: one store's databases over HTTP, WebSocket and the Redis protocol. What the doors share is here; each
//! door is a folder. Knows the engine and the files, and no Python.

mod config;
mod connections;
mod descriptors;
pub(crate) mod files;
pub(crate) mod http;
mod listen;
#[cfg(feature = "python")]
pub(crate) mod log;
pub(crate) mod offload;
pub(crate) mod resp;
pub(crate) mod saving;
pub(crate) mod secrets;
mod shared;
mod shutdown;
pub(crate) mod stats;
mod strangers;
pub(crate) mod stream;
mod tls;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use crate::engine::{Databases, ForkHook, in_forked_children};
use listen::{Door, bind};

#[cfg(fuzzing)]
pub use http::Probe;

pub use config::{Config, Limits, Tsv};
pub(crate) use connections::ConnectionGuard;
pub use listen::StartError;
#[cfg(fuzzing)]
pub use resp::{RespCommands, RespEnd, RespProbe, resp_commands, resp_keys_ahead};
pub use secrets::Secrets;
pub(crate) use shared::Shared;
pub use tls::{TlsError, TlsFiles};

/// The commands of the Redis protocol as a document.
pub fn commands_document() -> String {
    resp::document()
}

/// A running server: two listeners and a runtime of its own, whose threads are called `atbr-server`. Dropping it stops it.
///
/// In the child of a fork it has ended: its descriptors are closed, its threads are not there, and nothing waits for them.
pub struct Server {
    shared: Arc<Shared>,
    /// Bound, and not yet answered on.
    listeners: Vec<(Door, TcpListener)>,
    runtime: Option<Runtime>,
    /// Closes in a child what is this process's.
    _fork: ForkHook,
    http: Option<SocketAddr>,
    resp: Option<SocketAddr>,
    /// The process that serves.
    process: u32,
}

impl Server {
    /// Binds the ports, then serves in the background. Port 0 is any free one.
    ///
    /// # Errors
    /// [`StartError`], with nothing left listening.
    pub fn start(
        config: Config,
        secrets: Secrets,
        databases: Arc<Databases>,
    ) -> Result<Server, StartError> {
        let mut server = Server::bind(config, secrets, databases)?;
        server.serve()?;
        Ok(server)
    }

    /// Binds the ports and no more: who connects waits for [`Server::serve`].
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn bind(
        config: Config,
        secrets: Secrets,
        databases: Arc<Databases>,
    ) -> Result<Server, StartError> {
        let mut listeners = Vec::new();
        let (mut http, mut resp) = (None, None);
        for (door, port) in [(Door::Http, config.http), (Door::Resp, config.resp)] {
            if let Some(port) = port {
                let listener = bind(&config, &secrets, door, port)?;
                let address = Some(listener.local_addr().map_err(StartError::Runtime)?);
                match door {
                    Door::Http => http = address,
                    Door::Resp => resp = address,
                }
                listeners.push((door, listener));
            }
        }
        let shared = Arc::new(Shared::new(config, secrets, databases)?);
        for (_, listener) in &listeners {
            shared.descriptors.note_for_good(listener.as_raw_fd());
        }
        let inherited = Arc::clone(&shared);
        let hook = in_forked_children(move || inherited.descriptors.close_all())
            .map_err(|error| StartError::Runtime(std::io::Error::other(error)))?;
        Ok(Server {
            shared,
            _fork: hook,
            listeners,
            runtime: None,
            http,
            resp,
            process: std::process::id(),
        })
    }

    /// Answers on the bound ports, in the background.
    ///
    /// # Errors
    /// [`StartError::Runtime`].
    pub fn serve(&mut self) -> Result<(), StartError> {
        if !self.is_here() {
            let why = "this process was forked from the one that serves";
            return Err(StartError::Runtime(std::io::Error::other(why)));
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(self.shared.config.threads())
            .thread_name("atbr-server")
            .enable_all()
            .build()
            .map_err(StartError::Runtime)?;
        for (door, listener) in self.listeners.drain(..) {
            let _inside = runtime.enter();
            let listener =
                tokio::net::TcpListener::from_std(listener).map_err(StartError::Runtime)?;
            listen::spawn(door, listener, Arc::clone(&self.shared));
        }
        resp::spawn_housekeeping(&runtime, &self.shared);
        self.runtime = Some(runtime);
        Ok(())
    }

    /// Whether this is the process that serves. Elsewhere a lock may be held by a thread that is not there.
    fn is_here(&self) -> bool {
        self.process == std::process::id()
    }

    /// Where HTTP and WebSocket listen.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Where the Redis protocol listens.
    pub fn resp_addr(&self) -> Option<SocketAddr> {
        self.resp
    }

    /// What is served.
    pub fn databases(&self) -> &Arc<Databases> {
        &self.shared.databases
    }

    /// Reads the files of secrets, of the certificate and of its key again; connections that have authenticated stay.
    ///
    /// # Errors
    /// What is wrong with a file; all is then as it was.
    pub fn reload_secrets(&self) -> std::io::Result<()> {
        if !self.is_here() {
            return Ok(());
        }
        let Some(tls) = &self.shared.tls else {
            return self.shared.secrets.reload();
        };
        let ready = tls.read_again().map_err(std::io::Error::from)?;
        self.shared.secrets.reload()?;
        tls.renew(ready);
        Ok(())
    }

    /// Stops listening, and asks every connection to end after what it is doing.
    pub fn begin_shutdown(&self) {
        if self.is_here() {
            self.shared.begin_shutdown();
        }
    }

    /// Whether a shutdown was asked for, by [`Server::begin_shutdown`] or by a client.
    pub fn is_shutting_down(&self) -> bool {
        !self.is_here() || self.shared.shutdown.has_begun()
    }

    /// Whether a client asked for a shutdown after which nothing is saved.
    pub fn saves_nothing(&self) -> bool {
        self.shared.shutdown.saves_nothing()
    }

    /// Waits until a shutdown is asked for, at most so long; returns whether it was.
    pub fn wait_for_shutdown(&self, timeout: Duration) -> bool {
        !self.is_here() || self.shared.shutdown.wait_for_begin(timeout)
    }

    /// Waits for connections to end, at most so long, and then ends what is left; returns whether all had ended.
    pub fn join(mut self, timeout: Duration) -> bool {
        self.stop(timeout)
    }

    fn stop(&mut self, timeout: Duration) -> bool {
        if !self.is_here() {
            // Its descriptors are closed, and their numbers may be others' by now.
            std::mem::forget((self.runtime.take(), std::mem::take(&mut self.listeners)));
            return true;
        }
        let Some(runtime) = self.runtime.take() else {
            return true;
        };
        self.shared.begin_shutdown();
        let deadline = Instant::now() + timeout;
        let drained = self.shared.connections.wait_until_none(deadline);
        runtime.shutdown_timeout(Duration::from_millis(500));
        drained
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop(Duration::from_millis(200));
    }
}
