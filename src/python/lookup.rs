//! One look-up of one key, attached or detached. Knows the store's engine and the GIL policy.

use std::mem::MaybeUninit;

use pyo3::ffi;
use pyo3::prelude::*;

use super::convert::{self, Built, Errors, Kind};
use super::errors::raise;
use super::expired;
use super::gil::{self, Release};
use crate::engine::{Block, Change, Found, Store, Ttl, ValueRef, Wait};
use crate::limits::SMALL_VALUE_LEN;
use crate::{Error, Result};

/// How one handle on a store reads it.
#[derive(Clone, Copy)]
pub struct Reader {
    pub keys: Kind,
    pub values: Kind,
    pub errors: Errors,
    pub release: Release,
}

/// What was taken from under the shard's lock.
enum Taken {
    /// The finished object, built while attached.
    Object(std::ptr::NonNull<ffi::PyObject>),
    /// A small value of so many bytes, now in the buffer.
    Small(usize),
    /// A shared handle on a big value.
    Shared(Block),
    /// A value that is neither small nor shareable, or that does not decode.
    Copied(Vec<u8>),
    /// No memory for the copy.
    NoMemory,
    /// MemoryError is set.
    Raised,
}

type Buffer = [MaybeUninit<u8>; SMALL_VALUE_LEN];

impl Reader {
    /// The value of `key` as an object, or None.
    #[inline(always)]
    pub fn get<'py>(
        &self,
        py: Python<'py>,
        store: &Store,
        key: &[u8],
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if !gil::releases(py, self.release) {
            match store.read_counted(key, Wait::Try, false, |value| self.take_attached(py, value)) {
                Ok(Found::Declined) | Err(Error::WouldBlock) => {}
                Ok(Found::Value(Taken::Object(object))) => {
                    // SAFETY: build returned a new reference.
                    return Ok(Some(unsafe { Bound::from_owned_ptr(py, object.as_ptr()) }));
                }
                Ok(Found::Missing) => return Ok(None),
                Ok(Found::Value(taken)) => return self.finish(py, key, &[], Ok(Some(taken))),
                Err(error) => return Err(raise(error)),
            }
        }
        self.get_detached(py, store, key)
    }

    #[inline(never)]
    fn get_detached<'py>(
        &self,
        py: Python<'py>,
        store: &Store,
        key: &[u8],
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut buffer: Buffer = [MaybeUninit::uninit(); SMALL_VALUE_LEN];
        let found = gil::detach(py, || {
            store.read_counted(key, Wait::Block, true, |value| {
                Some(take_detached(value, &mut buffer))
            })
        });
        match found.map_err(raise)? {
            Found::Value(taken) => self.finish(py, key, &buffer, Ok(Some(taken))),
            Found::Missing | Found::Declined => Ok(None),
        }
    }

    /// Whether `key` is there.
    #[inline(always)]
    pub fn contains(&self, py: Python<'_>, store: &Store, key: &[u8]) -> PyResult<bool> {
        if !gil::releases(py, self.release) {
            match store.contains_counted(key, Wait::Try, false) {
                Err(Error::WouldBlock) => {}
                other => return other.map_err(raise),
            }
        }
        gil::detach(py, || store.contains_counted(key, Wait::Block, true)).map_err(raise)
    }

    /// Removes `key` and gives back its value; a value that does not decode stays where it is.
    pub fn pop<'py>(
        &self,
        py: Python<'py>,
        store: &Store,
        key: &[u8],
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let strict = self.values == Kind::Str && self.errors == Errors::Strict;
        let mut buffer: Buffer = [MaybeUninit::uninit(); SMALL_VALUE_LEN];
        let taken = self.write(py, |wait| {
            store.reduce(key, wait, |entry| match entry.map(|entry| entry.value) {
                None => Ok((Change::Keep, None)),
                Some(value) if strict && std::str::from_utf8(value.as_slice()).is_err() => {
                    Ok((Change::Keep, Some(copy(value.as_slice()))))
                }
                Some(value) => match take_detached(value, &mut buffer) {
                    Taken::NoMemory => Err(Error::OutOfMemory),
                    taken => Ok((Change::Delete, Some(taken))),
                },
            })
        });
        self.finish(py, key, &buffer, taken)
    }

    /// The value that was there, or None after `value` has been stored.
    pub fn setdefault<'py>(
        &self,
        py: Python<'py>,
        store: &Store,
        key: &[u8],
        value: &[u8],
        ttl: Ttl,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut buffer: Buffer = [MaybeUninit::uninit(); SMALL_VALUE_LEN];
        let taken = self.write_value(py, value.len(), |wait| {
            store.setdefault(key, value, ttl, wait, |value| {
                take_detached(value, &mut buffer)
            })
        });
        self.finish(py, key, &buffer, taken)
    }

    /// One write that holds a shard's lock for a short time.
    #[inline(always)]
    pub fn write<R>(&self, py: Python<'_>, work: impl FnMut(Wait) -> Result<R>) -> Result<R> {
        self.write_value(py, 0, work)
    }

    /// One write of `len` bytes: attached if small and the policy says so, else detached.
    #[inline(always)]
    pub fn write_value<R>(
        &self,
        py: Python<'_>,
        len: usize,
        mut work: impl FnMut(Wait) -> Result<R>,
    ) -> Result<R> {
        expired::resume_if_away(py);
        if len <= SMALL_VALUE_LEN && !gil::releases(py, self.release) {
            match work(Wait::Try) {
                Err(Error::WouldBlock) => {}
                other => return other,
            }
        }
        gil::detach(py, || work(Wait::Block))
    }

    #[inline(always)]
    /// None: big values are left to a detached look-up.
    fn take_attached(&self, py: Python<'_>, value: ValueRef<'_>) -> Option<Taken> {
        let data = value.as_slice();
        if data.len() > SMALL_VALUE_LEN {
            return None;
        }
        Some(match convert::build(py, self.values, data) {
            Built::Object(object) => Taken::Object(object),
            Built::Undecodable => copy(data),
            Built::NoMemory => Taken::Raised,
        })
    }

    /// Turns what was taken into an object; attached, and outside every lock.
    fn finish<'py>(
        &self,
        py: Python<'py>,
        key: &[u8],
        buffer: &[MaybeUninit<u8>],
        taken: Result<Option<Taken>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let object = match taken.map_err(raise)? {
            None => return Ok(None),
            // SAFETY: build returned a new reference.
            Some(Taken::Object(object)) => unsafe { Bound::from_owned_ptr(py, object.as_ptr()) },
            Some(Taken::Small(len)) => {
                // SAFETY: take_detached has written the first `len` bytes.
                let data = unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), len) };
                self.object(py, data, key)?
            }
            Some(Taken::Shared(block)) => self.object(py, block.value(), key)?,
            Some(Taken::Copied(data)) => self.object(py, &data, key)?,
            Some(Taken::Raised) => return Err(PyErr::fetch(py)),
            Some(Taken::NoMemory) => return Err(raise(Error::OutOfMemory)),
        };
        Ok(Some(object))
    }

    /// A value as an object; a big one is copied while detached.
    pub fn object<'py>(
        &self,
        py: Python<'py>,
        data: &[u8],
        key: &[u8],
    ) -> PyResult<Bound<'py, PyAny>> {
        if data.len() > SMALL_VALUE_LEN {
            return self.big(py, data, key);
        }
        convert::object(py, self.values, self.errors, data, key)
    }

    /// A key as an object.
    pub fn key_object<'py>(&self, py: Python<'py>, key: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        convert::object(py, self.keys, self.errors, key, key)
    }

    fn big<'py>(&self, py: Python<'py>, data: &[u8], key: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        let (object, target) = match self.values {
            Kind::Bytes => convert::uninitialized_bytes(py, data.len())?,
            Kind::Str if gil::detach(py, || data.is_ascii()) => {
                convert::uninitialized_ascii(py, data.len())?
            }
            Kind::Str => return convert::object(py, self.values, self.errors, data, key),
        };
        let target = Target(target);
        gil::detach(py, || {
            let target = &target;
            // SAFETY: the object is new, nobody else knows it, and it has room for data.len() bytes.
            unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), target.0, data.len()) }
        });
        Ok(object)
    }
}

/// The memory of an object under construction.
struct Target(*mut u8);

fn take_detached(value: ValueRef<'_>, buffer: &mut Buffer) -> Taken {
    let data = value.as_slice();
    if data.len() <= SMALL_VALUE_LEN {
        // SAFETY: the buffer has SMALL_VALUE_LEN bytes and does not overlap the store's memory.
        unsafe {
            std::ptr::copy_nonoverlapping(
                data.as_ptr(),
                buffer.as_mut_ptr().cast::<u8>(),
                data.len(),
            );
        }
        return Taken::Small(data.len());
    }
    value.share().map_or_else(|| copy(data), Taken::Shared)
}

fn copy(data: &[u8]) -> Taken {
    let mut copy = Vec::new();
    if copy.try_reserve_exact(data.len()).is_err() {
        return Taken::NoMemory;
    }
    copy.extend_from_slice(data);
    Taken::Copied(copy)
}
