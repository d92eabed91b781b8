//! A lock for what Python threads use one at a time, an iterator's state, and that a fork may find taken: on a free-threaded CPython other threads
//! run while one forks, and the child has none of them.

use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::gil;
use crate::engine::process_number;

/// How long a thread sleeps that waits for its turn.
const NAP: Duration = Duration::from_micros(50);

/// A value that one thread uses at a time.
pub struct Turns<T> {
    /// The number of the process whose thread has it; 0 where none does.
    holder: AtomicU32,
    value: UnsafeCell<ManuallyDrop<T>>,
}

// SAFETY: only who has the turn reaches the value, and gives it on by release and acquire.
unsafe impl<T: Send> Sync for Turns<T> {}

impl<T> Turns<T> {
    pub fn new(value: T) -> Turns<T> {
        Turns {
            holder: AtomicU32::new(0),
            value: UnsafeCell::new(ManuallyDrop::new(value)),
        }
    }

    /// Waits, detached, until no other thread uses the value.
    ///
    /// # Errors
    /// A RuntimeError where the process was forked while another thread used it; what a signal's handler raises.
    pub fn wait(&self, py: Python<'_>) -> PyResult<Turn<'_, T>> {
        loop {
            let own = process_number();
            match self
                .holder
                .compare_exchange(0, own, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return Ok(Turn(self)),
                Err(holder) if holder != own => {
                    return Err(PyRuntimeError::new_err(
                        "the process was forked while another thread used this iterator",
                    ));
                }
                Err(_) => gil::detach(py, || thread::sleep(NAP)),
            }
            py.check_signals()?;
        }
    }
}

impl<T> Drop for Turns<T> {
    fn drop(&mut self) {
        // Otherwise a thread that the child of a fork does not have was changing it.
        if *self.holder.get_mut() == 0 {
            // SAFETY: dropped here only, and used by nobody.
            unsafe { ManuallyDrop::drop(self.value.get_mut()) };
        }
    }
}

/// The use of a value, until it is dropped.
pub struct Turn<'t, T>(&'t Turns<T>);

impl<T> Deref for Turn<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this thread has the turn.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Turn<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this thread has the turn.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        self.0.holder.store(0, Ordering::Release);
    }
}
