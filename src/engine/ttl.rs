//! What a write does with an entry's time to live, and the time of one store.

use super::clock::Clock;
use crate::{Result, limits};

/// What a write does with the expiry of the entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ttl {
    /// The store's default.
    #[default]
    Default,
    /// It never expires.
    Never,
    /// It expires after so many milliseconds.
    Millis(u64),
}

/// No tick of the kernel's is so late that [`Time::recently`] is behind by more than so many milliseconds.
const LATEST_TICK: u64 = 100;
/// A ttl from so many milliseconds on may end a tick of the kernel's early.
const EXACT_BELOW: u64 = 1_000;

/// The time of a store: milliseconds since it was made.
pub(crate) struct Time {
    clock: Clock,
    epoch: u64,
    default: Ttl,
}

impl Time {
    /// `default` is not [`Ttl::Default`].
    ///
    /// # Errors
    /// [`crate::Error::TtlOutOfRange`].
    pub(crate) fn new(clock: Clock, default: Ttl) -> Result<Time> {
        if let Ttl::Millis(ttl) = default {
            limits::check_ttl(ttl)?;
        }
        let epoch = clock.now();
        Ok(Time {
            clock,
            epoch,
            default,
        })
    }

    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.clock.now().saturating_sub(self.epoch)
    }

    /// As [`Time::now`], or as it was up to a tick of the kernel's ago.
    #[inline]
    pub(crate) fn recently(&self) -> u64 {
        self.clock.recently().saturating_sub(self.epoch)
    }

    /// Whether a deadline of [`Time::deadline`] has passed; to the millisecond.
    #[inline]
    pub(crate) fn is_over(&self, deadline: u64) -> bool {
        if deadline == 0 {
            return false;
        }
        let recently = self.recently();
        deadline <= recently || deadline - recently <= LATEST_TICK && deadline <= self.now()
    }

    /// When an entry that is written now expires; 0: never. At least 1, because a ttl is.
    ///
    /// # Errors
    /// [`crate::Error::TtlOutOfRange`].
    #[inline]
    pub(crate) fn deadline(&self, ttl: Ttl) -> Result<u64> {
        let ttl = if ttl == Ttl::Default {
            self.default
        } else {
            ttl
        };
        let Ttl::Millis(ttl) = ttl else {
            return Ok(0);
        };
        limits::check_ttl(ttl)?;
        let now = if ttl < EXACT_BELOW {
            self.now()
        } else {
            self.recently()
        };
        Ok((now + ttl).min(limits::LAST_DEADLINE))
    }

    /// Milliseconds from now to a deadline that has not passed, at least 1; None for one that never comes.
    pub(crate) fn left(&self, deadline: u64) -> Option<u64> {
        (deadline != 0).then(|| deadline.saturating_sub(self.now()).max(1))
    }

    /// A deadline on the system's clock, for who sleeps until then; 0 or far away where the clock is another one.
    pub(crate) fn on_system_clock(&self, deadline: u64) -> u64 {
        match &self.clock {
            Clock::System => self.epoch.saturating_add(deadline),
            Clock::Manual(_) if deadline <= self.now() => 0,
            Clock::Manual(_) => u64::MAX - 1,
        }
    }
}
