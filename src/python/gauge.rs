//! Judges whether single look-ups should release the GIL, from trials of what taking it back costs. Knows neither Python
//! nor the clock.
//!
//! The cost of one quick release says nothing: a look-up lets go of the GIL for 0.1 us, and a CPU-bound thread needs some
//! 50 us to wake up and take it. So beside three such threads all but one release in 15,000 look free, and that one costs
//! 15 ms: 1.7 us a look-up against 0.6 for keeping the GIL (3.11, 2 cores). A trial therefore lets go for long enough that
//! whoever wants the GIL gets it, and is made rarely: by the clock, not by count, so that its cost stays under 1 %.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// A trial that took longer than this many nanoseconds has found another thread at work.
const BAD_NANOS: u64 = 50_000;
/// Milliseconds from one probe to the next: after a change of the verdict, and at most. The time doubles in between.
/// A new verdict to release is tried again at once, since where all cores are taken a trial can be lucky.
const WHILE_DETACHED: (u32, u32) = (0, 64);
const WHILE_ATTACHED: (u32, u32) = (64, 2_048);

/// The verdict of a process. Written by probes only, so that look-ups of all threads can read it.
pub struct Gauge {
    attached: AtomicBool,
    interval: AtomicU32,
    next_probe: AtomicU64,
}

impl Gauge {
    /// Nothing is known: releases, and is due for a probe at once.
    pub const fn new() -> Gauge {
        Gauge {
            attached: AtomicBool::new(false),
            interval: AtomicU32::new(WHILE_DETACHED.0),
            next_probe: AtomicU64::new(0),
        }
    }

    /// Whether look-ups keep the GIL.
    #[inline(always)]
    pub fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Relaxed)
    }

    /// True for one caller once the time of the next probe has come. `now` counts milliseconds.
    pub fn is_due(&self, now: u64) -> bool {
        let due = self.next_probe.load(Ordering::Relaxed);
        let next = now + u64::from(self.interval.load(Ordering::Relaxed));
        now >= due
            && self
                .next_probe
                .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Judges anew. `trial` returns the nanoseconds that taking the GIL back took. One trial can confirm the verdict, two
    /// of three are needed to change it.
    pub fn probe(&self, mut trial: impl FnMut() -> u64, now: impl FnOnce() -> u64) {
        let before = self.is_attached();
        let mut contradicts = || (trial() > BAD_NANOS) != before;
        let changed = contradicts() && (contradicts() || contradicts());
        let after = before != changed;
        let (first, most) = if after {
            WHILE_ATTACHED
        } else {
            WHILE_DETACHED
        };
        let interval = if changed {
            first
        } else {
            (self.interval.load(Ordering::Relaxed) * 2 + 1).clamp(first, most)
        };
        self.attached.store(after, Ordering::Relaxed);
        self.interval.store(interval, Ordering::Relaxed);
        self.next_probe
            .store(now() + u64::from(interval), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: u64 = 400;
    const BAD: u64 = 15_000_000;

    /// Probes for so many milliseconds; returns how many of them were spent attached, and the number of trials.
    fn run(gauge: &Gauge, from: u64, to: u64, mut cost: impl FnMut(u64) -> u64) -> (u64, u64) {
        let (mut attached, mut trials) = (0, 0);
        for now in from..to {
            if gauge.is_due(now) {
                gauge.probe(
                    || {
                        trials += 1;
                        cost(now)
                    },
                    || now,
                );
            }
            attached += u64::from(gauge.is_attached());
        }
        (attached, trials)
    }

    #[test]
    fn idle_neighbours_never_attach() {
        let (attached, trials) = run(&Gauge::new(), 0, 10_000, |_| GOOD);
        assert_eq!(attached, 0);
        assert!(trials <= 10_000 / 64 + 10, "{trials} trials in 10 s");
    }

    #[test]
    fn busy_neighbours_attach_at_the_first_probe_and_are_rarely_tried() {
        let (attached, trials) = run(&Gauge::new(), 0, 60_000, |_| BAD);
        assert_eq!(attached, 60_000);
        assert!(trials <= 2 + 6 + 60_000 / 2_048, "{trials} trials in 60 s");
    }

    #[test]
    fn one_preempted_trial_of_three_does_not_attach() {
        let mut count = 0;
        let (attached, _) = run(&Gauge::new(), 0, 60_000, |_| {
            count += 1;
            if count % 3 == 0 { BAD } else { GOOD }
        });
        assert_eq!(attached, 0);
    }

    #[test]
    fn one_lucky_trial_does_not_release() {
        let gauge = Gauge::new();
        run(&gauge, 0, 100, |_| BAD);
        let mut count = 0;
        let (attached, _) = run(&gauge, 100, 60_000, |_| {
            count += 1;
            if count % 3 == 0 { GOOD } else { BAD }
        });
        assert_eq!(attached, 59_900);
    }

    #[test]
    fn the_verdict_follows_the_neighbours_within_four_seconds() {
        let gauge = Gauge::new();
        run(&gauge, 0, 100_000, |_| BAD);
        run(&gauge, 100_000, 104_000, |_| GOOD);
        assert!(!gauge.is_attached());
        run(&gauge, 104_000, 104_100, |_| BAD);
        assert!(gauge.is_attached());
    }

    #[test]
    fn a_probe_is_due_for_one_thread_only() {
        let gauge = Gauge::new();
        gauge.probe(|| BAD, || 0);
        assert!(!gauge.is_due(63));
        assert!(gauge.is_due(64));
        assert!(!gauge.is_due(64));
    }
}
