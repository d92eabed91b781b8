//! TSV load and save, held against a HashMap and a naive splitter.

mod faults;
mod load;
mod save;

use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, fs, process};

use atbr::engine::{Filter, Keep, Options, Page, Store};
use atbr::files::tsv::{self, LoadFailure, LoadOptions, LoadReport, Progress};

type Map = HashMap<Vec<u8>, Vec<u8>>;

/// A folder of its own, gone with its content at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("atbr-tsv-{}-{number}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// In a child: the folder that its parent will remove.
    fn of_child() -> ManuallyDrop<Folder> {
        ManuallyDrop::new(Folder(env::var_os(CHILD_FOLDER).unwrap().into()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn new_store() -> Store {
    Store::new(&Options::default()).unwrap()
}

fn contents(store: &Store) -> Map {
    let mut map = Map::new();
    let mut page = Page::default();
    let mut cursor = 0;
    loop {
        cursor = store
            .scan(cursor, &Filter::default(), 1000, true, &mut page)
            .unwrap();
        for index in 0..page.len() {
            map.insert(page.key(index).to_vec(), page.value(index).to_vec());
        }
        if cursor == 0 {
            return map;
        }
    }
}

fn quiet(_: &Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn load(store: &Store, path: &Path, options: &LoadOptions) -> Result<LoadReport, LoadFailure> {
    tsv::load(store, path, options, &mut quiet)
}

/// Through the bulk load, whatever the size.
fn bulk(threads: usize, keep: Keep, round_bytes: usize) -> LoadOptions {
    LoadOptions {
        threads: Some(threads),
        keep,
        round_bytes,
        bulk_from: 0,
        ..LoadOptions::default()
    }
}

/// Row by row, whatever the size.
fn one_by_one(keep: Keep) -> LoadOptions {
    LoadOptions {
        keep,
        bulk_from: u64::MAX,
        ..LoadOptions::default()
    }
}

/// `rows` rows of different keys: 16 bytes of key, 32 of value.
fn numbered_rows(rows: u64) -> Vec<u8> {
    let mut text = Vec::with_capacity(rows as usize * 50);
    for row in 0..rows {
        let scattered = row.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        text.extend_from_slice(format!("{row:016}\t{scattered:032}\n").as_bytes());
    }
    text
}

/// Fails unless the store holds exactly the first `rows` rows of [`numbered_rows`].
fn assert_prefix(store: &Store, rows: u64) {
    let found = contents(store);
    assert_eq!(found.len() as u64, rows);
    for key in found.keys() {
        let number: u64 = std::str::from_utf8(key).unwrap().parse().unwrap();
        assert!(
            number < rows,
            "row {number} is in, but only {rows} rows should be"
        );
    }
}

/// Names the folder that a child shall use.
const CHILD_FOLDER: &str = "ATBR_TEST_FOLDER";

/// Runs one ignored test of this binary in a process of its own, for what would disturb the others.
fn in_child(test: &str, folder: &Folder) -> Output {
    let output = Command::new(env::current_exe().unwrap())
        .env(CHILD_FOLDER, &folder.0)
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "--test-threads=1",
            test,
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("running 1 test"), "no test {test}: {text}");
    output
}

fn assert_child_passes(test: &str) {
    let output = in_child(test, &Folder::new());
    assert!(
        output.status.success(),
        "{test}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
