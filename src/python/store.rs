//! The class `atbr._core.Store`: one handle on an engine store, and its operations on single keys. Holds no Python
//! objects, so it takes no part in garbage collection.

use std::sync::Arc;

use pyo3::exceptions::{PyKeyError, PyTypeError};
use pyo3::prelude::*;

use super::batch;
use super::convert::{self, Kind};
use super::errors::raise;
use super::gil;
use super::iter::{Entries, What};
use super::live;
use super::lookup::Reader;
use super::options::{self, Maybe, check_room};
use super::ttl::{self, ManualClock};
use crate::engine::{Filter, Glob, Options, Popped, Store, Ttl, Wait};
use crate::{Error, Result};

/// The compiled part of `atbr.Store`; use that class.
#[pyclass(
    frozen,
    subclass,
    weakref,
    generic,
    name = "Store",
    module = "atbr._core"
)]
pub struct PyStore {
    store: Arc<Store>,
    reader: Reader,
    /// What the store was made with, for copies; without the capacity.
    options: Options,
}

impl PyStore {
    /// A handle on a store.
    pub fn new_handle(store: Arc<Store>, reader: Reader, options: Options) -> PyStore {
        PyStore {
            store,
            reader,
            options,
        }
    }

    /// The engine's store.
    pub fn engine(&self) -> &Arc<Store> {
        &self.store
    }

    /// What the store was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// How this handle reads.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    #[inline(always)]
    fn key<'a>(&self, key: &'a Bound<'_, PyAny>) -> PyResult<convert::Input<'a>> {
        convert::key(key, self.reader.errors)
    }

    #[inline(always)]
    fn value<'a>(&self, value: &'a Bound<'_, PyAny>) -> PyResult<convert::Input<'a>> {
        convert::value(value, self.reader.values, self.reader.errors)
    }

    #[inline(always)]
    fn write(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>, ttl: Ttl) -> PyResult<()> {
        let (key_bytes, value) = (self.key(key)?, self.value(value)?);
        self.reader
            .write_value(key.py(), value.len(), |wait| {
                self.store.set_with(&key_bytes, &value, ttl, wait)
            })
            .map_err(raise)?;
        Ok(())
    }

    /// After a miss: a closed store finds nothing, so that hits need not ask.
    #[inline]
    pub fn check_open(&self) -> PyResult<()> {
        if self.store.is_closed() {
            Err(raise(Error::Closed))
        } else {
            Ok(())
        }
    }

    #[cold]
    fn missing(&self, key: &Bound<'_, PyAny>) -> PyErr {
        match self.check_open() {
            Err(closed) => closed,
            Ok(()) => PyKeyError::new_err((key.clone().unbind(),)),
        }
    }

    /// An iterator over the entries.
    pub fn entries(&self, what: What, filter: Filter, count: usize) -> PyResult<Entries> {
        self.check_open()?;
        Ok(Entries::new(
            Arc::clone(&self.store),
            self.reader,
            what,
            filter,
            count,
        ))
    }

    /// The key and the value of what was taken out; what cannot be given back must not be lost, and is put back.
    pub fn objects_of<'py>(
        &self,
        py: Python<'py>,
        popped: &Popped,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let (key, value) = (&popped.key, &popped.value);
        let objects = self.reader.key_object(py, key).and_then(|key_object| {
            let value_object = self.reader.object(py, value, key)?;
            Ok((key_object, value_object))
        });
        if objects.is_err() {
            let ttl = popped.time_left.map_or(Ttl::Never, Ttl::Millis);
            self.with_engine(py, |store| store.add(key, value, ttl, Wait::Block))?;
        }
        objects
    }

    /// Runs an operation of the engine detached.
    pub fn with_engine<R>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&Store) -> Result<R>,
    ) -> PyResult<R> {
        gil::detach(py, || work(&self.store)).map_err(raise)
    }
}

impl Drop for PyStore {
    /// Frees what nobody else can reach with the thread detached: that takes a while where it is much.
    fn drop(&mut self) {
        if Arc::strong_count(&self.store) == 1 {
            Python::attach(|py| gil::detach(py, || self.store.close()));
        }
    }
}

#[pymethods]
impl PyStore {
    #[new]
    #[pyo3(signature = (*, values=None, keys=None, errors=None, capacity=0, hasher="fast", seed=None, release_gil=None, ttl=None, clock=None, maxsize=None, max_bytes=None, on_full="evict", share=None))]
    #[allow(clippy::too_many_arguments)] // one for each keyword of the class
    fn new(
        py: Python<'_>,
        values: Option<&Bound<'_, PyAny>>,
        keys: Option<&Bound<'_, PyAny>>,
        errors: Option<&str>,
        capacity: usize,
        hasher: &str,
        seed: Option<u64>,
        release_gil: Option<&str>,
        ttl: Option<&Bound<'_, PyAny>>,
        clock: Option<&Bound<'_, ManualClock>>,
        maxsize: Option<u64>,
        max_bytes: Option<u64>,
        on_full: &str,
        share: Option<&Bound<'_, PyStore>>,
    ) -> PyResult<PyStore> {
        let reader = options::reader(share, keys, values, errors, release_gil)?;
        if let Some(other) = share {
            let other = other.get();
            let store = Arc::clone(&other.store);
            return Ok(PyStore::new_handle(store, reader, other.options.clone()));
        }
        check_room(capacity)?;
        let hasher = options::hasher(hasher)?;
        let options = Options {
            capacity,
            hasher,
            seed,
            ttl: ttl::default(ttl)?,
            clock: ttl::clock(clock),
            limits: options::limits(maxsize, max_bytes, on_full)?,
            ..Options::default()
        };
        let store = gil::detach(py, || Store::new(&options)).map_err(raise)?;
        let options = Options {
            capacity: 0,
            ..options
        };
        Ok(PyStore::new_handle(
            live::register(py, store),
            reader,
            options,
        ))
    }

    #[inline]
    fn __getitem__<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let bytes = self.key(key)?;
        match self.reader.get(key.py(), &self.store, &bytes)? {
            Some(value) => Ok(value),
            None => Err(self.missing(key)),
        }
    }

    #[inline]
    fn __setitem__(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.write(key, value, Ttl::Default)
    }

    fn __delitem__(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.delete(key)? {
            Ok(())
        } else {
            Err(self.missing(key))
        }
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let bytes = self.key(key)?;
        let found = self.reader.contains(key.py(), &self.store, &bytes)?;
        if !found {
            self.check_open()?;
        }
        Ok(found)
    }

    fn __len__(&self) -> PyResult<usize> {
        self.check_open()?;
        Ok(self.store.len())
    }

    fn __bool__(&self) -> PyResult<bool> {
        self.check_open()?;
        Ok(!self.store.is_empty())
    }

    fn __iter__(&self) -> PyResult<Entries> {
        self.entries(What::Keys, Filter::default(), 0)
    }

    /// Store `value` under `key`, as `store[key] = value`, with a time to live: seconds (or a timedelta) after which it is gone,
    /// None for never, or the store's default if left out. O(1).
    ///
    /// >>> import atbr
    /// >>> store = atbr.Store()
    /// >>> store.set("session", "data", ttl=60)
    /// >>> round(store.get_ttl("session"))
    /// 60
    #[pyo3(signature = (key, value, ttl=Maybe::Missing))]
    fn set(
        &self,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: Maybe<'_>,
    ) -> PyResult<()> {
        self.write(key, value, ttl::argument(&ttl)?)
    }

    /// Return the seconds that `key` has left, None if it never expires; KeyError if it is missing. O(1).
    ///
    /// >>> import atbr
    /// >>> store = atbr.Store({"a": "1"})
    /// >>> store.get_ttl("a") is None
    /// True
    fn get_ttl(&self, key: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
        let bytes = self.key(key)?;
        let found = self
            .reader
            .write(key.py(), |wait| self.store.time_left(&bytes, wait));
        match found.map_err(raise)? {
            Some(time_left) => Ok(ttl::left(time_left)),
            None => Err(self.missing(key)),
        }
    }

    /// Give `key` another time to live, as for `set`; return whether it was there. O(1).
    ///
    /// >>> import atbr
    /// >>> store = atbr.Store({"a": "1"})
    /// >>> store.touch("a", 10), store.touch("b", 10)
    /// (True, False)
    #[pyo3(signature = (key, ttl=Maybe::Missing))]
    fn touch(&self, key: &Bound<'_, PyAny>, ttl: Maybe<'_>) -> PyResult<bool> {
        let (bytes, ttl) = (self.key(key)?, ttl::argument(&ttl)?);
        self.reader
            .write(key.py(), |wait| self.store.touch(&bytes, ttl, wait))
            .map_err(raise)
    }

    /// Keep `key` from expiring; return whether it would have. O(1).
    ///
    /// >>> import atbr
    /// >>> store = atbr.Store({"a": "1"}, ttl=10)
    /// >>> store.persist("a"), store.persist("a"), store.persist("b")
    /// (True, False, False)
    fn persist(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let bytes = self.key(key)?;
        self.reader
            .write(key.py(), |wait| self.store.persist(&bytes, wait))
            .map_err(raise)
    }

    /// Remove all that has expired, and return how many entries that were. A background thread does so all the time, within
    /// a second; after this call `len()` is exact. O(expired entries).
    ///
    /// >>> import atbr
    /// >>> atbr.Store({"a": "1"}).expire()
    /// 0
    fn expire(&self, py: Python<'_>) -> PyResult<u64> {
        gil::detach_interruptibly(py, |go_on| self.store.expire_while(go_on))?.map_err(raise)
    }

    /// Return an iterator over (key, value, ttl): the seconds left, or None. Weakly consistent as the others are.
    ///
    /// >>> import atbr
    /// >>> list(atbr.Store({"a": "1"}).items_with_ttl())
    /// [('a', '1', None)]
    fn items_with_ttl(&self) -> PyResult<Entries> {
        self.entries(What::ItemsWithTtl, Filter::default(), 0)
    }

    /// Return the value of `key`, or `default` if there is none. O(1).
    ///
    /// >>> import atbr
    /// >>> store = atbr.Store({"a": "1"})
    /// >>> store.get("a"), store.get("b"), store.get("b", "0")
    /// ('1', None, '0')
    #[pyo3(signature = (key, default=None))]
    fn get<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let bytes = self.key(key)?;
        match self.reader.get(key.py(), &self.store, &bytes)? {
            None => self.check_open().map(|()| default),
            found => Ok(found),
        }
    }

    /// Remove `key` and return its value; if it is missing return `default`, or raise KeyError if none was given. O(1).
    ///
    /// >>> import atbr
    /// >>> atbr.Store({"a": "1"}).pop("a")
    /// '1'
    #[pyo3(signature = (key, default=Maybe::Missing))]
    fn pop<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Maybe<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let bytes = self.key(key)?;
        match (self.reader.pop(key.py(), &self.store, &bytes)?, default) {
            (Some(value), _) => Ok(value),
            (None, Maybe::Missing) => Err(self.missing(key)),
            (None, Maybe::Given(default)) => self.check_open().map(|()| default),
        }
    }

    /// Remove some entry and return it as (key, value); KeyError if the store is empty. O(1) amortized until empty.
    ///
    /// >>> import atbr
    /// >>> atbr.Store({"a": "1"}).popitem()
    /// ('a', '1')
    fn popitem<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let Some(popped) = self.with_engine(py, Store::pop_any)? else {
            self.check_open()?;
            return Err(PyKeyError::new_err("popitem(): store is empty"));
        };
        self.objects_of(py, &popped)
    }

    /// Return the value of `key`; if it is missing store `default` first, with a ttl as for `set`. Atomic, O(1).
    ///
    /// >>> import atbr
    /// >>> store = atbr.Store()
    /// >>> store.setdefault("a", "1"), store.setdefault("a", "2")
    /// ('1', '1')
    #[pyo3(signature = (key, default=Maybe::Missing, ttl=Maybe::Missing))]
    fn setdefault<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Maybe<'py>,
        ttl: Maybe<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, ttl) = (key.py(), ttl::argument(&ttl)?);
        let bytes = self.key(key)?;
        let Maybe::Given(default) = default else {
            return match self.reader.get(py, &self.store, &bytes)? {
                Some(value) => Ok(value),
                None => {
                    self.check_open()?;
                    Err(PyTypeError::new_err(
                        "setdefault() of a missing key needs a default",
                    ))
                }
            };
        };
        let value = self.value(&default)?;
        match self
            .reader
            .setdefault(py, &self.store, &bytes, &value, ttl)?
        {
            Some(existing) => Ok(existing),
            None if self.reader.values == Kind::Str => Ok(default),
            None => convert::object(py, Kind::Bytes, self.reader.errors, &value, &bytes),
        }
    }

    /// Remove `key`; return whether it was there. O(1).
    ///
    /// >>> import atbr
    /// >>> store = atbr.Store({"a": "1"})
    /// >>> store.delete("a"), store.delete("a")
    /// (True, False)
    fn delete(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let bytes = self.key(key)?;
        self.reader
            .write(key.py(), |wait| self.store.delete(&bytes, wait))
            .map_err(raise)
    }

    /// Store `value` only if `key` is missing, with a ttl as for `set`; return whether it was. Atomic, O(1).
    ///
    /// >>> import atbr
    /// >>> store = atbr.Store()
    /// >>> store.add("a", "1"), store.add("a", "2"), store["a"]
    /// (True, False, '1')
    #[pyo3(signature = (key, value, ttl=Maybe::Missing))]
    fn add(
        &self,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: Maybe<'_>,
    ) -> PyResult<bool> {
        let (bytes, value) = (self.key(key)?, self.value(value)?);
        let ttl = ttl::argument(&ttl)?;
        self.reader
            .write_value(key.py(), value.len(), |wait| {
                self.store.add(&bytes, &value, ttl, wait)
            })
            .map_err(raise)
    }

    /// Append `tail` to the value of `key`, which keeps its ttl or is created; return the value's new length in bytes.
    /// Atomic, O(len(tail)) amortized.
    ///
    /// >>> import atbr
    /// >>> store = atbr.Store()
    /// >>> store.append("log", "ä"), store.append("log", "b"), store["log"]
    /// (2, 3, 'äb')
    fn append(&self, key: &Bound<'_, PyAny>, tail: &Bound<'_, PyAny>) -> PyResult<usize> {
        let (bytes, tail) = (self.key(key)?, self.value(tail)?);
        self.reader
            .write_value(key.py(), tail.len(), |wait| {
                self.store.append(&bytes, &tail, wait)
            })
            .map_err(raise)
    }

    /// Add `delta` to the decimal integer in the value of `key`, which keeps its ttl; if missing it is created as `initial`, with a
    /// ttl as for `set`. Return the new integer. Atomic, O(1). ValueError if the value is no integer, OverflowError beyond 64 bits.
    ///
    /// >>> import atbr
    /// >>> store = atbr.Store()
    /// >>> store.incr("hits"), store.incr("hits", 41), store["hits"]
    /// (1, 42, '42')
    #[pyo3(signature = (key, delta=1, *, initial=0, ttl=Maybe::Missing))]
    fn incr(
        &self,
        key: &Bound<'_, PyAny>,
        delta: i64,
        initial: i64,
        ttl: Maybe<'_>,
    ) -> PyResult<i64> {
        let (bytes, ttl) = (self.key(key)?, ttl::argument(&ttl)?);
        self.reader
            .write(key.py(), |wait| {
                self.store.incr(&bytes, delta, initial, ttl, wait)
            })
            .map_err(raise)
    }

    /// Store `new` only if the value of `key` equals `expected`, or if `key` is missing and `expected` is None; return
    /// whether it was stored. The ttl stays. Atomic, O(len(expected)).
    ///
    /// >>> import atbr
    /// >>> store = atbr.Store()
    /// >>> store.compare_and_set("a", None, "1"), store.compare_and_set("a", "0", "2"), store["a"]
    /// (True, False, '1')
    fn compare_and_set(
        &self,
        key: &Bound<'_, PyAny>,
        expected: Option<&Bound<'_, PyAny>>,
        new: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let (bytes, new) = (self.key(key)?, self.value(new)?);
        let expected = expected.map(|value| self.value(value)).transpose()?;
        let len = new.len().max(expected.as_ref().map_or(0, |e| e.len()));
        self.reader
            .write_value(key.py(), len, |wait| {
                self.store
                    .compare_and_set(&bytes, expected.as_deref(), &new, wait)
            })
            .map_err(raise)
    }

    /// Return a dict of the keys that are there, keyed by the caller's own objects. Each key is read at some moment of
    /// the call. O(len(keys)), several times as fast as one by one.
    ///
    /// >>> import atbr
    /// >>> atbr.Store({"a": "1", "b": "2"}).get_many(["b", "none"])
    /// {'b': '2'}
    fn get_many<'py>(&self, keys: &Bound<'py, PyAny>) -> PyResult<Bound<'py, pyo3::types::PyDict>> {
        batch::get_many(self, keys)
    }

    /// Return a list of the values of `keys`, in order, with `default` for each missing one. O(len(keys)).
    ///
    /// >>> import atbr
    /// >>> atbr.Store({"a": "1", "b": "2"}).mget(["b", "none", "a"])
    /// ['2', None, '1']
    #[pyo3(signature = (keys, default=None))]
    fn mget<'py>(
        &self,
        keys: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, pyo3::types::PyList>> {
        batch::mget(self, keys, default)
    }

    /// Store every entry of a mapping or of an iterable of pairs, with a ttl as for `set`; return how many keys were new. O(n).
    ///
    /// Every key and value of a sized argument is checked before the first write. From an iterator, whole chunks before a
    /// bad item stay. The exception's `written` says how many pairs are in.
    ///
    /// >>> import atbr
    /// >>> atbr.Store({"a": "1"}).set_many({"a": "2", "b": "3"})
    /// 1
    #[pyo3(signature = (entries, ttl=Maybe::Missing))]
    fn set_many(&self, entries: &Bound<'_, PyAny>, ttl: Maybe<'_>) -> PyResult<usize> {
        batch::set_many(self, entries, ttl::argument(&ttl)?)
    }

    /// Remove every one of `keys`; return how many were there. O(len(keys)).
    ///
    /// >>> import atbr
    /// >>> atbr.Store({"a": "1"}).delete_many(["a", "none"])
    /// 1
    fn delete_many(&self, keys: &Bound<'_, PyAny>) -> PyResult<usize> {
        batch::delete_many(self, keys)
    }

    /// Return an iterator of the keys that begin with `prefix` and match the glob `match` (`*`, `?`, `[a-z]`, `[^a]`,
    /// `\x`), weakly consistent. `count` is a hint of how many to fetch at once. O(entries of the store) in all.
    ///
    /// >>> import atbr
    /// >>> store = atbr.Store({"user:1": "", "user:2": "", "job:1": ""})
    /// >>> sorted(store.scan(prefix="user:")), list(store.scan(match="j*"))
    /// (['user:1', 'user:2'], ['job:1'])
    #[pyo3(signature = (prefix=None, r#match=None, count=0))]
    fn scan(
        &self,
        prefix: Option<&Bound<'_, PyAny>>,
        r#match: Option<&Bound<'_, PyAny>>,
        count: usize,
    ) -> PyResult<Entries> {
        let mut filter = Filter::default();
        if let Some(prefix) = prefix {
            filter.prefix = self.key(prefix)?.to_vec();
        }
        if let Some(pattern) = r#match {
            filter.glob = Some(Glob::new(&self.key(pattern)?));
        }
        self.entries(What::Keys, filter, count)
    }

    /// Make room for `additional` more entries, so that no index grows meanwhile. O(entries of the store).
    ///
    /// MemoryError if by estimate the room does not fit into the memory that is available; `check_memory=False` tries all
    /// the same.
    ///
    /// >>> import atbr
    /// >>> store = atbr.Store()
    /// >>> store.reserve(1_000)
    /// >>> store.reserve(10**15)
    /// Traceback (most recent call last):
    ///     ...
    /// MemoryError: about 10000000000000000 bytes are needed and ... are available; ...
    #[pyo3(signature = (additional, *, check_memory=true))]
    fn reserve(&self, py: Python<'_>, additional: usize, check_memory: bool) -> PyResult<()> {
        self.check_open()?;
        if check_memory {
            check_room(additional)?;
        }
        gil::detach_interruptibly(py, |go_on| self.store.reserve_while(additional, go_on))?
            .map_err(raise)
    }

    /// Give memory that deletions left behind back to the system. O(bytes of the store).
    ///
    /// >>> import atbr
    /// >>> atbr.Store({"a": "1"}).compact()
    fn compact(&self, py: Python<'_>) -> PyResult<()> {
        gil::detach_interruptibly(py, |go_on| self.store.compact_while(go_on))?.map_err(raise)
    }

    /// Remove every entry. O(bytes of the store).
    ///
    /// >>> import atbr
    /// >>> store = atbr.Store({"a": "1"})
    /// >>> store.clear()
    /// >>> len(store)
    /// 0
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        gil::detach_interruptibly(py, |go_on| self.store.clear_while(go_on))?.map_err(raise)
    }

    /// Free the entries; any later use raises ValueError. Closing twice is fine. Views on the same data close as well.
    ///
    /// >>> import atbr
    /// >>> store = atbr.Store({"a": "1"})
    /// >>> store.close()
    /// >>> store.closed
    /// True
    fn close(&self, py: Python<'_>) {
        gil::detach(py, || self.store.close());
    }

    /// Whether the store has been closed.
    #[getter]
    fn closed(&self) -> bool {
        self.store.is_closed()
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().check_open()?;
        Ok(slf)
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) {
        self.close(py);
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a Store cannot be pickled: write it with save() and load() the file elsewhere, or send dict(store)",
        ))
    }

    fn __sizeof__(&self) -> PyResult<usize> {
        let own = std::mem::size_of::<PyStore>() + std::mem::size_of::<pyo3::ffi::PyObject>();
        Ok(own + self.store.stats().bytes_allocated as usize)
    }
}
