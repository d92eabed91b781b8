//! What a write does with an entry's time to live, and the time of one store.

use std::time::{SystemTime, UNIX_EPOCH};

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
    /// It expires after so many milliseconds, ten years at most.
    Millis(u64),
    /// It expires so many milliseconds after the beginning of 1970. What has passed then is taken out at once.
    At(i64),
}

/// In the place of a deadline: it has passed.
pub(crate) const OVER: u64 = u64::MAX;

/// The time of a store: milliseconds since it was made.
#[derive(Clone)]
pub(crate) struct Time {
    clock: Clock,
    epoch: u64,
    /// What the wall clock said at the epoch, in milliseconds since 1970. Later jumps of it move nothing.
    unix: u64,
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
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        Ok(Time {
            clock,
            epoch,
            unix: unix.map_or(0, |since| since.as_millis() as u64),
            default,
        })
    }

    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.clock.now().saturating_sub(self.epoch)
    }

    /// The time in milliseconds since 1970.
    pub(crate) fn unix_now(&self) -> u64 {
        self.unix + self.now()
    }

    /// A deadline in milliseconds since 1970; None for one that never comes.
    pub(crate) fn to_unix(&self, deadline: u64) -> Option<u64> {
        (deadline != 0).then(|| self.unix + deadline)
    }

    /// When an entry that is written now expires; 0: never; [`OVER`]: it has. At least 1 otherwise, because a ttl is.
    ///
    /// # Errors
    /// [`crate::Error::TtlOutOfRange`].
    #[inline]
    pub(crate) fn deadline(&self, ttl: Ttl) -> Result<u64> {
        Ok(self.deadline_and_now(ttl, || self.now())?.0)
    }

    /// As [`Time::deadline`], and what the time is where it was read: that takes as long as a third of a write.
    #[inline]
    pub(crate) fn deadline_and_now(
        &self,
        ttl: Ttl,
        now: impl FnOnce() -> u64,
    ) -> Result<(u64, Option<u64>)> {
        let ttl = if ttl == Ttl::Default {
            self.default
        } else {
            ttl
        };
        match ttl {
            Ttl::Default | Ttl::Never => Ok((0, None)),
            Ttl::Millis(ttl) => {
                limits::check_ttl(ttl)?;
                let now = now();
                Ok((now + ttl, Some(now)))
            }
            Ttl::At(unix) => {
                let now = now();
                let deadline = unix as i128 - i128::from(self.unix);
                let is_over = deadline <= i128::from(now);
                Ok((if is_over { OVER } else { deadline as u64 }, Some(now)))
            }
        }
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
