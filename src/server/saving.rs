//! All databases into files of the data folder: number 0 into FILE, number n into FILE.dbn.

use std::ops::ControlFlow;
use std::path::PathBuf;

use super::Shared;
use super::files::{DataFolder, Refused};
use crate::files::tsv::{self, SaveOptions, SaveReport};

/// What was saved.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Saved {
    /// Of all files together.
    pub(crate) report: SaveReport,
    pub(crate) databases: u32,
}

/// Why a database was not saved. Those before it are.
#[derive(Debug)]
pub(crate) enum NotSaved {
    /// The file cannot be. Holds its name.
    File(String, Refused),
    /// The store cannot be written there.
    Store(crate::Error),
}

impl Shared {
    /// Saves all databases; what is there stays until a file is complete. What expires is left out.
    ///
    /// # Errors
    /// [`NotSaved`].
    pub(crate) fn save_all(&self, folder: &DataFolder, name: &[u8]) -> Result<Saved, NotSaved> {
        let mut saved = Saved::default();
        let options = SaveOptions {
            escape: self.config.tsv.escape(),
            skip_expiring: true,
        };
        for db in self.databases.written() {
            let Some(store) = self.databases.get(db) else {
                continue;
            };
            let mut name = name.to_vec();
            if db > 0 {
                name.extend_from_slice(format!(".db{db}").as_bytes());
            }
            let shown = String::from_utf8_lossy(&name).into_owned();
            let file = match folder.replace(&name) {
                Ok(file) => file,
                Err(why) => return Err(NotSaved::File(shown, why)),
            };
            let mut progress = |_: &tsv::Progress| ControlFlow::Continue(());
            let report =
                tsv::save_into(&store, file, &PathBuf::from(shown), &options, &mut progress);
            let report = report.map_err(NotSaved::Store)?;
            saved.report.rows += report.rows;
            saved.report.skipped += report.skipped;
            saved.report.bytes += report.bytes;
            saved.report.seconds += report.seconds;
            saved.databases += 1;
        }
        Ok(saved)
    }

    /// As [`Shared::save_all`], for SAVE of the Redis protocol.
    ///
    /// # Errors
    /// One sentence.
    pub(crate) fn save_to_data_dir(&self, name: &str) -> Result<(), String> {
        if self.config.readonly {
            return Err("the server takes no writes".into());
        }
        let folder = self
            .files
            .as_ref()
            .ok_or("no data folder was given: start with --data-dir")?;
        let saved = self.save_all(folder, name.as_bytes());
        saved.map(drop).map_err(|error| match error {
            NotSaved::Store(error) => error.to_string(),
            NotSaved::File(name, Refused::Name(why) | Refused::Forbidden(why)) => {
                format!("{name}: {why}")
            }
            NotSaved::File(name, Refused::Missing) => format!("{name}: there is no such folder"),
            NotSaved::File(name, Refused::Io(error)) => format!("{name}: {error}"),
        })
    }
}
