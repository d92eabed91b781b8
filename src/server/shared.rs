//! What all doors of one server share.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::config::Config;
use super::connections::Connections;
use super::descriptors::Descriptors;
use super::files::DataFolder;
use super::http::Http;
use super::listen::StartError;
use super::offload::Offload;
use super::resp::Resp;
use super::secrets::Secrets;
use super::shutdown::Shutdown;
use super::stats::Stats;
use super::strangers::Strangers;
use super::tls::Tls;
use crate::engine::Databases;

/// One for a server, in an `Arc` that every connection holds.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) secrets: Secrets,
    pub(crate) databases: Arc<Databases>,
    pub(crate) stats: Stats,
    pub(crate) connections: Connections,
    pub(crate) descriptors: Descriptors,
    pub(crate) shutdown: Shutdown,
    pub(crate) started: Instant,
    /// Milliseconds since 1970 when the server started.
    pub(crate) started_unix: u64,
    /// What connections are encrypted with; None: they are not.
    pub(crate) tls: Option<Tls>,
    /// Clients that have not shown a secret.
    pub(crate) strangers: Strangers,
    /// Work that takes long.
    pub(crate) offload: Offload,
    /// Where clients may load from and save to; None: nowhere.
    pub(crate) files: Option<DataFolder>,
    /// What the connections of HTTP share.
    pub(crate) http: Http,
    /// What the connections of the Redis protocol share.
    pub(crate) resp: Resp,
}

impl Shared {
    /// # Errors
    /// [`StartError::DataFolder`], [`StartError::Tls`].
    pub(crate) fn new(
        config: Config,
        secrets: Secrets,
        databases: Arc<Databases>,
    ) -> Result<Shared, StartError> {
        let files = match &config.data_dir {
            None => None,
            Some(path) => {
                let key = config.tls.as_ref().map(|files| &files.key);
                let hidden = secrets
                    .files()
                    .iter()
                    .chain(&config.secret_files)
                    .chain(key);
                let folder = DataFolder::open(path, hidden.cloned().collect());
                Some(folder.map_err(|source| StartError::DataFolder {
                    path: path.clone(),
                    source,
                })?)
            }
        };
        let tls = config.tls.clone().map(Tls::new).transpose();
        let since_1970 = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Ok(Shared {
            tls: tls.map_err(StartError::Tls)?,
            strangers: Strangers::default(),
            offload: Offload::new(),
            files,
            http: Http::new(&config),
            resp: Resp::new(&config),
            config,
            secrets,
            databases,
            stats: Stats::default(),
            connections: Connections::default(),
            descriptors: Descriptors::default(),
            shutdown: Shutdown::default(),
            started: Instant::now(),
            started_unix: since_1970.as_millis() as u64,
        })
    }

    /// Asks everybody to end; who waits for a client's bytes is woken to see it.
    pub(crate) fn begin_shutdown(&self) {
        self.shutdown.begin();
        self.resp.clients.wake_all();
    }
}
