//! HTTP and WebSocket: the paths of 2012, an API beside them, and the rules of who may use them.

mod batch;
mod body;
mod conditional;
mod connection;
mod console;
mod consumers;
mod door;
mod figures;
mod guard;
mod json;
mod keys;
mod link;
mod listing;
mod load;
mod original;
mod path;
#[cfg(any(fuzzing, test))]
mod probe;
mod problem;
mod reply;
mod routes;
mod socket;
mod unread;
mod watched;

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;

use crate::engine::Store;
use crate::server::{Config, Shared};
use conditional::Tagger;
pub(crate) use connection::serve;
use consumers::{Consumers, Held};
use guard::Guard;
use link::Link;
#[cfg(fuzzing)]
pub use probe::Probe;
use problem::Problem;

/// Work on more bytes than this leaves the threads of the network.
const LARGE: usize = 1 << 20;

/// What the connections of HTTP share.
pub(crate) struct Http {
    guard: Guard,
    tagger: Tagger,
    router: Router,
    consumers: Arc<Consumers>,
    /// A load or a save is running.
    is_busy: AtomicBool,
}

impl Http {
    pub(crate) fn new(config: &Config) -> Http {
        Http {
            guard: Guard::new(config),
            tagger: Tagger::new(),
            router: routes::router(),
            consumers: Arc::default(),
            is_busy: AtomicBool::new(false),
        }
    }
}

/// A handle of the server, for what answers requests.
#[derive(Clone)]
struct App(Arc<Shared>);

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl App {
    /// A database; None where nothing was ever written to it.
    #[inline]
    fn store(&self, db: u8) -> Option<Arc<Store>> {
        self.databases.get(db)
    }

    fn store_to_write(&self, db: u8) -> Result<Arc<Store>, Problem> {
        Ok(self.databases.get_or_make(db)?)
    }

    fn check_writable(&self) -> Result<(), Problem> {
        match self.config.readonly {
            true => Err(Problem::new(403, "readonly", "the server takes no writes")),
            false => Ok(()),
        }
    }

    /// Counts memory that a connection holds.
    fn hold(&self, link: &Link) -> Held {
        let most = self.config.limits.max_buffers;
        self.http.consumers.hold(&link.consumer, most)
    }

    /// Takes the one place for a load or a save.
    fn begin_file_work(&self) -> Result<FileWork, Problem> {
        if self.http.is_busy.swap(true, Ordering::Acquire) {
            return Err(Problem::new(409, "busy", "another load or save is running"));
        }
        Ok(FileWork(self.clone()))
    }
}

/// The place for a load or a save, given back when it goes.
struct FileWork(App);

impl Drop for FileWork {
    fn drop(&mut self) {
        self.0.http.is_busy.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::time::Duration;

    use super::*;
    use crate::engine::{Databases, Options};
    use crate::server::{Secrets, Server};

    fn ask(stream: &mut TcpStream, path: &str) {
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    }

    fn connected(address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).unwrap();
        let limit = Some(Duration::from_secs(30));
        stream.set_read_timeout(limit).unwrap();
        stream
    }

    #[test]
    fn a_panic_ends_its_own_connection_and_no_other() {
        let zero = Arc::new(Store::new(&Options::default()).unwrap());
        let config = Config {
            http: Some(0),
            resp: None,
            ..Config::default()
        };
        let databases = Arc::new(Databases::new(zero).unwrap());
        let server = Server::start(config, Secrets::default(), databases).unwrap();
        let address = server.http_addr().unwrap();
        let mut other = connected(address);
        for _ in 0..3 {
            let mut panics = connected(address);
            ask(&mut panics, "/panic");
            let mut answer = Vec::new();
            // Reset, or closed without a word.
            let _ = panics.read_to_end(&mut answer);
            assert!(answer.is_empty());
            ask(&mut other, "/health");
            let mut start = [0; 12];
            other.read_exact(&mut start).unwrap();
            assert_eq!(&start, b"HTTP/1.1 200");
            let mut rest = [0; 4096];
            assert!(other.read(&mut rest).unwrap() > 0);
        }
        drop(other);
        assert!(
            server.join(Duration::from_secs(30)),
            "a connection's place was not given back"
        );
    }
}
