//! What the server has done, for INFO, /v1/stats and /metrics. Connections count for themselves and add what they have
//! counted once a batch, so a command costs no shared cache line.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the latency histogram's buckets are powers of two of a microsecond; the last one is open.
pub(crate) const LATENCY_BUCKETS: usize = 24;

/// Counters of all doors.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) connections_received: AtomicU64,
    pub(crate) connections_refused: AtomicU64,
    /// Commands of the Redis protocol, requests of HTTP, messages of WebSockets.
    pub(crate) commands: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) failed_auth: AtomicU64,
    pub(crate) errors: AtomicU64,
    latency: [AtomicU64; LATENCY_BUCKETS],
    latency_sum_us: AtomicU64,
}

impl Stats {
    /// Adds to a counter, unless there is nothing to add.
    #[inline]
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        if n > 0 {
            counter.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// Counts so many commands that took `nanoseconds` each.
    #[inline]
    pub(crate) fn took(&self, commands: u64, nanoseconds: u64) {
        let microseconds = nanoseconds / 1_000;
        let bucket = (u64::BITS - microseconds.leading_zeros()) as usize;
        Self::add(&self.latency[bucket.min(LATENCY_BUCKETS - 1)], commands);
        Self::add(&self.latency_sum_us, commands * nanoseconds / 1_000);
    }

    /// (upper bound in microseconds, commands that took less and at least the bound before); the last bound is `u64::MAX`.
    pub(crate) fn latency(&self) -> [(u64, u64); LATENCY_BUCKETS] {
        std::array::from_fn(|i| {
            let bound = if i + 1 == LATENCY_BUCKETS {
                u64::MAX
            } else {
                1 << i
            };
            (bound, self.latency[i].load(Ordering::Relaxed))
        })
    }

    /// Microseconds that all counted commands took together.
    pub(crate) fn latency_sum_us(&self) -> u64 {
        self.latency_sum_us.load(Ordering::Relaxed)
    }
}
