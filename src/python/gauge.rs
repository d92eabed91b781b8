//! Decides from measured reattach costs whether single look-ups should release the GIL. One gauge
//! belongs to one thread. Pure arithmetic: knows neither Python nor the clock.
//!
//! Beside CPU-bound threads a release is lost only now and then, but then it costs a whole switch
//! interval, 5 ms or more: some 10,000 look-ups. So a gauge that has seen losses returns to
//! releasing only after many good probes, and leaves again at the next loss.

/// A reattach that takes longer than this many nanoseconds has waited for another thread.
const BAD_NANOS: u64 = 1_000;
/// While all is well, one release in so many is measured.
const SAMPLE_EVERY: u32 = 8;
/// Look-ups measured one by one after a bad sample, and after a return from attached mode.
const WATCHED: u32 = 2_048;
/// Attached look-ups between two probes.
const PROBE_EVERY: u32 = 1_024;
/// Releases measured in one probe, all of which must be good.
const BURST: u32 = 8;
/// Good probes in a row that lead back to releasing, after the first loss and at most.
const MIN_PROBES: u32 = 4;
const MAX_PROBES: u32 = 64;

/// What the next look-up does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Keep the GIL.
    Attached,
    /// Release it.
    Detached,
    /// Release it and tell [`Gauge::record`] how long taking it back took.
    Measured,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    /// Releasing; the next sample is due when the countdown ends.
    Detached,
    /// Releasing and measuring each time. So many more bad samples are tolerated.
    Watched { tolerated: u8 },
    /// Not releasing; a probe is due when the countdown ends.
    Attached,
    /// Measuring a burst.
    Probing,
}

/// The state of one thread.
#[derive(Clone, Copy, Debug)]
pub struct Gauge {
    mode: Mode,
    countdown: u32,
    probes_needed: u32,
    probes_left: u32,
}

impl Gauge {
    /// A thread of which nothing is known: releases, and looks closely at first.
    pub const fn new() -> Gauge {
        Gauge {
            mode: Mode::Watched { tolerated: 1 },
            countdown: WATCHED,
            probes_needed: MIN_PROBES,
            probes_left: MIN_PROBES,
        }
    }

    /// A thread of a process in which another thread has found that releasing costs too much.
    pub const fn warned() -> Gauge {
        Gauge {
            mode: Mode::Attached,
            countdown: PROBE_EVERY,
            ..Gauge::new()
        }
    }

    /// True while look-ups keep the GIL, probes aside.
    pub fn is_attached(&self) -> bool {
        matches!(self.mode, Mode::Attached | Mode::Probing)
    }

    /// Counts one look-up and says what it does.
    #[inline]
    pub fn step(&mut self) -> Step {
        match self.mode {
            Mode::Detached => {
                self.countdown -= 1;
                if self.countdown > 0 {
                    return Step::Detached;
                }
                self.countdown = SAMPLE_EVERY;
                Step::Measured
            }
            Mode::Attached => {
                self.countdown -= 1;
                if self.countdown > 0 {
                    return Step::Attached;
                }
                self.mode = Mode::Probing;
                self.countdown = BURST;
                Step::Measured
            }
            Mode::Watched { .. } | Mode::Probing => Step::Measured,
        }
    }

    /// Takes in one measured reattach.
    pub fn record(&mut self, nanos: u64) {
        let bad = nanos > BAD_NANOS;
        match (self.mode, bad) {
            (Mode::Detached, true) => self.watch(1),
            (Mode::Detached, false) => {}
            (Mode::Watched { tolerated: 0 }, true) => self.attach(),
            (Mode::Watched { tolerated }, true) => {
                self.mode = Mode::Watched {
                    tolerated: tolerated - 1,
                };
            }
            (Mode::Watched { .. }, false) => {
                self.countdown -= 1;
                if self.countdown == 0 {
                    self.mode = Mode::Detached;
                    self.countdown = SAMPLE_EVERY;
                    self.probes_needed = MIN_PROBES;
                }
            }
            (Mode::Probing, true) => self.attach(),
            (Mode::Probing, false) => {
                self.countdown -= 1;
                if self.countdown == 0 {
                    self.probes_left -= 1;
                    if self.probes_left == 0 {
                        self.watch(0);
                    } else {
                        self.mode = Mode::Attached;
                        self.countdown = PROBE_EVERY;
                    }
                }
            }
            // A measurement that another call on this thread asked for: nothing to learn.
            (Mode::Attached, _) => {}
        }
    }

    fn watch(&mut self, tolerated: u8) {
        self.mode = Mode::Watched { tolerated };
        self.countdown = WATCHED;
    }

    fn attach(&mut self) {
        if !matches!(self.mode, Mode::Probing) {
            // Releasing was tried in earnest and lost: ask for more evidence next time.
            self.probes_needed = (self.probes_needed * 2).min(MAX_PROBES);
        }
        self.probes_left = self.probes_needed;
        self.mode = Mode::Attached;
        self.countdown = PROBE_EVERY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs so many look-ups against a cost function and returns how many released the GIL.
    fn released(gauge: &mut Gauge, lookups: u32, mut cost: impl FnMut(u32) -> u64) -> u32 {
        let mut count = 0;
        for i in 0..lookups {
            match gauge.step() {
                Step::Attached => {}
                Step::Detached => count += 1,
                Step::Measured => {
                    count += 1;
                    gauge.record(cost(i));
                }
            }
        }
        count
    }

    #[test]
    fn cheap_reattaching_always_releases() {
        assert_eq!(released(&mut Gauge::new(), 100_000, |_| 60), 100_000);
    }

    #[test]
    fn one_preempted_sample_in_a_long_time_does_not_attach() {
        let mut gauge = Gauge::new();
        let count = released(&mut gauge, 1_000_000, |i| {
            if i % 50_000 == 0 { 4_000_000 } else { 60 }
        });
        assert_eq!(count, 1_000_000);
    }

    #[test]
    fn losses_now_and_then_attach_nearly_always() {
        for every in [1, 2, 50, 300, 1_000] {
            let mut seen = 0;
            let count = released(&mut Gauge::new(), 1_000_000, |_| {
                seen += 1;
                if seen % every == 0 { 5_000_000 } else { 60 }
            });
            assert!(
                count <= 50_000,
                "{count} of 1,000,000 released with one loss in {every}"
            );
        }
    }

    #[test]
    fn a_warned_thread_probes_after_1024_lookups_and_no_sooner() {
        let mut gauge = Gauge::warned();
        assert_eq!(released(&mut gauge, 1_023, |_| 60), 0);
        assert_eq!(gauge.step(), Step::Measured);
    }

    #[test]
    fn a_quiet_process_is_released_again() {
        let mut gauge = Gauge::new();
        released(&mut gauge, 100_000, |_| 5_000_000);
        assert!(gauge.is_attached());
        released(&mut gauge, 2 * MAX_PROBES * (PROBE_EVERY + BURST), |_| 60);
        assert_eq!(gauge.mode, Mode::Detached);
    }
}
