//! Any stream of requests, cut anywhere: it is cut into the commands that an obvious reading finds, and each of them gets one
//! whole reply, or none where that was asked for.
#![no_main]

use atbr::server::{RespCommands, RespEnd, RespProbe, resp_commands, resp_keys_ahead};
use libfuzzer_sys::fuzz_target;

const BULK: usize = 2_000;

/// A line and what follows it; lines of arrays end at a carriage return and any byte.
fn line(stream: &[u8], end: u8) -> Option<(&[u8], &[u8])> {
    let at = stream.iter().position(|&byte| byte == end)?;
    let after = at + if end == b'\r' { 2 } else { 1 };
    (after <= stream.len()).then(|| (&stream[..at], &stream[after..]))
}

/// A number as the protocol writes it: the only text that it is printed as.
fn number(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}

enum Read<'a> {
    Command(Vec<Vec<u8>>, &'a [u8]),
    Nothing(&'a [u8]),
    Partial,
    Wrong,
}

fn read(stream: &[u8]) -> Read<'_> {
    if stream.first() != Some(&b'*') {
        return match line(stream, b'\n') {
            None => Read::Partial,
            Some((words, rest)) => match split(words.strip_suffix(b"\r").unwrap_or(words)) {
                None => Read::Wrong,
                Some(words) if words.is_empty() => Read::Nothing(rest),
                Some(words) => Read::Command(words, rest),
            },
        };
    }
    let Some((count, mut rest)) = line(&stream[1..], b'\r') else {
        return Read::Partial;
    };
    let count = match number(count) {
        Some(count) if count <= i64::from(i32::MAX) => count,
        _ => return Read::Wrong,
    };
    if count <= 0 {
        return Read::Nothing(rest);
    }
    let mut args = Vec::new();
    for _ in 0..count {
        let Some((len, after)) = line(rest, b'\r') else {
            return Read::Partial;
        };
        let len = len.strip_prefix(b"$").and_then(number);
        let Some(len) = len
            .and_then(|len| usize::try_from(len).ok())
            .filter(|&len| len <= BULK)
        else {
            return Read::Wrong;
        };
        if after.len() < len + 2 {
            return Read::Partial;
        }
        args.push(after[..len].to_vec());
        rest = &after[len + 2..];
    }
    Read::Command(args, rest)
}

/// Words between spaces, of which quotes are parts; None where a quote is not closed, or not followed by a space.
fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let is_space = |byte: u8| byte == 0 || byte == b' ' || (9..=13).contains(&byte);
    let (mut words, mut word, mut at) = (Vec::new(), None::<Vec<u8>>, 0);
    while at < line.len() {
        let byte = line[at];
        at += 1;
        if is_space(byte) {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        if byte != b'"' && byte != b'\'' {
            word.push(byte);
            continue;
        }
        loop {
            let inside = *line.get(at)?;
            at += 1;
            if inside == byte {
                break;
            }
            let next = line.get(at).copied();
            match (byte, inside, next) {
                (b'\'', b'\\', Some(b'\'')) => {
                    word.push(b'\'');
                    at += 1;
                }
                (b'"', b'\\', Some(next)) => {
                    at += 1;
                    let hex = line
                        .get(at..at + 2)
                        .and_then(|hex| std::str::from_utf8(hex).ok());
                    let hex = hex.filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
                    match (next, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
                        (b'x', Some(byte)) => {
                            word.push(byte);
                            at += 2;
                        }
                        (b'n', _) => word.push(b'\n'),
                        (b'r', _) => word.push(b'\r'),
                        (b't', _) => word.push(b'\t'),
                        (b'b', _) => word.push(8),
                        (b'a', _) => word.push(7),
                        (other, _) => word.push(other),
                    }
                }
                _ => word.push(inside),
            }
        }
        // After a zero byte and a quote there is no telling: the server takes it for no space.
        if line
            .get(at)
            .is_some_and(|&next| next == 0 || !is_space(next))
        {
            return None;
        }
    }
    words.extend(word);
    Some(words)
}

fn read_all(mut stream: &[u8]) -> (RespCommands, bool) {
    let mut commands = Vec::new();
    loop {
        if stream.is_empty() {
            return (commands, false);
        }
        match read(stream) {
            Read::Command(args, rest) => {
                commands.push(args);
                stream = rest;
            }
            Read::Nothing(rest) => stream = rest,
            Read::Partial => return (commands, false),
            Read::Wrong => return (commands, true),
        }
    }
}

/// What follows the first whole reply.
fn after_reply(out: &[u8]) -> &[u8] {
    let (head, mut rest) = line(out, b'\r').expect("a reply is whole");
    let len = || number(&head[1..]).expect("a length");
    match head[0] {
        b'$' | b'=' if len() >= 0 => &rest[len() as usize + 2..],
        b'*' | b'~' | b'>' | b'%' if len() >= 0 => {
            for _ in 0..len() * if head[0] == b'%' { 2 } else { 1 } {
                rest = after_reply(rest);
            }
            rest
        }
        b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'$' | b'*' => rest,
        other => panic!("no reply begins with {other}"),
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&step, stream)) = data.split_first() else {
        return;
    };
    let whole = resp_commands(&[stream], BULK, true);
    let pieces: Vec<_> = stream.chunks(usize::from(step % 64) + 1).collect();
    assert_eq!(resp_commands(&pieces, BULK, true), whole);
    let (commands, end) = whole;
    if end != RespEnd::Foreign {
        let (expected, is_wrong) = read_all(stream);
        assert_eq!(commands, expected);
        assert_eq!(matches!(end, RespEnd::Error(_)), is_wrong);
    }
    for (key, command) in resp_keys_ahead(stream)
        .iter()
        .zip(commands.iter().filter(|c| c.len() > 1))
    {
        assert_eq!(*key, command[1]);
    }
    let mut probe = RespProbe::new(BULK).expect("a server");
    let mut silent = false;
    for command in &commands {
        let Some(out) = probe.run(command) else {
            return;
        };
        silent |= command.len() > 2 && command[1].eq_ignore_ascii_case(b"reply");
        let mut rest = &out[..];
        while !rest.is_empty() {
            rest = after_reply(rest);
        }
        assert!(silent || !out.is_empty(), "{command:?}");
    }
});
