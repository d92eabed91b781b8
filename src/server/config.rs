//! What a server is told when it starts. The command line and the configuration file fill it in.

use std::path::PathBuf;
use std::time::Duration;

use super::tls::TlsFiles;
use crate::files::tsv::Escape;

/// How values with tabs and newlines are written into TSV files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tsv {
    /// Tabs, newlines and backslashes are escaped.
    #[default]
    Backslash,
    /// Bytes as they are; what plain TSV cannot hold is an error.
    Plain,
}

impl Tsv {
    /// How rows hold tabs and newlines.
    pub fn escape(self) -> Escape {
        match self {
            Tsv::Backslash => Escape::Backslash,
            Tsv::Plain => Escape::None,
        }
    }
}

/// Bounds on what clients may make the server hold.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections of all doors together.
    pub max_connections: usize,
    /// Bytes of all buffers of requests and replies together; beyond it the connection with the most is closed.
    pub max_buffers: usize,
    /// Longest value that a client may send, in bytes.
    pub max_value: usize,
    /// Longest address in a request of HTTP (never above 64 KiB), and inline command of the Redis protocol, in bytes.
    pub max_request_line: usize,
    /// All headers of a request of HTTP together, in bytes.
    pub max_headers: usize,
    /// Seconds after which a connection that sends nothing is closed; None: never.
    pub idle_timeout: Option<Duration>,
    /// How long a connection may stay without authenticating, where secrets are set.
    pub unauthenticated_timeout: Duration,
    /// Connections that have not authenticated yet.
    pub max_unauthenticated: usize,
    /// How long a reader may take nothing of a reply, and a writer send nothing, or little, of what it has begun.
    pub stall_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_connections: 20_000,
            max_buffers: 256 << 20,
            max_value: 512 << 20,
            max_request_line: 64 << 10,
            max_headers: 32 << 10,
            idle_timeout: None,
            unauthenticated_timeout: Duration::from_secs(10),
            max_unauthenticated: 100,
            stall_timeout: Duration::from_secs(60),
        }
    }
}

/// How to serve.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address or name to listen at.
    pub host: String,
    /// Port of HTTP and WebSocket; 0: any free one; None: not served.
    pub http: Option<u16>,
    /// Port of the Redis protocol; 0: any free one; None: not served.
    pub resp: Option<u16>,
    /// Threads of the network; 0: one fewer than there are processors, and at least one.
    pub threads: usize,
    /// The folder that clients may load from and save to; None: they may not.
    pub data_dir: Option<PathBuf>,
    /// Files that are never served nor written, in the data folder or not: secrets, the configuration file.
    pub secret_files: Vec<PathBuf>,
    /// Whether all writes are refused.
    pub readonly: bool,
    /// Commands that answer as if they did not exist.
    pub disabled_commands: Vec<String>,
    /// Origins that may read answers from a browser.
    pub cors_origins: Vec<String>,
    /// Names of this host that HTTP requests may use, besides its addresses and localhost.
    pub allowed_hosts: Vec<String>,
    /// What the doors encrypt with; None: nothing is encrypted. Needs the feature `tls`.
    pub tls: Option<TlsFiles>,
    /// How TSV files are written and read.
    pub tsv: Tsv,
    /// Whether DEBUG works: for tests only.
    pub debug_commands: bool,
    /// Bounds on what clients may do.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            host: "127.0.0.1".into(),
            http: Some(8888),
            resp: Some(6379),
            threads: 0,
            data_dir: None,
            secret_files: Vec::new(),
            readonly: false,
            disabled_commands: Vec::new(),
            cors_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            tls: None,
            tsv: Tsv::default(),
            debug_commands: false,
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// Threads of the network.
    pub(crate) fn threads(&self) -> usize {
        match self.threads {
            // The last one is for what else runs: loads, long commands, clients on the same machine. Threads that take
            // turns with these wake one another for nothing.
            0 => std::thread::available_parallelism().map_or(1, |n| (n.get() - 1).max(1)),
            threads => threads,
        }
    }
}
