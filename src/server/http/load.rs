//! Loading and saving: files of the data folder with progress as lines of JSON, and rows in a request's body.

use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::Request;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::body::Reader;
use super::json::Key;
use super::link::Link;
use super::path::Query;
use super::problem::Problem;
use super::routes::Result;
use super::{App, FileWork, reply};
use crate::files::tsv::{self, LoadFailure, LoadOptions, LoadReport, Progress};
use crate::server::files::DataFolder;
use crate::server::offload::Offload;
use crate::server::saving::NotSaved;

/// Lines of progress that wait for a slow client; more are left out.
const WAITING_LINES: usize = 4;
/// Parts of a body that wait for their rows to be set.
const WAITING_PARTS: usize = 4;
/// Files that are listed.
const MOST_FILES: usize = 10_000;

/// `GET /v1/files`: what could be loaded.
pub(super) async fn files(Extension(app): Extension<App>) -> Result {
    let worker = app.clone();
    app.offload
        .run(move || {
            let names = worker.data_folder()?.names(MOST_FILES);
            let names =
                names.map_err(|error| Problem::new(500, "file_error", error.to_string()))?;
            let files: Vec<_> = names.iter().map(|name| Key::new(name)).collect();
            Ok(reply::json(&json!({"files": files})))
        })
        .await
}

/// `POST /v1/load?file=`: lines of progress, and at the end what was done or what went wrong.
pub(super) async fn load_file(
    Extension(app): Extension<App>,
    Extension(link): Extension<Arc<Link>>,
    request: Request,
) -> Result {
    app.check_writable()?;
    let query = Query::new(request.uri().query());
    let db = query.database()?;
    let name = file_name(query)?;
    let (file, shown) = app.open(&name)?;
    let work = app.begin_file_work()?;
    let (sender, lines) = reply::Lines::new(WAITING_LINES, link);
    tokio::task::spawn_blocking(move || {
        let mut progress = |progress: &Progress| {
            let line = line(&progress_json(progress));
            match sender.try_send(line) {
                // Nobody listens any more.
                Err(mpsc::error::TrySendError::Closed(_)) => ControlFlow::Break(()),
                _ if app.shutdown.has_begun() => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        };
        let loaded = app.load_now(db, &file, shown, &mut progress);
        drop(work);
        let last = match loaded {
            Ok(report) => report_json(&report),
            Err(problem) => json!({"error": problem.json()}),
        };
        let _ = sender.blocking_send(line(&last));
    });
    Ok(lines.into_response())
}

/// `PUT /v1/load`: the rows of the body. A client that leaves ends it; the rows loaded by then stay.
pub(super) async fn load_body(Extension(app): Extension<App>, request: Request) -> Result {
    app.check_writable()?;
    let (parts, body) = request.into_parts();
    let db = Query::new(parts.uri.query()).database()?;
    let mut body = Reader::new(&app, &parts.headers, body, u64::MAX)?;
    let work = app.begin_file_work()?;
    let (sender, receiver) = mpsc::channel(WAITING_PARTS);
    let worker = app.clone();
    let loading = tokio::task::spawn_blocking(move || {
        let _work: FileWork = work;
        let store = worker.store_to_write(db)?;
        let options = worker.load_options();
        let rows = Rows {
            receiver,
            part: Bytes::new(),
        };
        let name = PathBuf::from("body");
        let mut progress = |_: &Progress| ControlFlow::Continue(());
        tsv::load_from(&store, rows, &name, &options, &mut progress).map_err(Problem::from)
    });
    let mut refused = None;
    loop {
        let part = match body.next().await {
            Ok(None) => Ok(None),
            Ok(Some(part)) => Ok(Some(part)),
            Err(problem) => {
                refused = Some(problem);
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        };
        let is_last = !matches!(part, Ok(Some(_)));
        // The loader may have stopped at a row.
        if sender.send(part).await.is_err() || is_last {
            break;
        }
    }
    drop(sender);
    let report = match loading.await {
        Ok(loaded) => loaded,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    match refused {
        Some(problem) => Err(problem),
        None => Ok(reply::json(&report_json(&report?))),
    }
}

/// `POST /v1/save?file=`.
pub(super) async fn save(Extension(app): Extension<App>, request: Request) -> Result {
    let name = file_name(Query::new(request.uri().query()))?;
    let saved = app.save_to(name).await?;
    Ok(reply::json(&saved))
}

fn file_name(query: Query<'_>) -> Result<Vec<u8>> {
    match query.get("file")? {
        Some(name) => Ok(name.into_owned()),
        None => Err(Problem::new(400, "invalid_parameter", "file is needed")),
    }
}

fn line(value: &Value) -> Vec<u8> {
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}

fn progress_json(progress: &Progress) -> Value {
    json!({
        "rows": progress.rows,
        "bytes": progress.bytes,
        "total_bytes": progress.total_bytes,
        "seconds": progress.seconds,
    })
}

fn report_json(report: &LoadReport) -> Value {
    json!({
        "done": true,
        "rows": report.rows,
        "new": report.new,
        "replaced": report.replaced,
        "evicted": report.evicted,
        "bytes": report.bytes,
        "seconds": report.seconds,
    })
}

impl App {
    fn data_folder(&self) -> Result<&DataFolder> {
        self.files.as_ref().ok_or_else(|| {
            Problem::new(
                403,
                "no_data_folder",
                "the server has no data folder; start it with --data-dir",
            )
        })
    }

    /// A file of the data folder, and the name to speak of it.
    fn open(&self, name: &[u8]) -> Result<(File, PathBuf)> {
        let file = self.data_folder()?.read(name)?;
        let shown = PathBuf::from(String::from_utf8_lossy(name).into_owned());
        Ok((file, shown))
    }

    fn load_options(&self) -> LoadOptions {
        LoadOptions {
            escape: self.config.tsv.escape(),
            // Those who ask for keys meanwhile do not want to wait.
            gives_way: true,
            ..LoadOptions::default()
        }
    }

    fn load_now(
        &self,
        db: u8,
        file: &File,
        shown: PathBuf,
        progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<LoadReport> {
        let store = self.store_to_write(db)?;
        let options = self.load_options();
        let loaded = tsv::load_file(&store, file, &shown, &options, progress);
        loaded.map_err(|failure: LoadFailure| Problem::from(failure))
    }

    /// Loads a file without a word, as the paths of 2012 do. Goes on where the client leaves, as it did.
    pub(super) async fn load_quietly(&self, name: Vec<u8>, db: u8) -> Result<()> {
        self.check_writable()?;
        let (file, shown) = self.open(&name)?;
        let work = self.begin_file_work()?;
        let app = self.clone();
        Offload::run_now(move || {
            let _work = work;
            let mut progress = |_: &Progress| match app.shutdown.has_begun() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            };
            app.load_now(db, &file, shown, &mut progress).map(drop)
        })
        .await
    }

    /// Saves all databases: number 0 to the file, number n to FILE.dbn.
    pub(super) async fn save_to(&self, name: Vec<u8>) -> Result<Value> {
        self.check_writable()?;
        self.data_folder()?;
        let work = self.begin_file_work()?;
        let app = self.clone();
        Offload::run_now(move || {
            let _work = work;
            app.save_now(&name)
        })
        .await
    }

    fn save_now(&self, name: &[u8]) -> Result<Value> {
        let saved = match self.save_all(self.data_folder()?, name) {
            Ok(saved) => saved,
            Err(NotSaved::File(_, refused)) => return Err(refused.into()),
            Err(NotSaved::Store(error)) => return Err(error.into()),
        };
        Ok(json!({
            "rows": saved.report.rows,
            "expiring_left_out": saved.report.skipped,
            "bytes": saved.report.bytes,
            "databases": saved.databases,
            "seconds": saved.report.seconds,
        }))
    }
}

/// A body as something to read from.
struct Rows {
    receiver: mpsc::Receiver<io::Result<Option<Bytes>>>,
    part: Bytes,
}

impl Read for Rows {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            match self.receiver.blocking_recv() {
                Some(Ok(Some(part))) => self.part = part,
                Some(Ok(None)) => return Ok(0),
                Some(Err(error)) => return Err(error),
                // The client has left.
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let len = self.part.len().min(into.len());
        into[..len].copy_from_slice(&self.part.split_to(len));
        Ok(len)
    }
}
