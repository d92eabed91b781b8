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

    /// Whether a deadline of [`Time::deadline`] has passed.
    #[inline]
    pub(crate) fn is_over(&self, deadline: u64) -> bool {
        deadline != 0 && deadline <= self.now()
    }

    /// When an entry that is written now expires; 0: never. At least 1, because a ttl is.
    ///
    /// # Errors
    /// [`crate::Error::TtlOutOfRange`].
    #[inline]
    pub(crate) fn deadline(&self, ttl: Ttl) -> Result<u64> {
        Ok(self.deadline_and_now(ttl)?.0)
    }

    /// As [`Time::deadline`], and what the time is where it was read: that takes as long as a third of a write.
    #[inline]
    pub(crate) fn deadline_and_now(&self, ttl: Ttl) -> Result<(u64, Option<u64>)> {
        let ttl = if ttl == Ttl::Default {
            self.default
        } else {
            ttl
        };
        match ttl {
            Ttl::Default | Ttl::Never => Ok((0, None)),
            Ttl::Millis(ttl) => {
                limits::check_ttl(ttl)?;
                let now = self.now();
                Ok(((now + ttl).min(limits::LAST_DEADLINE), Some(now)))
            }
        }
    }

    /// Milliseconds from now to a deadline; None for one that never comes.
    pub(crate) fn left(&self, deadline: u64) -> Option<u64> {
        (deadline != 0).then(|| deadline.saturating_sub(self.now()))
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
