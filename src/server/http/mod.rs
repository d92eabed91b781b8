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
mod listing;
mod load;
mod original;
mod path;
mod problem;
mod reply;
mod routes;
mod socket;

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;

use crate::engine::Store;
use crate::server::{Config, Shared};
use conditional::Tagger;
use connection::Link;
pub(crate) use connection::serve;
use consumers::{Consumers, Held};
use guard::Guard;
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
