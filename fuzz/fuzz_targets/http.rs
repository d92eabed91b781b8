//! Any address: the door answers it, and what it writes and reads is what an obvious reading of the address says.
#![no_main]

use std::cell::OnceCell;

use atbr::server::Probe;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static PROBE: OnceCell<Probe> = const { OnceCell::new() };
}

const STARTS: [&str; 12] = [
    "",
    "/v1/keys/",
    "/v1/key?",
    "/get/key/",
    "/put/key/",
    "/load/",
    "/save/",
    "/v1/keys?",
    "/v1/",
    "/console/",
    "/v1/load?file=",
    "/v1/save?file=",
];
const METHODS: [&str; 7] = ["GET", "HEAD", "DELETE", "POST", "PUT", "OPTIONS", "PATCH"];

/// Percent sequences as bytes, one character at a time; None where one is cut short.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.chars();
    while let Some(first) = rest.next() {
        if first == '%' {
            let digits = [rest.next()?.to_digit(16)?, rest.next()?.to_digit(16)?];
            bytes.push((digits[0] * 16 + digits[1]) as u8);
        } else {
            bytes.extend(first.to_string().bytes());
        }
    }
    Some(bytes)
}

/// Key and value of what follows `/put/key/`.
fn parts_of_put(rest: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let pieces: Vec<_> = rest.split("/value/").collect();
    let (last, before) = pieces.split_last()?;
    // Middles may overlap: "/value/value/v" is cut at its last one.
    let overlaps = last.strip_prefix("value/");
    let (key, value) = match (before, overlaps) {
        ([], _) => return None,
        (_, Some(value)) => (format!("{}/value", before.join("/value/")), value),
        (_, None) => (before.join("/value/"), *last),
    };
    let (key, value) = (decoded(&key)?, decoded(value)?);
    (!key.is_empty() && !value.is_empty()).then_some((key, value))
}

fuzz_target!(|data: &[u8]| {
    let &[method, start, ref rest @ ..] = data else {
        return;
    };
    let method = METHODS[usize::from(method) % METHODS.len()];
    let start = STARTS[usize::from(start) % STARTS.len()];
    let target = [start.as_bytes(), rest].concat();
    PROBE.with(|probe| check(probe.get_or_init(|| Probe::new().unwrap()), method, &target));
});

fn check(probe: &Probe, method: &str, target: &[u8]) {
    let zero = probe.databases().get(0).unwrap();
    let Some((status, body)) = probe.ask(method, target) else {
        return;
    };
    assert!((200..500).contains(&status), "{status}");
    // A fragment is none of the server's business.
    let target = target.split(|&byte| byte == b'#').next().unwrap();
    let target = std::str::from_utf8(target).unwrap();
    let (path, query) = target
        .split_once('?')
        .map_or((target, ""), |(path, query)| (path, query));
    for start in ["/load/", "/save/", "/v1/load", "/v1/save"] {
        // Rows may come in the body.
        let needs_folder = path.starts_with(start) && (method, path) != ("PUT", "/v1/load");
        assert!(
            !needs_folder || status >= 400,
            "{status}: no folder was given"
        );
    }
    if method == "GET" && query.is_empty() {
        if let Some(rest) = path.strip_prefix("/put/key/") {
            match parts_of_put(rest) {
                Some((key, value)) if key.len() <= 65_535 => {
                    assert_eq!(status, 200, "{target}");
                    assert_eq!(zero.get(&key).unwrap(), Some(value));
                }
                _ => assert!((400..500).contains(&status), "{status} {target}"),
            }
        }
        if let Some(rest) = path.strip_prefix("/get/key/") {
            match decoded(rest) {
                Some(key) => assert_eq!(
                    (status, body),
                    (200, zero.get(&key).unwrap().unwrap_or_default())
                ),
                None => assert_eq!(status, 400),
            }
        } else if let Some(rest) = path.strip_prefix("/v1/keys/") {
            match decoded(rest).map(|key| zero.get(&key).unwrap()) {
                Some(Some(value)) => assert_eq!((status, body), (200, value)),
                Some(None) => assert_eq!(status, 404),
                None => assert_eq!(status, 400),
            }
        }
    }
    if zero.len() > 1000 {
        zero.clear().unwrap();
    }
}
