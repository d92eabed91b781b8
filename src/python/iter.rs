//! Iterators over keys, values and items. Each fetches pages from the store's scan, detached; no lock of the store is
//! held while Python code runs.

use std::sync::Arc;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;

use super::convert::{self, Built, Kind};
use super::errors::raise;
use super::gil;
use super::lookup::Reader;
use super::store::PyStore;
use super::ttl;
use super::turn::{Turn, Turns};
use crate::Error;
use crate::engine::{Block, Filter, Page, Store};
use crate::limits::SMALL_VALUE_LEN;

/// Entries a page holds unless the caller says otherwise: a fraction of a millisecond.
const PAGE: usize = 1_024;

/// What an iterator yields.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Keys.
    Keys,
    /// Values.
    Values,
    /// (key, value) tuples.
    Items,
    /// (key, value, seconds left) tuples.
    ItemsWithTtl,
}

/// An iterator over a store's entries, weakly consistent.
#[pyclass(frozen, name = "EntryIterator", module = "atbr._core")]
pub struct Entries {
    store: Arc<Store>,
    reader: Reader,
    what: What,
    filter: Filter,
    count: usize,
    state: Turns<State>,
}

struct State {
    page: Page,
    next: usize,
    /// Where the next page starts; None after the last one.
    cursor: Option<u64>,
}

/// An object, or the bytes of one that could not be built under the lock.
enum Part {
    Object(Py<PyAny>),
    Bytes(Vec<u8>),
    /// A big value, which is copied outside the lock, and without the GIL.
    Big(Block),
    Absent,
}

/// An entry on its way out of a page.
struct Taken {
    key: Part,
    value: Part,
    /// The key's bytes, where a message may have to name it.
    named: Vec<u8>,
    time_left: Option<u64>,
}

impl Entries {
    /// An iterator that has not fetched anything yet; `count` 0 leaves the page size to it.
    pub fn new(
        store: Arc<Store>,
        reader: Reader,
        what: What,
        filter: Filter,
        count: usize,
    ) -> Entries {
        let state = State {
            page: Page::default(),
            next: 0,
            cursor: Some(0),
        };
        let count = if count == 0 {
            PAGE
        } else {
            count.min(64 * PAGE)
        };
        Entries {
            store,
            reader,
            what,
            filter,
            count,
            state: Turns::new(state),
        }
    }

    /// Fetches the next page; false at the end.
    fn fetch(&self, py: Python<'_>, mut state: Turn<'_, State>) -> PyResult<bool> {
        // A fetch that panics is the last one.
        let Some(cursor) = state.cursor.take() else {
            return Ok(false);
        };
        let mut page = std::mem::take(&mut state.page);
        state.next = 0;
        let values = self.what != What::Keys;
        let next = gil::detach(py, || {
            self.store
                .scan(cursor, &self.filter, self.count, values, &mut page)
        });
        // A scan of a closed store finds nothing, which must not look like the end.
        let next = match next {
            Ok(_) if page.is_empty() && self.store.is_closed() => Err(Error::Closed),
            next => next,
        };
        state.cursor = Some(next.map_err(raise)?).filter(|&cursor| cursor != 0);
        state.page = page;
        Ok(true)
    }

    /// Builds without running Python code, so that it may be called under the iterator's lock.
    fn part(py: Python<'_>, kind: Kind, data: &[u8]) -> PyResult<Part> {
        match convert::build(py, kind, data) {
            // SAFETY: build returns a new reference.
            Built::Object(object) => Ok(Part::Object(
                unsafe { Bound::from_owned_ptr(py, object.as_ptr()) }.unbind(),
            )),
            Built::Undecodable => Ok(Part::Bytes(data.to_vec())),
            Built::NoMemory => Err(PyErr::fetch(py)),
        }
    }

    /// The next entry, or None if the page is used up.
    fn take(&self, py: Python<'_>, state: &mut State) -> PyResult<Option<Taken>> {
        let index = state.next;
        if index >= state.page.len() {
            return Ok(None);
        }
        state.next += 1;
        let key = match self.what {
            What::Values => Part::Absent,
            _ => Self::part(py, self.reader.keys, state.page.key(index))?,
        };
        let value = match self.what {
            What::Keys => Part::Absent,
            _ => match state.page.shared(index) {
                Some(block) if block.value().len() > SMALL_VALUE_LEN => Part::Big(block.clone()),
                _ => Self::part(py, self.reader.values, state.page.value(index))?,
            },
        };
        let named = match (&key, &value) {
            (Part::Bytes(_), _) | (_, Part::Bytes(_) | Part::Big(_)) => {
                state.page.key(index).to_vec()
            }
            _ => Vec::new(),
        };
        Ok(Some(Taken {
            key,
            value,
            named,
            time_left: state.page.time_left(index),
        }))
    }

    fn finish(
        &self,
        py: Python<'_>,
        part: Part,
        key: &[u8],
        is_key: bool,
    ) -> PyResult<Option<Py<PyAny>>> {
        match part {
            Part::Absent => Ok(None),
            Part::Object(object) => Ok(Some(object)),
            Part::Big(block) => {
                let object = self.reader.object(py, block.value(), key)?;
                Ok(Some(object.unbind()))
            }
            Part::Bytes(data) => {
                let data = if is_key { key } else { &data };
                convert::decode(py, self.reader.errors, data, key)
                    .map(|object| Some(object.unbind()))
            }
        }
    }
}

/// Return an iterator over a store's values; `Store.values()` is the public way.
#[pyfunction]
pub fn iter_values(store: &Bound<'_, PyStore>) -> PyResult<Entries> {
    store.get().entries(What::Values, Filter::default(), 0)
}

/// Return an iterator over a store's (key, value) pairs; `Store.items()` is the public way.
#[pyfunction]
pub fn iter_items(store: &Bound<'_, PyStore>) -> PyResult<Entries> {
    store.get().entries(What::Items, Filter::default(), 0)
}

#[pymethods]
impl Entries {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        loop {
            let mut state = self.state.wait(py)?;
            if let Some(taken) = self.take(py, &mut state)? {
                // Tuples and exceptions can start the garbage collector, and it can run anything.
                drop(state);
                let key = self.finish(py, taken.key, &taken.named, true)?;
                let value = self.finish(py, taken.value, &taken.named, false)?;
                return match (key, value) {
                    (Some(key), Some(value)) if self.what == What::ItemsWithTtl => {
                        let left = ttl::left(taken.time_left);
                        Ok(Some((key, value, left).into_py_any(py)?))
                    }
                    (Some(key), Some(value)) => Ok(Some((key, value).into_py_any(py)?)),
                    (one, other) => Ok(one.or(other)),
                };
            }
            if !self.fetch(py, state)? {
                return Ok(None);
            }
            py.check_signals()?;
        }
    }
}
