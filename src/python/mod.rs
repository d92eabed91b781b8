//! The Python extension module `atbr._core`: the only code that knows PyO3.

mod batch;
mod convert;
mod errors;
mod expired;
mod gil;
mod handle;
mod iter;
mod live;
mod load;
mod lookup;
mod options;
#[cfg(feature = "server")]
mod server;
mod store;
mod tables;
mod ttl;
mod turn;

use pyo3::prelude::*;

/// The compiled part of atbr.
#[pymodule(gil_used = false)]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::errors::StoreFull;
    #[pymodule_export]
    use super::expired::{
        ask_to_resume, ignore_expired, on_unwatched, report_unraisable, take_expired, watch_expired,
    };
    #[cfg(debug_assertions)]
    #[pymodule_export]
    use super::handle::hold_lock;
    #[pymodule_export]
    use super::handle::{clone, share_data, stats, take, types_of};
    #[pymodule_export]
    use super::iter::{Entries, iter_items, iter_values};
    #[pymodule_export]
    use super::live::close_all;
    #[pymodule_export]
    use super::load::{LoadReport, SaveReport, load, save};
    #[cfg(feature = "server")]
    #[pymodule_export]
    use super::server::{PyServer, log, start_log};
    #[pymodule_export]
    use super::store::PyStore;
    #[pymodule_export]
    use super::tables::{
        KeyCodec, LocalMap, PackedKeys, RedisPacker, bucket_positions, cut_pairs, pack,
        postgresql_array, postgresql_copy, sorted_pairs, unpack,
    };
    #[pymodule_export]
    use super::ttl::ManualClock;
    /// Under the import lock, which a fork waits for.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::engine::prepare_for_forks();
        // Not by the first ttl: a process forked during an import finds the module's lock taken for good.
        pyo3::types::PyDelta::new(module.py(), 0, 0, 0, false)?;
        Ok(())
    }

    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
