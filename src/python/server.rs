//! The class `atbr._core.Server`: a server over a store and its fifteen siblings. Whatever waits does so detached, and no
//! thread of the server ever attaches.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use super::errors::raise;
use super::gil;
use super::live;
use super::lookup::Reader;
use super::store::PyStore;
use crate::engine::{Databases, Options};
use crate::server::{self, Config, Limits, Secrets, Server, StartError, TlsFiles, Tsv};

/// The compiled part of `atbr.server.Server`; use that class.
#[pyclass(frozen, weakref, name = "Server", module = "atbr._core")]
pub struct PyServer {
    databases: Arc<Databases>,
    /// How the handle that is served reads, and what its store was made with. No Python object, so that none is kept
    /// from being collected.
    reader: Reader,
    options: Options,
    /// Empty in the child of a fork, whatever is written here.
    /// The standard library's lock: it has no table of waiting threads that a fork could leave locked.
    running: RwLock<Option<Server>>,
    /// The process that serves.
    process: u32,
    http: Option<(String, u16)>,
    resp: Option<(String, u16)>,
}

impl PyServer {
    /// The server, unless it has ended or is that of the process which this one was forked from.
    fn with_running<R>(&self, work: impl FnOnce(&Server) -> R) -> Option<R> {
        // A child must not touch the lock either: a thread that does not exist here may hold it.
        if self.process != std::process::id() {
            return None;
        }
        self.running
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(work)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Option<Server>> {
        self.running.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PyServer {
    fn drop(&mut self) {
        let running = self.running.get_mut();
        let running = running.unwrap_or_else(PoisonError::into_inner).take();
        if self.process != std::process::id() {
            // Its threads do not exist here: there is nothing to wait for.
            std::mem::forget(running);
        }
    }
}

/// Longer than anything waits, and short enough to be added to any moment.
const MOST_SECONDS: f64 = 10.0 * 365.0 * 86_400.0;

fn duration(seconds: f64) -> PyResult<Duration> {
    let duration = Duration::try_from_secs_f64(seconds).ok();
    let duration = duration.filter(|_| seconds <= MOST_SECONDS);
    duration.ok_or_else(|| {
        PyValueError::new_err(format!("{seconds} is no number of seconds up to ten years"))
    })
}

/// A time that has to pass before something ends.
fn timeout(name: &str, seconds: f64) -> PyResult<Duration> {
    match duration(seconds)? {
        Duration::ZERO => Err(PyValueError::new_err(format!("{name}= must be above 0"))),
        timeout => Ok(timeout),
    }
}

fn tls_files(cert: Option<PathBuf>, key: Option<PathBuf>) -> PyResult<Option<TlsFiles>> {
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some(TlsFiles { cert, key })),
        (None, None) => Ok(None),
        _ => Err(PyValueError::new_err(
            "tls_cert= and tls_key= need each other",
        )),
    }
}

fn tsv(name: &str) -> PyResult<Tsv> {
    match name {
        "backslash" => Ok(Tsv::Backslash),
        "plain" => Ok(Tsv::Plain),
        _ => Err(PyValueError::new_err(format!(
            "tsv= must be 'backslash' or 'plain', not {name:?}"
        ))),
    }
}

fn start_error(error: StartError) -> PyErr {
    let message = error.to_string();
    match error {
        StartError::Unprotected { .. } => PyValueError::new_err(message),
        StartError::Port { source, .. }
        | StartError::DataFolder { source, .. }
        | StartError::Runtime(source) => os_error(&source, message),
        StartError::Tls(error) => os_error(error.source(), message),
    }
}

fn os_error(source: &std::io::Error, message: String) -> PyErr {
    let message = without_number(message);
    match source.raw_os_error() {
        Some(errno) => PyOSError::new_err((errno, message)),
        None => std::io::Error::new(source.kind(), message).into(),
    }
}

/// Takes out the " (os error 2)" that Rust adds to what the system said.
fn without_number(mut message: String) -> String {
    if let Some(start) = message.find(" (os error ")
        && let Some(len) = message[start..].find(')')
    {
        message.replace_range(start..=start + len, "");
    }
    message
}

#[pymethods]
impl PyServer {
    #[new]
    #[pyo3(signature = (store, *, http, resp, host, secrets, secret_files, threads, data_dir, closed_files, readonly,
        disabled_commands, cors_origins, allowed_hosts, tls_cert, tls_key, tsv, max_connections, max_unauthenticated,
        max_value, max_request_line, max_headers, max_buffers, idle_timeout, stall_timeout, unauthenticated_timeout,
        debug_commands))]
    #[allow(clippy::too_many_arguments)] // one for each keyword of the class
    fn new(
        store: &Bound<'_, PyStore>,
        http: Option<u16>,
        resp: Option<u16>,
        host: String,
        secrets: Vec<Vec<u8>>,
        secret_files: Vec<PathBuf>,
        threads: usize,
        data_dir: Option<PathBuf>,
        closed_files: Vec<PathBuf>,
        readonly: bool,
        disabled_commands: Vec<String>,
        cors_origins: Vec<String>,
        allowed_hosts: Vec<String>,
        tls_cert: Option<PathBuf>,
        tls_key: Option<PathBuf>,
        tsv: &str,
        max_connections: Option<usize>,
        max_unauthenticated: Option<usize>,
        max_value: Option<usize>,
        max_request_line: Option<usize>,
        max_headers: Option<usize>,
        max_buffers: Option<usize>,
        idle_timeout: Option<f64>,
        stall_timeout: Option<f64>,
        unauthenticated_timeout: Option<f64>,
        debug_commands: bool,
    ) -> PyResult<PyServer> {
        let limits = Limits::default();
        let seconds =
            |name, given: Option<f64>| given.map(|given| timeout(name, given)).transpose();
        let config = Config {
            host,
            http,
            resp,
            threads,
            data_dir,
            secret_files: secret_files.iter().cloned().chain(closed_files).collect(),
            readonly,
            disabled_commands,
            cors_origins,
            allowed_hosts,
            tls: tls_files(tls_cert, tls_key)?,
            tsv: self::tsv(tsv)?,
            debug_commands,
            limits: Limits {
                max_connections: max_connections.unwrap_or(limits.max_connections),
                max_unauthenticated: max_unauthenticated.unwrap_or(limits.max_unauthenticated),
                max_value: max_value.unwrap_or(limits.max_value),
                max_request_line: max_request_line.unwrap_or(limits.max_request_line),
                max_headers: max_headers.unwrap_or(limits.max_headers),
                max_buffers: max_buffers.unwrap_or(limits.max_buffers),
                idle_timeout: seconds("idle_timeout", idle_timeout)?,
                stall_timeout: seconds("stall_timeout", stall_timeout)?
                    .unwrap_or(limits.stall_timeout),
                unauthenticated_timeout: seconds(
                    "unauthenticated_timeout",
                    unauthenticated_timeout,
                )?
                .unwrap_or(limits.unauthenticated_timeout),
            },
        };
        let (py, handle) = (store.py(), store.get());
        handle.check_open()?;
        let zero = Arc::clone(handle.engine());
        let (databases, server) = gil::detach(py, || {
            let databases = Arc::new(Databases::new(zero).map_err(Failure::Engine)?);
            let secrets = Secrets::new(secrets, secret_files).map_err(Failure::Secrets)?;
            let server =
                Server::bind(config, secrets, Arc::clone(&databases)).map_err(Failure::Start)?;
            Ok((databases, server))
        })
        .map_err(|failure| match failure {
            Failure::Engine(error) => raise(error),
            Failure::Secrets(error) => os_error(&error, error.to_string()),
            Failure::Start(error) => start_error(error),
        })?;
        let place = |address: Option<std::net::SocketAddr>| {
            address.map(|address| (address.ip().to_string(), address.port()))
        };
        Ok(PyServer {
            databases,
            reader: *handle.reader(),
            options: handle.options().clone(),
            http: place(server.http_addr()),
            resp: place(server.resp_addr()),
            running: RwLock::new(Some(server)),
            process: std::process::id(),
        })
    }

    /// Answer on the ports, which are bound already.
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        gil::detach(py, || match &mut *self.write() {
            Some(server) => server.serve(),
            None => Ok(()),
        })
        .map_err(start_error)
    }

    /// Address and port of HTTP.
    #[getter]
    fn http(&self) -> Option<(String, u16)> {
        self.http.clone()
    }

    /// Address and port of the Redis protocol.
    #[getter]
    fn resp(&self) -> Option<(String, u16)> {
        self.resp.clone()
    }

    /// Whether it serves: not after `stop`, nor in the child of a fork.
    #[getter]
    fn running(&self, py: Python<'_>) -> bool {
        gil::detach(py, || {
            self.with_running(|server| !server.is_shutting_down()) == Some(true)
        })
    }

    /// Whether what is served may be saved at the end: not once a client has said SHUTDOWN NOSAVE.
    #[getter]
    fn saves(&self, py: Python<'_>) -> bool {
        gil::detach(py, || {
            self.with_running(|server| !server.saves_nothing()) == Some(true)
        })
    }

    /// A handle on a database, made if it is not there yet, with the types of the handle that is served.
    fn db(&self, py: Python<'_>, number: u8) -> PyResult<PyStore> {
        if number >= Databases::COUNT {
            return Err(PyValueError::new_err(format!(
                "there are databases 0 to 15, not {number}"
            )));
        }
        let store = gil::detach(py, || self.databases.get_or_make(number)).map_err(raise)?;
        live::remember(py, &store);
        Ok(PyStore::new_handle(
            store,
            self.reader,
            self.options.clone(),
        ))
    }

    /// Read the files of secrets, of the certificate and of its key again.
    fn reload_secrets(&self, py: Python<'_>) -> PyResult<()> {
        gil::detach(py, || self.with_running(Server::reload_secrets))
            .unwrap_or(Ok(()))
            .map_err(|error| os_error(&error, error.to_string()))
    }

    /// Wait for a shutdown to be asked for, at most so many seconds; return whether it was.
    fn wait(&self, py: Python<'_>, seconds: f64) -> PyResult<bool> {
        let timeout = duration(seconds)?;
        Ok(gil::detach(py, || {
            self.with_running(|server| server.wait_for_shutdown(timeout))
                .unwrap_or(true)
        }))
    }

    /// Let requests end, for at most so many seconds, and stop; return whether all of them ended. Once is enough.
    fn stop(&self, py: Python<'_>, seconds: f64) -> PyResult<bool> {
        let timeout = duration(seconds)?;
        Ok(gil::detach(py, || {
            let waited_for = self.with_running(Server::begin_shutdown);
            if waited_for.is_none() {
                return true;
            }
            let server = self.write().take();
            server.is_none_or(|server| server.join(timeout))
        }))
    }
}

/// What can go wrong at a start.
enum Failure {
    Engine(crate::Error),
    Secrets(std::io::Error),
    Start(StartError),
}

/// Write the server's log to stderr from now on; `level` and `format` are those of `atbr serve`. Once in a process.
#[pyfunction]
pub fn start_log(level: &str, format: &str) -> PyResult<()> {
    server::log::start(level, format).map_err(PyRuntimeError::new_err)
}

/// Write a line to the server's log.
#[pyfunction]
pub fn log(py: Python<'_>, level: &str, message: &str) {
    gil::detach(py, || server::log::write(level, message));
}
