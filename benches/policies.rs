//! Hit ratios of eviction policies, simulated entry by entry: what decided the policy of bounded stores.
//!
//! `cargo bench --bench policies` prints one row a policy and one column a trace and size of the store, in
//! percent of all accesses, cold start included. An access is a get and, where it misses, a set.
//! `cargo bench --bench policies -- --traces FOLDER` writes the traces instead, as little-endian 32-bit keys;
//! `benches/hit_ratio.py` runs the store itself and other caches on them.
//!
//! All policies are built from what an append-only log allows: FIFO queues of records, a visited mark, and
//! something that remembers keys which are gone. There is no list to move an entry in at every read.

mod traces;

use std::collections::VecDeque;
use std::path::Path;
use std::{env, io};

use traces::{TRACES, scatter};

/// One policy. The window is a FIFO queue that new keys enter; what leaves it is dropped or promoted to main.
#[derive(Clone, Copy)]
struct Policy {
    name: &'static str,
    /// The window's share of a shard's entries; 0 is none: new keys go to main.
    window: f64,
    /// Survivors at main's hand keep their place (SIEVE) instead of going behind the newest (CLOCK).
    sieve: bool,
    /// Visits that are counted.
    visits: u8,
    /// Visits that promote an entry which leaves the window.
    enough: u8,
    /// Whether a visit counts while the entry is the last one that was set in its shard.
    echo: bool,
    memory: Memory,
    /// Visited entries that the hand passes in search of one victim.
    steps: u32,
    sharded: bool,
}

/// What a policy knows of keys that are not there.
#[derive(Clone, Copy)]
enum Memory {
    Nothing,
    /// Fingerprints of what the window dropped lately, of so many bits (0: the keys themselves), for so many
    /// keys an entry. A key found there goes straight to main if the hand finds a victim in `gate` steps.
    Ghost {
        bits: u32,
        size: f64,
        gate: u32,
    },
    /// TinyLFU: a count-min sketch of 4-bit counters. What leaves the window is promoted if it was counted
    /// more often than main's victim. Counted are all accesses, or new keys and what the hand finds visited.
    Sketch {
        all: bool,
    },
}

/// The policy of the engine; docs/design.md says why.
const CHOSEN: Policy = Policy {
    name: "chosen: window 5 %, CLOCK, gated ghost",
    window: 0.05,
    sieve: false,
    visits: 1,
    enough: 1,
    echo: false,
    memory: ghost(10, 0.9, 1),
    steps: 16,
    sharded: true,
};

const fn ghost(bits: u32, size: f64, gate: u32) -> Memory {
    Memory::Ghost { bits, size, gate }
}

#[rustfmt::skip]
const POLICIES: [Policy; 21] = [
    Policy { name: "CLOCK", echo: true, window: 0.0, memory: Memory::Nothing, steps: u32::MAX, ..CHOSEN },
    Policy { name: "SIEVE", echo: true, window: 0.0, sieve: true, memory: Memory::Nothing, steps: u32::MAX, ..CHOSEN },
    Policy { name: "S3-FIFO, two bits", echo: true, window: 0.1, visits: 3, enough: 2, memory: ghost(0, 0.9, u32::MAX), steps: u32::MAX, ..CHOSEN },
    Policy { name: "S3-FIFO, one bit", echo: true, window: 0.1, memory: ghost(0, 0.9, u32::MAX), steps: u32::MAX, ..CHOSEN },
    Policy { name: "S3-FIFO, sketch for ghost", echo: true, window: 0.1, visits: 3, memory: Memory::Sketch { all: false }, ..CHOSEN },
    Policy { name: "SIEVE + TinyLFU, all counted", echo: true, window: 0.01, sieve: true, memory: Memory::Sketch { all: true }, ..CHOSEN },
    Policy { name: "SIEVE + TinyLFU", echo: true, window: 0.01, sieve: true, memory: Memory::Sketch { all: false }, ..CHOSEN },
    Policy { name: "CLOCK + TinyLFU", echo: true, window: 0.01, memory: Memory::Sketch { all: false }, ..CHOSEN },
    CHOSEN,
    Policy { name: "  in one shard", sharded: false, ..CHOSEN },
    Policy { name: "  window 1 %", window: 0.01, ..CHOSEN },
    Policy { name: "  window 10 %", window: 0.1, ..CHOSEN },
    Policy { name: "  SIEVE for CLOCK", sieve: true, ..CHOSEN },
    Policy { name: "  no gate", memory: ghost(10, 0.9, u32::MAX), ..CHOSEN },
    Policy { name: "  keys for fingerprints", memory: ghost(0, 0.9, 1), ..CHOSEN },
    Policy { name: "  fingerprints of 8 bits", memory: ghost(8, 0.9, 1), ..CHOSEN },
    Policy { name: "  half the ghost", memory: ghost(10, 0.45, 1), ..CHOSEN },
    Policy { name: "  two bits, two visits promote", visits: 3, enough: 2, ..CHOSEN },
    Policy { name: "  echoes count", echo: true, ..CHOSEN },
    Policy { name: "  one hand step", steps: 1, ..CHOSEN },
    Policy { name: "  any number of hand steps", steps: u32::MAX, ..CHOSEN },
];

fn main() -> io::Result<()> {
    let mut arguments = env::args().skip_while(|argument| argument != "--traces");
    if arguments.next().is_some() {
        let folder = arguments.next().unwrap_or_else(|| ".".into());
        return traces::write(Path::new(&folder));
    }
    let mut results = vec![Vec::new(); POLICIES.len()];
    let mut moved = vec![(0, 0); POLICIES.len()];
    let mut heads = (String::new(), String::new());
    for (name, make, sizes) in TRACES {
        let trace = make();
        for &size in sizes {
            heads.0 += &format!("{name:>11}");
            heads.1 += &format!("{size:>11}");
            for (index, policy) in POLICIES.iter().enumerate() {
                let mut cache = Cache::new(policy, size, &trace);
                let hits = trace.iter().filter(|&&key| cache.access(key)).count();
                results[index].push(100.0 * hits as f64 / trace.len() as f64);
                moved[index].0 += cache.moved;
                moved[index].1 += cache.dropped;
            }
        }
    }
    println!("{:40}{}  records moved", "", heads.0);
    println!("{:40}{}  a drop", "", heads.1);
    for ((policy, results), (moved, dropped)) in POLICIES.iter().zip(results).zip(moved) {
        let row: String = results.iter().map(|hit| format!("{hit:11.2}")).collect();
        let moved = moved as f64 / f64::from(dropped);
        println!("{:40}{row}  {moved:.2}", policy.name);
    }
    Ok(())
}

/// A bounded store of nothing but keys.
struct Cache<'a> {
    policy: &'a Policy,
    /// By key: 0 is absent, otherwise visits and one.
    marks: Vec<u8>,
    /// By key: the shard's count of ghosts when it became one, for a ghost of whole keys.
    ghosted: Vec<u32>,
    shards: Vec<Shard>,
    entries: usize,
    size: usize,
    moved: u32,
    dropped: u32,
}

#[derive(Clone, Default)]
struct Shard {
    newest: u32,
    window: VecDeque<u32>,
    /// The hand is at its front.
    main: VecDeque<u32>,
    /// What the hand has passed, in SIEVE.
    passed: VecDeque<u32>,
    /// A word holds the fingerprints of one bucket, the latest lowest.
    ghost: Vec<u64>,
    ghosts: u32,
    counters: Vec<u8>,
    counted: usize,
}

impl<'a> Cache<'a> {
    fn new(policy: &'a Policy, size: usize, trace: &[u32]) -> Self {
        let shards = match size {
            _ if !policy.sharded => 1,
            size => (size / 2048 + 1).next_power_of_two().min(128),
        };
        let share = size.div_ceil(shards) as f64;
        let mut shard = Shard::default();
        match policy.memory {
            Memory::Ghost { bits, size, .. } if bits > 0 => {
                shard.ghost = vec![0; (size * share / f64::from(64 / bits)).ceil() as usize];
            }
            Memory::Sketch { .. } => shard.counters = vec![0; 4 * share as usize],
            _ => {}
        }
        let keys = trace.iter().max().map_or(0, |&key| key as usize + 1);
        Cache {
            policy,
            marks: vec![0; keys],
            ghosted: vec![0; keys],
            shards: vec![shard; shards],
            entries: 0,
            size,
            moved: 0,
            dropped: 0,
        }
    }

    /// Gets the key and sets it if it is not there; returns whether it was.
    fn access(&mut self, key: u32) -> bool {
        let at = reduce(scatter(u64::from(key)), self.shards.len());
        let mark = &mut self.marks[key as usize];
        let hit = *mark > 0;
        if hit && (self.policy.echo || self.shards[at].newest != key) {
            *mark = (*mark + 1).min(1 + self.policy.visits);
        }
        if let Memory::Sketch { all } = self.policy.memory
            && (all || !hit)
        {
            self.shards[at].count(key);
        }
        if !hit {
            self.set(at, key);
        }
        hit
    }

    fn set(&mut self, at: usize, key: u32) {
        self.marks[key as usize] = 1;
        self.shards[at].newest = key;
        let full = self.entries == self.size;
        self.entries += usize::from(!full);
        if self.policy.window == 0.0 {
            if full && self.turn(at, self.policy.steps).is_some() {
                self.drop_victim(at);
            }
            self.shards[at].main.push_back(key);
        } else if full {
            if let Memory::Ghost { gate, .. } = self.policy.memory
                && self.remembers(at, key)
                && self.turn(at, gate) == Some(true)
            {
                self.drop_victim(at);
                self.shards[at].main.push_back(key);
                return;
            }
            self.shards[at].window.push_back(key);
            self.evict(at);
        } else {
            let shard = &mut self.shards[at];
            shard.window.push_back(key);
            if shard.window.len() > self.policy.quota(shard) {
                shard.main.extend(shard.window.pop_front());
                self.moved += 1;
            }
        }
    }

    /// Drops one entry: what is first in the window, or main's victim.
    fn evict(&mut self, at: usize) {
        let shard = &mut self.shards[at];
        if shard.window.len() <= self.policy.quota(shard) && !shard.main.is_empty() {
            self.turn(at, self.policy.steps);
            return self.drop_victim(at);
        }
        let Some(candidate) = shard.window.pop_front() else {
            return;
        };
        let visited = self.marks[candidate as usize] > self.policy.enough;
        let promoted = match self.policy.memory {
            Memory::Sketch { all } => {
                if visited && !all {
                    shard.count(candidate);
                }
                self.turn(at, self.policy.steps).is_some()
                    && (visited || self.shards[at].prefers(candidate))
            }
            _ => visited && self.turn(at, self.policy.steps).is_some(),
        };
        if promoted {
            self.drop_victim(at);
            self.marks[candidate as usize] = 1;
            self.shards[at].main.push_back(candidate);
            self.moved += 1;
        } else {
            self.remember(at, candidate);
            self.drop(candidate);
        }
    }

    /// Turns the hand to an entry without visits, or `steps` entries on: whether it found one, if main has any.
    fn turn(&mut self, at: usize, steps: u32) -> Option<bool> {
        let shard = &mut self.shards[at];
        for step in 0.. {
            if shard.main.is_empty() {
                std::mem::swap(&mut shard.main, &mut shard.passed);
            }
            let &victim = shard.main.front()?;
            let mark = &mut self.marks[victim as usize];
            if *mark == 1 || step == steps {
                return Some(*mark == 1);
            }
            *mark -= 1;
            if let Memory::Sketch { all: false } = self.policy.memory {
                shard.count(victim);
            }
            shard.main.pop_front();
            let survivors = match self.policy.sieve {
                true => &mut shard.passed,
                false => &mut shard.main,
            };
            survivors.push_back(victim);
            self.moved += 1;
        }
        None
    }

    fn drop_victim(&mut self, at: usize) {
        if let Some(victim) = self.shards[at].main.pop_front() {
            self.drop(victim);
        }
    }

    fn drop(&mut self, key: u32) {
        self.marks[key as usize] = 0;
        self.dropped += 1;
    }

    fn remembers(&self, at: usize, key: u32) -> bool {
        let shard = &self.shards[at];
        match self.policy.memory {
            Memory::Ghost { bits: 0, size, .. } => {
                let room = size * (self.size / self.shards.len()) as f64;
                let since = self.ghosted[key as usize];
                since > 0 && f64::from(shard.ghosts - since) < room
            }
            Memory::Ghost { bits, .. } => {
                let (bucket, print) = shard.ghost_of(key, bits);
                let lane = |lane| shard.ghost[bucket] >> (lane * bits) & ((1 << bits) - 1);
                (0..64 / bits).any(|number| lane(number) == print)
            }
            _ => false,
        }
    }

    fn remember(&mut self, at: usize, key: u32) {
        let shard = &mut self.shards[at];
        if let Memory::Ghost {
            bits: bits @ 1.., ..
        } = self.policy.memory
        {
            let (bucket, print) = shard.ghost_of(key, bits);
            shard.ghost[bucket] = shard.ghost[bucket] << bits | print;
        }
        shard.ghosts += 1;
        self.ghosted[key as usize] = shard.ghosts;
    }
}

impl Policy {
    fn quota(&self, shard: &Shard) -> usize {
        let entries = shard.window.len() + shard.main.len() + shard.passed.len();
        ((self.window * entries as f64) as usize).max(1)
    }
}

impl Shard {
    fn ghost_of(&self, key: u32, bits: u32) -> (usize, u64) {
        let hash = scatter(!scatter(u64::from(key)));
        let print = hash & ((1 << bits) - 1);
        (reduce(hash, self.ghost.len()), print.max(1))
    }

    /// Two counters of the key.
    fn counters_of(&self, key: u32) -> [usize; 2] {
        let hash = scatter(!scatter(u64::from(key)));
        [hash, hash.wrapping_mul(0xC2B2_AE3D_27D4_EB4F)].map(|h| reduce(h, self.counters.len()))
    }

    /// Counts an access; all counters are halved after as many as there are counters.
    fn count(&mut self, key: u32) {
        for counter in self.counters_of(key) {
            self.counters[counter] = (self.counters[counter] + 1).min(15);
        }
        self.counted += 1;
        if self.counted >= self.counters.len() {
            self.counters.iter_mut().for_each(|counter| *counter /= 2);
            self.counted /= 2;
        }
    }

    /// Whether the sketch has more of this key than of main's victim.
    fn prefers(&self, key: u32) -> bool {
        let frequency = |key| {
            self.counters_of(key)
                .map(|c| self.counters[c])
                .into_iter()
                .min()
        };
        self.main
            .front()
            .is_none_or(|&victim| frequency(key) > frequency(victim))
    }
}

/// The hash's share of `count` places.
fn reduce(hash: u64, count: usize) -> usize {
    (((hash >> 32) * count as u64) >> 32) as usize
}
