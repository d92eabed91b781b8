//! Sequences of keys to run bounded stores with, the same on every machine with the same `powf` and `ln`.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

const KEYS: u32 = 1_000_000;
const ACCESSES: usize = 5_000_000;

/// A trace's name, what writes it, and the sizes of the stores that are run with it.
pub type Trace = (&'static str, fn() -> Vec<u32>, &'static [usize]);

pub const TRACES: [Trace; 12] = [
    ("zipf-0.7", || zipf(0.7), &[10_000, 100_000]),
    ("zipf-0.9", || zipf(0.9), &[1_000, 10_000, 100_000]),
    ("zipf-1.1", || zipf(1.1), &[10_000, 100_000]),
    ("scan-once", || scans(1, true), &[10_000, 100_000]),
    ("scan-again", || scans(1, false), &[10_000, 100_000]),
    ("scan-twice", || scans(2, true), &[10_000, 100_000]),
    ("loop-1.2", || cycle(12_000), &[10_000]),
    ("loop-2", || cycle(20_000), &[10_000]),
    ("loop-10", || cycle(100_000), &[10_000]),
    ("shift", shift, &[10_000, 100_000]),
    ("latest", latest, &[10_000, 100_000]),
    ("bursts", bursts, &[10_000, 100_000]),
];

/// Writes every trace to a file of its name.
pub fn write(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (name, make, _) in TRACES {
        let bytes: Vec<u8> = make().into_iter().flat_map(u32::to_le_bytes).collect();
        let unfinished = folder.join(format!("{name}.unfinished"));
        fs::write(&unfinished, bytes)?;
        fs::rename(&unfinished, folder.join(format!("{name}.trace")))?;
    }
    Ok(())
}

/// Key `k` as often as `(k + 1) ^ -exponent`.
fn zipf(exponent: f64) -> Vec<u32> {
    let mut ranks = Ranks::new(exponent);
    (0..ACCESSES).map(|_| ranks.draw()).collect()
}

/// Zipf's 0.9, and after every 100,000 accesses a scan of 50,000 that reads each cold key `reads` times. Each
/// scan is of keys never seen before, or all are of the same.
fn scans(reads: u32, fresh: bool) -> Vec<u32> {
    let mut ranks = Ranks::new(0.9);
    let mut trace = Vec::new();
    let mut cold = KEYS;
    for _ in 0..ACCESSES / 100_000 {
        trace.extend((0..100_000).map(|_| ranks.draw()));
        trace.extend((0..50_000).map(|read| cold + read / reads));
        cold += if fresh { 50_000 / reads } else { 0 };
    }
    trace
}

/// All keys in turn, 50 times.
fn cycle(keys: u32) -> Vec<u32> {
    (0..50 * keys).map(|access| access % keys).collect()
}

/// Zipf's 0.9 where after every 1,000,000 accesses other keys are the popular ones.
fn shift() -> Vec<u32> {
    let mut ranks = Ranks::new(0.9);
    let popular = |access: usize| (access / 1_000_000) as u32 * 190_001;
    (0..ACCESSES)
        .map(|access| (ranks.draw() + popular(access)) % KEYS)
        .collect()
}

/// Every tenth access is of a new key, the others are of older ones: Zipf's 0.9 over their age.
fn latest() -> Vec<u32> {
    let mut ranks = Ranks::new(0.9);
    (0..ACCESSES as u32)
        .map(|access| match KEYS + access / 10 {
            newest if access % 10 == 0 => newest,
            newest => newest - ranks.draw(),
        })
        .collect()
}

/// Zipf's 0.9, and as many accesses again of keys that are read three times within some 3,000 accesses and
/// never after.
fn bursts() -> Vec<u32> {
    let mut ranks = Ranks::new(0.9);
    let mut trace = Vec::new();
    let mut later: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    let mut newest = KEYS;
    while trace.len() < ACCESSES {
        if let Some(mut due) = later.remove(&trace.len()) {
            trace.extend(due.pop());
            if !due.is_empty() {
                later.entry(trace.len()).or_default().append(&mut due);
            }
        } else if ranks.random.unit() < 0.75 {
            trace.push(ranks.draw());
        } else {
            newest += 1;
            trace.push(newest);
            for _ in 0..2 {
                let gap = -3_000.0 * (1.0 - ranks.random.unit()).ln();
                let place = trace.len() + gap as usize;
                later.entry(place).or_default().push(newest);
            }
        }
    }
    trace
}

/// Keys as popular as Zipf's law says.
struct Ranks {
    random: Random,
    sums: Vec<f64>,
}

impl Ranks {
    fn new(exponent: f64) -> Self {
        let mut sum = 0.0;
        let weight = |rank: u32| f64::from(rank).powf(-exponent);
        let sums = (1..=KEYS).map(weight).map(|weight| {
            sum += weight;
            sum
        });
        Ranks {
            sums: sums.collect(),
            random: Random(0),
        }
    }

    fn draw(&mut self) -> u32 {
        let place = self.random.unit() * self.sums[self.sums.len() - 1];
        self.sums.partition_point(|&sum| sum <= place) as u32
    }
}

/// Splitmix64.
struct Random(u64);

impl Random {
    /// From 0 to 1, without 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        (scatter(self.0) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Spreads numbers over all 64 bits, each to another one.
pub fn scatter(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ number >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ number >> 31
}
