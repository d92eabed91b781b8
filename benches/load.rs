//! TSV load: rows and bytes a second, and anonymous memory at its peak and at the end.
//!
//! `cargo bench --bench load -- [shape] [--threads N] [--runs N]`; without a shape every shape runs in its own process.
//! Files are made once in `$ATBR_BENCH_DIR` (default: the folder for temporary files) and read from the page cache.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, io};

use atbr::engine::{Options, Store};
use atbr::files::tsv::{self, LoadOptions, LoadReport};

/// A kind of file: its name, what it is, and what writes it.
type Shape = (
    &'static str,
    &'static str,
    fn(&mut dyn Write) -> io::Result<()>,
);

const SHAPES: [Shape; 3] = [
    ("rows", "10,000,000 rows of 50 B, all keys different", rows),
    (
        "repeated",
        "10,000,000 rows of 50 B over 1,000,000 keys",
        repeated,
    ),
    ("json", "212,969 rows, 117,362,571 B, as in 2012", json),
];

const ROWS: u64 = 10_000_000;
const JSON_ROWS: u64 = 212_969;
const JSON_BYTES: u64 = 117_362_571;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let number = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1)?.parse::<usize>().ok()
    };
    let runs = number("--runs").unwrap_or(5);
    let threads = number("--threads");
    match SHAPES
        .iter()
        .find(|(name, ..)| arguments.first().is_some_and(|first| first == name))
    {
        Some(shape) => measure(shape, threads, runs),
        None => {
            for (name, ..) in SHAPES {
                Command::new(env::current_exe()?)
                    .arg(name)
                    .args(&arguments)
                    .status()?;
            }
            Ok(())
        }
    }
}

fn measure(shape: &Shape, threads: Option<usize>, runs: usize) -> io::Result<()> {
    let (name, what, write) = shape;
    let path = folder().join(format!("atbr-bench-{name}.tsv"));
    if !path.exists() {
        let unfinished = path.with_extension("unfinished");
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&unfinished)?);
        write(&mut file)?;
        file.flush()?;
        fs::rename(&unfinished, &path)?;
    }
    fs::read(&path)?;
    println!("{name}: {what}");
    let options = LoadOptions {
        threads,
        ..LoadOptions::default()
    };
    let mut best: Option<LoadReport> = None;
    for _ in 0..runs {
        let before = anonymous_bytes();
        let mut peak = 0;
        let processor = processor_seconds();
        let store = Store::new(&Options::default()).map_err(io::Error::other)?;
        let report = load(&store, &path, &options, &mut peak)?;
        let processor = processor_seconds() - processor;
        let kept = anonymous_bytes().saturating_sub(before);
        println!(
            "  {:.3} s ({processor:.3} s of processors)  {:6.2} M rows/s  {:.3} GB/s  peak/kept {:.2}  {:.1} B a key kept",
            report.seconds,
            report.pairs_per_second() / 1e6,
            report.bytes as f64 / report.seconds / 1e9,
            peak.saturating_sub(before) as f64 / kept as f64,
            kept as f64 / store.len() as f64,
        );
        if best.is_none_or(|best| report.seconds < best.seconds) {
            best = Some(report);
        }
    }
    if let Some(best) = best {
        println!("{best}\n");
    }
    Ok(())
}

fn load(
    store: &Store,
    path: &Path,
    options: &LoadOptions,
    peak: &mut u64,
) -> io::Result<LoadReport> {
    let watched = |_: &_| {
        *peak = (*peak).max(anonymous_bytes());
        ControlFlow::Continue(())
    };
    let mut watched = watched;
    tsv::load(store, path, options, &mut watched).map_err(io::Error::other)
}

fn folder() -> PathBuf {
    env::var_os("ATBR_BENCH_DIR").map_or_else(env::temp_dir, PathBuf::from)
}

/// Anonymous resident memory of this process; 0 where /proc does not tell.
fn anonymous_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Time that all threads of this process have spent on a processor: steadier than the clock on a busy machine.
fn processor_seconds() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a timespec of this function.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Spreads numbers over all 64 bits, each to another one.
fn scatter(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ number >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ number >> 31
}

fn rows(file: &mut dyn Write) -> io::Result<()> {
    for row in 0..ROWS {
        writeln!(file, "{:016x}\t{:032}", scatter(row), row)?;
    }
    Ok(())
}

fn repeated(file: &mut dyn Write) -> io::Result<()> {
    for row in 0..ROWS {
        let key = scatter(row) % (ROWS / 10);
        writeln!(file, "{:016x}\t{:032}", scatter(key), row)?;
    }
    Ok(())
}

fn json(file: &mut dyn Write) -> io::Result<()> {
    let mut left = JSON_BYTES;
    for row in 0..JSON_ROWS {
        let rows_left = JSON_ROWS - row;
        let key = format!(r#"{{"id": "{:016x}", "day": {}}}"#, scatter(row), row % 366);
        let frame = r#"{"text": ""}"#.len() + key.len() + 2;
        // Even rows are a third longer than the mean, odd ones as much shorter; the last takes what is left.
        let mean = left / rows_left;
        let length = match row % 2 {
            _ if rows_left == 1 => left,
            0 => mean + mean / 3,
            _ => mean - mean / 3,
        };
        let text = length as usize - frame;
        writeln!(file, r#"{key}	{{"text": "{:x>text$}"}}"#, row)?;
        left -= length;
    }
    Ok(())
}
