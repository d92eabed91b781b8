//! All databases into files of the data folder: number 0 into FILE, number n into FILE.dbn.

use std::ops::ControlFlow;
use std::path::PathBuf;

use super::Shared;
use super::files::Refused;
use crate::files::tsv::{self, SaveOptions};

impl Shared {
    /// Saves all databases; what is there stays until a file is complete.
    ///
    /// # Errors
    /// One sentence.
    pub(crate) fn save_to_data_dir(&self, name: &str) -> Result<(), String> {
        let folder = self
            .files
            .as_ref()
            .ok_or("no data folder was given: start with --data-dir")?;
        let options = SaveOptions {
            escape: self.config.tsv.escape(),
            skip_expiring: true,
        };
        for db in self.databases.written() {
            let Some(store) = self.databases.get(db) else {
                continue;
            };
            let name = if db == 0 {
                name.to_owned()
            } else {
                format!("{name}.db{db}")
            };
            let file = folder.replace(name.as_bytes()).map_err(|why| match why {
                Refused::Name(why) | Refused::Forbidden(why) => format!("{name}: {why}"),
                Refused::Missing => format!("{name}: there is no such folder"),
                Refused::Io(error) => format!("{name}: {error}"),
            })?;
            let shown = PathBuf::from(&name);
            let mut progress = |_: &tsv::Progress| ControlFlow::Continue(());
            tsv::save_into(&store, file, &shown, &options, &mut progress)
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}
