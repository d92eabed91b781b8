//! The one clock of the engine. Knows nothing that it is used for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::sweeper;

/// Where a store reads the time: a clock that neither jumps with the wall clock nor stops while the machine sleeps, or
/// one that tests move.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The system's (`CLOCK_BOOTTIME` on Linux, else `CLOCK_MONOTONIC`).
    #[default]
    System,
    /// Stands still until it is moved.
    Manual(ManualClock),
}

impl Clock {
    /// Milliseconds since some fixed moment.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        match self {
            Clock::System => system_now(),
            Clock::Manual(clock) => clock.0.load(Ordering::Acquire),
        }
    }

    /// As [`Clock::now`], or as it was up to a tick of the kernel's ago (1 to 10 ms).
    #[inline]
    pub(crate) fn recently(&self) -> u64 {
        match self {
            Clock::System => system_recently(),
            Clock::Manual(_) => self.now(),
        }
    }
}

/// Milliseconds of the system's clock.
pub(crate) fn system_now() -> u64 {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: libc::clockid_t = libc::CLOCK_BOOTTIME;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;
    let time = read(CLOCK);
    time.tv_sec as u64 * 1_000 + time.tv_nsec as u64 / 1_000_000
}

/// As [`system_now`], or as it was up to a tick of the kernel's ago. Reading the clock to the nanosecond waits for all that the
/// processor does, and keeps it from beginning anything else: a set takes a third longer with it. The coarse clock is a read of
/// memory, but ignores that the machine was suspended; so it only says whether the time has been read in this tick.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[inline]
fn system_recently() -> u64 {
    /// The tick, in nanoseconds of the coarse clock, in which the time was read last.
    static TICK: AtomicU64 = AtomicU64::new(u64::MAX);
    static NOW: AtomicU64 = AtomicU64::new(0);
    #[cold]
    fn renew(tick: u64) -> u64 {
        let now = system_now();
        // A thread that was held up here takes nothing back.
        let now = NOW.fetch_max(now, Ordering::Relaxed).max(now);
        TICK.store(tick, Ordering::Release);
        now
    }
    let time = read(libc::CLOCK_MONOTONIC_COARSE);
    let tick = time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
    if TICK.load(Ordering::Acquire) == tick {
        NOW.load(Ordering::Relaxed)
    } else {
        renew(tick)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn system_recently() -> u64 {
    system_now()
}

#[inline]
fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes one timespec of this frame. It cannot fail: the clock exists and the address is valid.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time
}

/// A clock for tests: it stands still until it is moved. Clones are the same clock.
///
/// ```
/// use atbr::engine::{Clock, ManualClock, Options, Store, Ttl, Wait};
/// let clock = ManualClock::default();
/// let store = Store::new(&Options { clock: Clock::Manual(clock.clone()), ..Options::default() })?;
/// store.set_with(b"key", b"value", Ttl::Millis(1_000), Wait::Block)?;
/// clock.advance(999);
/// assert!(store.contains(b"key", Wait::Block)?);
/// clock.advance(1);
/// assert!(!store.contains(b"key", Wait::Block)?);
/// # Ok::<(), atbr::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// Moves the clock forward by so many milliseconds.
    pub fn advance(&self, milliseconds: u64) {
        self.0.fetch_add(milliseconds, Ordering::AcqRel);
        sweeper::wake();
    }

    /// Milliseconds since it was made.
    pub fn now(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
