use atbr::engine::*;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
fn rss() -> u64 {
    let t = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    t.lines()
        .find(|l| l.starts_with("Anonymous:"))
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}
fn key(i: u64) -> [u8; 16] {
    let mut k = [0; 16];
    let h = i.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for (j, b) in k.iter_mut().enumerate() {
        *b = b"0123456789abcdef"[(h >> (j * 4)) as usize & 15];
    }
    k
}
fn main() {
    let n: u64 = 10_000_000;
    let mode = std::env::args().nth(1).unwrap_or_default();
    let base = rss();
    let store = Store::new(&Options::default()).unwrap();
    let v = [b'v'; 32];
    let t = Instant::now();
    let mut longest = 0.0f64;
    if mode == "load" {
        let mut bulk = BulkLoad::new(&store, 2, Keep::Last).unwrap();
        let mut at = 0;
        let mut round = 0;
        let (mut tp, mut tm) = (0.0, 0.0);
        while at < n {
            let rows = (bulk.round_bytes(true) as u64 / 50).min(n - at);
            let t = Instant::now();
            std::thread::scope(|s| {
                for (w, writer) in bulk.writers().iter_mut().enumerate() {
                    let from = at + rows * w as u64 / 2;
                    let to = at + rows * (w as u64 + 1) / 2;
                    s.spawn(move || {
                        for i in from..to {
                            writer.push(&key(i), &v).unwrap();
                        }
                    });
                }
            });
            tp += t.elapsed().as_secs_f64();
            let t = Instant::now();
            bulk.merge(&AtomicBool::new(false)).unwrap();
            tm += t.elapsed().as_secs_f64();
            if round == 0 {
                bulk.reserve((n - rows) as usize).unwrap();
            }
            at += rows;
            round += 1;
        }
        bulk.finish().unwrap();
        println!("rounds {round} push {tp:.3} merge {tm:.3}");
    } else {
        for i in 0..n {
            if i & 15 == 0 {
                let t = Instant::now();
                store.set(&key(i), &v, Wait::Block).unwrap();
                longest = longest.max(t.elapsed().as_secs_f64());
            } else {
                store.set(&key(i), &v, Wait::Block).unwrap();
            }
        }
    }
    let s = t.elapsed().as_secs_f64();
    println!(
        "{mode} {:.3} s {:.1} ns/row {:.2} M/s longest {:.3} ms",
        s,
        s * 1e9 / n as f64,
        n as f64 / s / 1e6,
        longest * 1e3
    );
    let used = rss() - base;
    println!(
        "rss {:.2} B/entry overhead {:.2}",
        used as f64 / n as f64,
        used as f64 / n as f64 - 48.0
    );
    println!("{:?}", store.stats());
    let m = unsafe { libc::mallinfo2() };
    println!(
        "heap {} used {} free {} top {} mmapped {} fast {}",
        m.arena, m.uordblks, m.fordblks, m.keepcost, m.hblkhd, m.fsmblks
    );
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut head = String::new();
    for l in maps.lines() {
        if l.contains('-') && !l.contains(':')
            || l.split_whitespace().next().is_some_and(|w| w.contains('-'))
        {
            head = l.to_string();
        }
        if let Some(r) = l.strip_prefix("Anonymous:") {
            let kb: u64 = r.split_whitespace().next().unwrap().parse().unwrap();
            if kb > 1000 {
                println!("{kb} kB {head}");
            }
        }
    }
    if std::env::args().nth(2).is_some() {
        return;
    }
    let mut x = 1u64;
    for round in 0..2 {
        let t = Instant::now();
        let mut hits = 0;
        let m = 2_000_000;
        for _ in 0..m {
            x = x
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            hits += usize::from(
                store
                    .read(&key((x >> 33) % n), Wait::Try, |v| v.as_slice()[0])
                    .unwrap()
                    .is_some(),
            );
        }
        println!(
            "get random {:.1} ns hits {hits} {round}",
            t.elapsed().as_secs_f64() * 1e9 / m as f64
        );
    }
    let mut batch = Batch::default();
    let t = Instant::now();
    let rounds = 2000;
    for _ in 0..rounds {
        let keys: Vec<[u8; 16]> = (0..1000)
            .map(|_| {
                x = x
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                key((x >> 33) % n)
            })
            .collect();
        let refs: Vec<&[u8]> = keys.iter().map(|k| &k[..]).collect();
        store.get_many(&refs, &mut batch).unwrap();
    }
    println!(
        "get_many {:.1} ns/key",
        t.elapsed().as_secs_f64() * 1e9 / rounds as f64 / 1000.0
    );
    let t = Instant::now();
    for i in 0..5_000_000u64 {
        std::hint::black_box(
            store
                .read(&key(i % 1000), Wait::Try, |v| v.as_slice()[0])
                .unwrap(),
        );
    }
    println!("get hot {:.1} ns", t.elapsed().as_secs_f64() * 1e9 / 5e6);
    if mode == "load" {
        let t = Instant::now();
        for i in n / 10..n {
            store.delete(&key(i), Wait::Block).unwrap();
        }
        println!(
            "delete {:.1} ns; rss before compact {:.1} MB",
            t.elapsed().as_secs_f64() * 1e9 / (n as f64 * 0.9),
            (rss() - base) as f64 / 1e6
        );
        let t = Instant::now();
        store.compact().unwrap();
        println!(
            "compact {:.3} s; rss {:.1} MB = {:.1} B/entry",
            t.elapsed().as_secs_f64(),
            (rss() - base) as f64 / 1e6,
            (rss() - base) as f64 / (n / 10) as f64
        );
    }
}
