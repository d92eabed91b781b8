//! Any pattern and text: the matcher agrees with one that tries everything.
#![no_main]

use atbr::engine::Glob;
use libfuzzer_sys::fuzz_target;

fn naive(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], _) => text.is_empty(),
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|at| naive(rest, &text[at..])),
        (_, []) => false,
        ([b'?', rest @ ..], [_, after @ ..]) => naive(rest, after),
        ([b'[', class @ ..], [byte, after @ ..]) => {
            let (accepts, rest) = class_accepts(class, *byte);
            accepts && naive(rest, after)
        }
        ([b'\\', literal, rest @ ..], [byte, after @ ..]) => literal == byte && naive(rest, after),
        ([literal, rest @ ..], [byte, after @ ..]) => literal == byte && naive(rest, after),
    }
}

fn class_accepts(class: &[u8], byte: u8) -> (bool, &[u8]) {
    let (negated, mut rest) = match class {
        [b'^', rest @ ..] => (true, rest),
        _ => (false, class),
    };
    let mut found = false;
    loop {
        rest = match rest {
            [] => return (found != negated, rest),
            [b']', after @ ..] => return (found != negated, after),
            [b'\\', literal, after @ ..] => {
                found |= *literal == byte;
                after
            }
            [low, b'-', high, after @ ..] => {
                let (low, high) = (low.min(high), low.max(high));
                found |= low <= &byte && &byte <= high;
                after
            }
            [literal, after @ ..] => {
                found |= *literal == byte;
                after
            }
        };
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&len, rest)) = data.split_first() else {
        return;
    };
    let (pattern, text) = rest.split_at(usize::from(len % 12).min(rest.len()));
    let text = &text[..text.len().min(20)];
    assert_eq!(Glob::new(pattern).matches(text), naive(pattern, text));
});
