//! Gets by many clients, each a thread with a connection of its own that asks again once it has its answer, before and
//! while loads of a file repeat back to back: how long answers take. Standard library only, so that `rustc -O` builds it
//! in a moment; `benches/server_latency.py` runs it.
//!
//! getters DOOR ADDRESS HTTP_ADDRESS FILE CLIENTS SECONDS ROWS: DOOR is resp or http, FILE a name in the server's data
//! folder, of the rows that `dataset.medium()` writes. Prints two lines, of the time before the loads and of the time
//! while they run: gets, microseconds of their median, 99th and 99.9th percentile and of the longest; loads, seconds of
//! their median.

use std::io::{Error, Read, Result, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What is going on: gets count where it is `CALM` or `LOADING` when they are asked.
const CALM: u8 = 0;
const BETWEEN: u8 = 1;
const LOADING: u8 = 2;
const OVER: u8 = 3;

struct Plan {
    door: Door,
    address: String,
    http: String,
    file: String,
    clients: usize,
    seconds: f64,
    rows: u64,
}

#[derive(Clone, Copy)]
enum Door {
    Resp,
    Http,
}

/// Nanoseconds of each get, before the loads and while they run.
#[derive(Default)]
struct Times {
    calm: Vec<u64>,
    loading: Vec<u64>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(plan) = parse(&arguments) else {
        // As `cargo bench` runs it.
        println!("getters DOOR ADDRESS HTTP_ADDRESS FILE CLIENTS SECONDS ROWS");
        return ExitCode::SUCCESS;
    };
    match run(&plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: &[String]) -> Option<Plan> {
    let [door, address, http, file, clients, seconds, rows] = arguments else {
        return None;
    };
    Some(Plan {
        door: match door.as_str() {
            "resp" => Door::Resp,
            "http" => Door::Http,
            _ => return None,
        },
        address: address.clone(),
        http: http.clone(),
        file: file.clone(),
        clients: clients.parse().ok()?,
        seconds: seconds.parse().ok()?,
        rows: rows.parse().ok()?,
    })
}

fn run(plan: &Plan) -> Result<()> {
    let phase = AtomicU8::new(CALM);
    let mut connections = (0..plan.clients)
        .map(|_| Connection::open(plan))
        .collect::<Result<Vec<_>>>()?;
    let (mut calm, mut loading, mut loads) = (Vec::new(), Vec::new(), Vec::new());
    thread::scope(|scope| -> Result<()> {
        let phase = &phase;
        let clients: Vec<_> = connections
            .drain(..)
            .enumerate()
            .map(|(i, connection)| scope.spawn(move || ask(plan, connection, i as u64, phase)))
            .collect();
        let loaded = load_for_long(plan, phase, &mut loads);
        phase.store(OVER, Ordering::SeqCst);
        for client in clients {
            let times = client.join().expect("a client does not panic")?;
            calm.extend(times.calm);
            loading.extend(times.loading);
        }
        loaded
    })?;
    report(&mut calm, &mut Vec::new());
    report(&mut loading, &mut loads);
    Ok(())
}

fn load_for_long(plan: &Plan, phase: &AtomicU8, loads: &mut Vec<u64>) -> Result<()> {
    thread::sleep(Duration::from_secs_f64(plan.seconds / 2.0));
    phase.store(BETWEEN, Ordering::SeqCst);
    let started = Instant::now();
    while started.elapsed().as_secs_f64() < plan.seconds {
        loads.push(load(plan, phase)?);
    }
    Ok(())
}

/// Has the file loaded; returns nanoseconds.
fn load(plan: &Plan, phase: &AtomicU8) -> Result<u64> {
    let mut stream = TcpStream::connect(&plan.http)?;
    let request = format!(
        "POST /v1/load?file={} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        plan.file, plan.http
    );
    let started = Instant::now();
    phase.store(LOADING, Ordering::SeqCst);
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    phase.store(BETWEEN, Ordering::SeqCst);
    let took = started.elapsed();
    read?;
    match answer.contains("\"done\":true") {
        true => Ok(took.as_nanos() as u64),
        false => Err(Error::other(answer)),
    }
}

/// Asks until it is over.
fn ask(plan: &Plan, mut connection: Connection, seed: u64, phase: &AtomicU8) -> Result<Times> {
    let mut times = Times::default();
    let mut random = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut request = Vec::new();
    loop {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        request.clear();
        write_request(&mut request, plan.door, random % plan.rows);
        let when = phase.load(Ordering::SeqCst);
        if when == OVER {
            return Ok(times);
        }
        let started = Instant::now();
        connection.stream.write_all(&request)?;
        connection.read_answer(plan.door)?;
        let took = started.elapsed().as_nanos() as u64;
        match when {
            CALM => times.calm.push(took),
            LOADING => times.loading.push(took),
            _ => {}
        }
    }
}

fn write_request(out: &mut Vec<u8>, door: Door, row: u64) {
    let key = format!(
        "{{\"job\": \"sessions\", \"user\": \"u{:07}\", \"part\": {}}}",
        row * 7919 % 1_000_003,
        row % 64
    );
    match door {
        Door::Resp => {
            let head = format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len());
            out.extend_from_slice(head.as_bytes());
        }
        Door::Http => {
            out.extend_from_slice(b"GET /v1/keys/");
            for byte in key.bytes() {
                match byte {
                    b'0'..=b'9' | b'a'..=b'z' | b':' | b',' => out.push(byte),
                    _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
                }
            }
            out.extend_from_slice(b" HTTP/1.1\r\nHost: localhost\r\n\r\n");
        }
    }
}

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Connection {
    fn open(plan: &Plan) -> Result<Connection> {
        let stream = TcpStream::connect(&plan.address)?;
        stream.set_nodelay(true)?;
        let input = vec![0; 1 << 16];
        Ok(Connection { stream, input })
    }

    /// Reads one answer, which has to hold a value.
    fn read_answer(&mut self, door: Door) -> Result<()> {
        let mut have = 0;
        loop {
            let read = self.stream.read(&mut self.input[have..])?;
            if read == 0 {
                return Err(Error::other("the server has hung up"));
            }
            have += read;
            if let Some(wanted) = answer_len(&self.input[..have], door)? {
                match have.cmp(&wanted) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => return Ok(()),
                    std::cmp::Ordering::Greater => return Err(Error::other("more than was asked")),
                }
            }
        }
    }
}

/// Length of an answer, once its head is there.
fn answer_len(bytes: &[u8], door: Door) -> Result<Option<usize>> {
    let wrong = || Error::other(String::from_utf8_lossy(bytes).into_owned());
    let (end, mark): (&[u8], &[u8]) = match door {
        Door::Resp => (b"\r\n", b"$"),
        Door::Http => (b"\r\n\r\n", b"content-length: "),
    };
    let Some(head) = find(bytes, end) else {
        return Ok(None);
    };
    let number = find(&bytes[..head], mark).ok_or_else(wrong)? + mark.len();
    let digits = bytes[number..].iter().take_while(|b| b.is_ascii_digit());
    let len = digits.fold(0, |len, digit| 10 * len + usize::from(digit - b'0'));
    match (len, door) {
        (0..100, _) => Err(wrong()),
        (_, Door::Resp) => Ok(Some(head + 2 + len + 2)),
        (_, Door::Http) => Ok(Some(head + 4 + len)),
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

fn report(gets: &mut [u64], loads: &mut [u64]) {
    gets.sort_unstable();
    loads.sort_unstable();
    let at = |part: f64| match gets.len() {
        0 => f64::NAN,
        len => gets[((len as f64 * part) as usize).min(len - 1)] as f64 / 1e3,
    };
    let load = loads
        .get(loads.len() / 2)
        .map_or(0.0, |&nanoseconds| nanoseconds as f64 / 1e9);
    println!(
        "{} {:.1} {:.1} {:.1} {:.1} {} {load:.3}",
        gets.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        loads.len()
    );
}
