//! Gets over WebSockets, pipelined: a generator of load for a server that runs already. Standard library only, so that
//! `rustc -O` builds it in a moment; `benches/web.py` runs it.
//!
//! websocket ADDRESS PATH SOCKETS PIPELINE SECONDS KEYS: keys are key:0 to key:(KEYS-1). Prints gets a second.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

struct Load {
    address: String,
    path: String,
    sockets: usize,
    pipeline: usize,
    seconds: f64,
    keys: u64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(load) = parse(&arguments) else {
        // As `cargo bench` runs it.
        println!("websocket ADDRESS PATH SOCKETS PIPELINE SECONDS KEYS");
        return ExitCode::SUCCESS;
    };
    match run(&load) {
        Ok(rate) => {
            println!("{rate:.0}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: &[String]) -> Option<Load> {
    let [address, path, sockets, pipeline, seconds, keys] = arguments else {
        return None;
    };
    Some(Load {
        address: address.clone(),
        path: path.clone(),
        sockets: sockets.parse().ok()?,
        pipeline: pipeline.parse().ok()?,
        seconds: seconds.parse().ok()?,
        keys: keys.parse().ok()?,
    })
}

fn run(load: &Load) -> std::io::Result<f64> {
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let sockets = (0..load.sockets)
        .map(|_| connect(load))
        .collect::<std::io::Result<Vec<_>>>()?;
    let started = Instant::now();
    thread::scope(|scope| {
        let (stop, answered) = (&stop, &answered);
        let workers: Vec<_> = sockets
            .into_iter()
            .enumerate()
            .map(|(i, socket)| scope.spawn(move || work(load, socket, i as u64, stop, answered)))
            .collect();
        thread::sleep(Duration::from_secs_f64(load.seconds));
        stop.store(true, Ordering::Relaxed);
        workers.into_iter().try_for_each(|worker| {
            let joined = worker.join();
            joined.unwrap_or_else(|_| Err(std::io::Error::other("a worker has panicked")))
        })
    })?;
    Ok(answered.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64())
}

fn connect(load: &Load) -> std::io::Result<TcpStream> {
    let mut socket = TcpStream::connect(&load.address)?;
    socket.set_nodelay(true)?;
    write!(
        socket,
        "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        load.path, load.address
    )?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    match head.starts_with(b"HTTP/1.1 101 ") {
        true => Ok(socket),
        false => Err(std::io::Error::other(
            String::from_utf8_lossy(&head).into_owned(),
        )),
    }
}

/// Sends so many requests at once, reads as many answers, and again.
fn work(
    load: &Load,
    mut socket: TcpStream,
    seed: u64,
    stop: &AtomicBool,
    answered: &AtomicU64,
) -> std::io::Result<()> {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let (mut requests, mut input) = (Vec::new(), vec![0; 1 << 16]);
    while !stop.load(Ordering::Relaxed) {
        requests.clear();
        for _ in 0..load.pipeline {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            add_request(&mut requests, load, random % load.keys);
        }
        socket.write_all(&requests)?;
        read_answers(&mut socket, load.pipeline, &mut input)?;
        answered.fetch_add(load.pipeline as u64, Ordering::Relaxed);
    }
    Ok(())
}

fn add_request(out: &mut Vec<u8>, load: &Load, number: u64) {
    let key = format!("key:{number}");
    // The API's binary get; the socket of 2012 takes the key alone.
    let head: &[u8] = match load.path.as_str() {
        "/v1/ws" => &[1, 0, 0, 0, 0, 1],
        _ => &[],
    };
    out.extend_from_slice(&[0x82, 0x80 | (head.len() + key.len()) as u8]);
    out.extend_from_slice(&MASK);
    let payload = head.iter().chain(key.as_bytes());
    out.extend(
        payload
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
}

/// Reads so many frames, none of them empty of a value.
fn read_answers(socket: &mut TcpStream, count: usize, input: &mut [u8]) -> std::io::Result<()> {
    let (mut left, mut start, mut end) = (count, 0, 0);
    while left > 0 {
        if end == input.len() {
            input.copy_within(start..end, 0);
            end -= start;
            start = 0;
        }
        let read = socket.read(&mut input[end..])?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        end += read;
        while let Some(len) = frame_len(&input[start..end]) {
            if len < 8 {
                return Err(std::io::Error::other("a value is missing"));
            }
            start += len;
            left -= 1;
        }
    }
    Ok(())
}

/// Length of the first frame; None where it is not whole.
fn frame_len(bytes: &[u8]) -> Option<usize> {
    let len = match *bytes.get(1)? {
        126 => 4 + usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?])),
        short => 2 + usize::from(short),
    };
    (bytes.len() >= len).then_some(len)
}
