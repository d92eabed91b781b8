//! Failure injection at the allocations that Rust's allocator does not see, those of C++ and of mmap, for
//! tests (cargo feature `failpoints`); nothing in a release. A test's own allocator asks the same counter.

#[cfg(feature = "failpoints")]
mod armed {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;

    thread_local! {
        /// Allocations seen by this thread, and the number of the one that fails.
        static STATE: Cell<(u64, Option<u64>)> = const { Cell::new((0, None)) };
    }

    /// True when this allocation has to fail.
    pub fn hit() -> bool {
        STATE
            .try_with(|state| {
                let (seen, fail_at) = state.get();
                state.set((seen + 1, fail_at));
                fail_at == Some(seen)
            })
            .unwrap_or(false)
    }

    /// Fails this thread's allocation number `at`, counted from now; `None` only counts.
    pub fn arm(at: Option<u64>) {
        STATE.with(|state| state.set((0, at)));
    }

    /// Disarms, and returns the allocations seen since [`arm`].
    pub fn disarm() -> u64 {
        STATE.with(|state| state.replace((0, None)).0)
    }

    thread_local! {
        static PANICS: Cell<bool> = const { Cell::new(false) };
    }

    /// The next change of this thread that writes a record panics in the middle.
    pub fn arm_panic() {
        PANICS.with(|panics| panics.set(true));
    }

    /// Panics where that was asked for.
    pub(crate) fn panic_here() {
        if PANICS.with(|panics| panics.replace(false)) {
            panic!("asked for by a test");
        }
    }

    /// An allocator for tests that asks whether it fails.
    pub struct Failing;

    // SAFETY: passes everything on to the system's allocator, or fails as an allocator may.
    unsafe impl GlobalAlloc for Failing {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            if hit() {
                return std::ptr::null_mut();
            }
            // SAFETY: the caller's promise.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
            // SAFETY: the caller's promise.
            unsafe { System.dealloc(memory, layout) }
        }

        unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            if hit() {
                return std::ptr::null_mut();
            }
            // SAFETY: the caller's promise.
            unsafe { System.realloc(memory, layout, size) }
        }
    }

    #[unsafe(no_mangle)]
    extern "C" fn atbr_failpoint() -> bool {
        hit()
    }
}

#[cfg(feature = "failpoints")]
pub(crate) use armed::panic_here;
#[cfg(feature = "failpoints")]
pub use armed::{Failing, arm, arm_panic, disarm, hit};

/// Panics where a test asked for that.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(crate) fn panic_here() {}

/// True when this allocation has to fail.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn hit() -> bool {
    false
}
