//! How long a get takes beside threads that set, let expire and evict; what a ttl costs a set; expiries a second.
//!
//! `cargo bench --bench latency -- [get|set|expire]`; without a name every part runs in its own process.
//! `ATBR_BENCH_ENTRIES` sets the number of entries (default 10,000,000), `ATBR_BENCH_SECONDS` the length of a phase of `get`
//! (default 10).

use std::hint::black_box;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, io};

use atbr::engine::{Clock, Limits, ManualClock, Options, Store, Ttl, Wait};

const VALUE: [u8; 32] = [b'v'; 32];
const HOUR: u64 = 3_600_000;
type Part = (&'static str, fn(u64));
const PARTS: [Part; 3] = [("get", get), ("set", set), ("expire", expire)];

fn main() -> io::Result<()> {
    let name = env::args().skip(1).find(|argument| argument != "--bench");
    let entries = number("ATBR_BENCH_ENTRIES").unwrap_or(10_000_000);
    for (part, measure) in PARTS {
        if name.as_ref().is_some_and(|name| name == part) {
            measure(entries);
        } else if name.is_none() {
            Command::new(env::current_exe()?).arg(part).status()?;
        }
    }
    Ok(())
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}

/// Spreads numbers over all 64 bits, each to another one.
fn scatter(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ number >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ number >> 31
}

fn key(number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&scatter(number).to_le_bytes());
    key[8..].copy_from_slice(&number.to_le_bytes());
    key
}

/// Random numbers below a bound: the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        ((u128::from(scatter(self.0)) * u128::from(bound)) >> 64) as u64
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Durations in nanoseconds, by power of two and sixteenth of it: no bucket is wider than 6 % of what is in it.
struct Histogram {
    counts: Vec<u64>,
    most: u64,
}

impl Histogram {
    const STEP_BITS: u32 = 4;

    fn new() -> Histogram {
        Histogram {
            counts: vec![0; 64 << Self::STEP_BITS],
            most: 0,
        }
    }

    fn add(&mut self, nanoseconds: u64) {
        self.counts[Self::bucket(nanoseconds)] += 1;
        self.most = self.most.max(nanoseconds);
    }

    fn bucket(nanoseconds: u64) -> usize {
        let power = nanoseconds.max(1).ilog2().saturating_sub(Self::STEP_BITS);
        ((u64::from(power) << Self::STEP_BITS) + (nanoseconds >> power)) as usize
    }

    /// Where the bucket after this one begins.
    fn end(bucket: usize) -> u64 {
        let step = bucket as u64 + 1;
        let power = (step >> Self::STEP_BITS).saturating_sub(1);
        (step - (power << Self::STEP_BITS)) << power
    }

    fn len(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn quantile(&self, share: f64) -> u64 {
        let mut left = (self.len() as f64 * share).ceil() as u64;
        for (bucket, &count) in self.counts.iter().enumerate() {
            if count >= left {
                return Self::end(bucket).min(self.most);
            }
            left -= count;
        }
        self.most
    }

    fn row(&self, name: &str) {
        print!("  {name:<28}{:>11}", self.len());
        for share in [0.5, 0.95, 0.99, 0.999, 0.9999] {
            print!("{:>10}", shown(self.quantile(share)));
        }
        println!("{:>10}", shown(self.most));
    }

    /// A bar a power of two: as long as the logarithm of the number of durations, and their share.
    fn bars(&self) {
        let all = self.len() as f64;
        for power in 5..40 {
            let first = Self::bucket(1 << power);
            let count: u64 = self.counts[first..Self::bucket(2 << power)].iter().sum();
            if count > 0 {
                let bar = "#".repeat((5.0 * (count as f64).log10()) as usize + 1);
                let share = 100.0 * count as f64 / all;
                println!("  < {:>8} {share:10.5} % {bar}", shown(2 << power));
            }
        }
    }
}

fn shown(nanoseconds: u64) -> String {
    match nanoseconds as f64 {
        few if few < 1e3 => format!("{few:.0} ns"),
        some if some < 1e6 => format!("{:.1} us", some / 1e3),
        many => format!("{:.1} ms", many / 1e6),
    }
}

/// What the threads of [`get`] share.
struct Scene {
    store: Store,
    entries: u64,
    stop: AtomicBool,
    sets: AtomicU64,
}

/// Gets beside threads that write as fast as they can; and in the place of the thread that gets, one that only reads the clock:
/// what the machine alone adds where threads outnumber cores.
fn get(entries: u64) {
    let limits = Limits {
        entries,
        ..Limits::default()
    };
    let store = Store::new(&Options {
        limits,
        ..Options::default()
    })
    .expect("memory");
    for number in 0..entries {
        store
            .set(&key(number), &VALUE, Wait::Block)
            .expect("memory");
    }
    let scene = Scene {
        store,
        entries,
        stop: AtomicBool::new(false),
        sets: AtomicU64::new(0),
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let overhead = scene.store.stats().bytes_allocated as f64 / entries as f64 - 48.0;
    println!("get of {entries} entries at their bound, 16 B + 32 B, {cores} cores");
    println!(
        "  {overhead:.1} B an entry beyond that, {} shards",
        scene.store.shards()
    );
    println!(
        "  {:<28}{:>11}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
        "", "count", "p50", "p95", "p99", "p99.9", "p99.99", "longest"
    );
    let alone = beside(&scene, 0, |scene| read(scene, 1));
    alone.row("alone");
    let usual = Duration::from_nanos(alone.quantile(0.5));
    for writers in [1, 4] {
        let before = (scene.sets.load(Ordering::Relaxed), scene.store.stats());
        let gets = beside(&scene, writers, |scene| read(scene, 2));
        let after = scene.store.stats();
        let sets = scene.sets.load(Ordering::Relaxed);
        let clock = beside(&scene, writers, |scene| spin(scene, usual));
        gets.row(&format!("beside {writers} writing threads"));
        clock.row("  the clock in its place");
        println!(
            "  meanwhile {} sets, {} evicted, {} expired",
            sets - before.0,
            after.evictions - before.1.evictions,
            after.expirations - before.1.expirations,
        );
        if writers == 4 {
            println!("  get beside 4 writing threads:");
            gets.bars();
            println!("  the clock in its place:");
            clock.bars();
        }
    }
}

/// Runs `work` for some seconds beside so many writing threads.
fn beside<R>(scene: &Scene, writers: u64, work: impl FnOnce(&Scene) -> R) -> R {
    let seconds = number("ATBR_BENCH_SECONDS").unwrap_or(10);
    // The first entries to expire live a second.
    let ahead = Duration::from_secs(if writers > 0 { 2 } else { 0 });
    scene.stop.store(false, Ordering::Relaxed);
    thread::scope(|scope| {
        for seed in 0..writers {
            scope.spawn(move || write(scene, 1_000 * (seed + 1)));
        }
        thread::sleep(ahead);
        scope.spawn(|| {
            thread::sleep(Duration::from_secs(seconds));
            scene.stop.store(true, Ordering::Relaxed);
        });
        work(scene)
    })
}

/// Sets keys, half of them new ones; a third with one to five seconds to live.
fn write(scene: &Scene, seed: u64) {
    let mut random = Random(seed);
    let mut sets = 0;
    while !scene.stop.load(Ordering::Relaxed) {
        let key = key(random.below(2 * scene.entries));
        let ttl = match random.below(3) {
            0 => Ttl::Millis(1_000 + random.below(4_000)),
            _ => Ttl::Never,
        };
        scene
            .store
            .set_with(&key, &VALUE, ttl, Wait::Block)
            .expect("memory");
        sets += 1;
    }
    scene.sets.fetch_add(sets, Ordering::Relaxed);
}

fn read(scene: &Scene, seed: u64) -> Histogram {
    let mut random = Random(seed);
    let mut times = Histogram::new();
    while !scene.stop.load(Ordering::Relaxed) {
        let key = key(random.below(scene.entries));
        let start = Instant::now();
        let first = scene
            .store
            .read(&key, Wait::Block, |value| value.as_slice()[0]);
        let taken = start.elapsed();
        black_box(first.expect("it waits"));
        times.add(taken.as_nanos() as u64);
    }
    times
}

/// As [`read`], of a get that reads the clock until the usual time is over.
fn spin(scene: &Scene, usual: Duration) -> Histogram {
    let mut random = Random(0);
    let mut times = Histogram::new();
    while !scene.stop.load(Ordering::Relaxed) {
        black_box(key(random.below(scene.entries)));
        let start = Instant::now();
        while start.elapsed() < usual {}
        times.add(start.elapsed().as_nanos() as u64);
    }
    times
}

/// Sets with and without a ttl, in turns: nanoseconds, and the ratio.
fn set(_: u64) {
    const ENTRIES: u64 = 1_000_000;
    const RUNS: usize = 9;
    println!("set, {ENTRIES} entries, medians of {RUNS} runs in turns");
    type Way = (&'static str, fn(&mut Random) -> Ttl);
    let ways: [Way; 3] = [
        ("without a ttl", |_| Ttl::Never),
        ("the same ttl each", |_| Ttl::Millis(HOUR)),
        ("a second to an hour", |random| {
            Ttl::Millis(1_000 + random.below(HOUR))
        }),
    ];
    let mut growing = [const { Vec::new() }; 3];
    let mut overwriting = [const { Vec::new() }; 3];
    for _ in 0..RUNS {
        for (way, (_, ttl)) in ways.iter().enumerate() {
            let store = Store::new(&Options::default()).expect("memory");
            let pass = |seed| {
                let mut random = Random(seed);
                let start = Instant::now();
                for number in 0..ENTRIES {
                    // Another order, so that overwriting does not follow the log.
                    let key = key((number * 7_919 * seed) % ENTRIES);
                    let ttl = ttl(&mut random);
                    let done = store.set_with(&key, &VALUE, ttl, Wait::Block);
                    black_box(done.expect("memory"));
                }
                start.elapsed().as_nanos() as f64 / ENTRIES as f64
            };
            growing[way].push(pass(1));
            overwriting[way].push(pass(3));
        }
    }
    for (what, times) in [("growing", growing), ("overwriting", overwriting)] {
        let times = times.map(median);
        for (way, (name, _)) in ways.iter().enumerate() {
            let ratio = times[way] / times[0];
            println!("  {what:<12} {name:<20} {:5.0} ns {ratio:6.2}", times[way]);
        }
    }
}

/// All entries due at once: how many one thread takes out a second, and the longest step, for which a shard is locked.
fn expire(entries: u64) {
    println!("expire, {entries} entries due at once");
    for _ in 0..3 {
        let clock = ManualClock::default();
        let store = Store::new(&Options {
            clock: Clock::Manual(clock.clone()),
            sweeps: false,
            ..Options::default()
        })
        .expect("memory");
        for number in 0..entries {
            store
                .set_with(&key(number), &VALUE, Ttl::Millis(1_000), Wait::Block)
                .expect("memory");
        }
        clock.advance(2_000);
        let mut steps = Histogram::new();
        let mut last = Instant::now();
        let start = last;
        let expired = store.expire_while(&mut || {
            let now = Instant::now();
            steps.add((now - last).as_nanos() as u64);
            last = now;
            true
        });
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "  {:.2} M a second; steps: p50 {}, p99.9 {}, longest {}",
            expired.expect("not cancelled") as f64 / seconds / 1e6,
            shown(steps.quantile(0.5)),
            shown(steps.quantile(0.999)),
            shown(steps.most),
        );
    }
}
