//! Requests, parsed where they lie: arrays of bulks, and lines.

use super::number::parse_i64;

/// Longest line of lengths.
const MAX_LINE: usize = 64 << 10;
/// Before authentication: longest argument, and most arguments.
const UNAUTHENTICATED: (i64, i64) = (16 << 10, 10);

/// Most arguments of a command that is looked at before its turn.
const MOST_AHEAD: usize = 16;

/// What a connection may send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowed {
    /// Whether it has authenticated, or need not.
    pub(crate) authenticated: bool,
    /// Longest argument.
    pub(crate) bulk: usize,
    /// Longest inline command.
    pub(crate) line: usize,
}

/// The arguments of one command; the first one is its name.
#[derive(Clone, Copy)]
pub(crate) struct Args<'a> {
    bytes: &'a [u8],
    ranges: &'a [(usize, usize)],
}

impl<'a> Args<'a> {
    pub(crate) fn new(bytes: &'a [u8], ranges: &'a [(usize, usize)]) -> Self {
        Args { bytes, ranges }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Bytes from the first argument to the end of the last.
    #[inline]
    pub(crate) fn span(&self) -> usize {
        match (self.ranges.first(), self.ranges.last()) {
            (Some(first), Some(last)) => last.1 - first.0,
            _ => 0,
        }
    }

    /// Argument `i`; empty where there are fewer.
    #[inline]
    pub(crate) fn at(&self, i: usize) -> &'a [u8] {
        self.ranges
            .get(i)
            .map_or(&[][..], |&(start, end)| &self.bytes[start..end])
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone + use<'a> {
        let bytes = self.bytes;
        self.ranges
            .iter()
            .map(move |&(start, end)| &bytes[start..end])
    }

    /// Without the first `n`.
    pub(crate) fn from(&self, n: usize) -> Args<'a> {
        Args {
            bytes: self.bytes,
            ranges: self.ranges.get(n..).unwrap_or_default(),
        }
    }
}

/// What the bytes so far are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// A whole command: see [`Parser::args`].
    Command,
    /// Nothing to do, such as an empty line.
    Nothing,
    /// Part of a command.
    Partial,
    /// A request of another protocol.
    Foreign,
    /// No request; the connection has to end after this error.
    Broken(Vec<u8>),
}

/// Where the parser is within one command. Positions are from the command's first byte.
#[derive(Default)]
pub(crate) struct Parser {
    ranges: Vec<(usize, usize)>,
    /// Bytes of the command that have been parsed.
    at: usize,
    /// Arguments that are still to come.
    missing: i64,
    /// Length of the argument that is next, once it is known.
    next_len: Option<usize>,
    /// An inline command's arguments, without their quotes.
    unquoted: Vec<u8>,
    is_inline: bool,
    /// Something was parsed before.
    is_later: bool,
}

impl Parser {
    /// The command that was parsed from `bytes`.
    #[inline]
    pub(crate) fn args<'a>(&'a self, bytes: &'a [u8]) -> Args<'a> {
        let bytes = if self.is_inline {
            &self.unquoted
        } else {
            bytes
        };
        Args::new(bytes, &self.ranges)
    }

    /// Begins the next command; returns how many bytes the last one had.
    #[inline]
    pub(crate) fn next(&mut self) -> usize {
        if self.ranges.capacity() > 64 {
            self.ranges = Vec::new();
        }
        self.ranges.clear();
        self.unquoted = Vec::new();
        self.is_inline = false;
        self.is_later = true;
        self.missing = 0;
        self.next_len = None;
        std::mem::take(&mut self.at)
    }

    /// Bytes that have to come before the command can be whole, as far as is known.
    pub(crate) fn wanted(&self, have: usize) -> usize {
        self.next_len
            .map_or(0, |len| (self.at + len + 2).saturating_sub(have))
    }

    /// Whether part of the command was parsed already.
    pub(crate) fn has_begun(&self) -> bool {
        self.at > 0
    }

    /// Memory that it holds.
    pub(crate) fn memory(&self) -> usize {
        self.ranges.capacity() * size_of::<(usize, usize)>() + self.unquoted.capacity()
    }

    /// Goes on with a command whose bytes so far are `bytes`, of which those that came before are unchanged.
    #[inline]
    pub(crate) fn parse(&mut self, bytes: &[u8], allowed: Allowed) -> Parsed {
        if self.missing == 0 {
            if bytes.first() != Some(&b'*') {
                return self.parse_inline(bytes, allowed);
            }
            let Some(end) = find_line(bytes, 1) else {
                return partial_line(bytes, 0, "Protocol error: too big mbulk count string");
            };
            self.at = end + 2;
            match parse_i64(&bytes[1..end]) {
                Some(count) if count > i64::from(i32::MAX) => {
                    return broken("Protocol error: invalid multibulk length");
                }
                None => return broken("Protocol error: invalid multibulk length"),
                Some(count) if !allowed.authenticated && count > UNAUTHENTICATED.1 => {
                    return broken("Protocol error: unauthenticated multibulk length");
                }
                Some(count) if count <= 0 => return Parsed::Nothing,
                Some(count) => self.missing = count,
            }
        }
        while self.missing > 0 {
            let len = match self.next_len {
                Some(len) => len,
                None => match self.parse_len(bytes, allowed) {
                    Ok(len) => len,
                    Err(parsed) => return parsed,
                },
            };
            let end = self.at + len;
            if bytes.len() < end + 2 {
                return Parsed::Partial;
            }
            self.ranges.push((self.at, end));
            self.at = end + 2;
            self.next_len = None;
            self.missing -= 1;
        }
        Parsed::Command
    }

    /// The length that an argument begins with.
    #[inline]
    fn parse_len(&mut self, bytes: &[u8], allowed: Allowed) -> Result<usize, Parsed> {
        let Some(end) = find_line(bytes, self.at) else {
            return Err(partial_line(
                bytes,
                self.at,
                "Protocol error: too big bulk count string",
            ));
        };
        let first = bytes[self.at];
        if first != b'$' {
            let mut error = b"Protocol error: expected '$', got '".to_vec();
            // A line end cannot be part of an error.
            error.push(if matches!(first, b'\r' | b'\n') {
                b' '
            } else {
                first
            });
            error.push(b'\'');
            return Err(Parsed::Broken(error));
        }
        let len = parse_i64(&bytes[self.at + 1..end]).filter(|&len| len >= 0);
        let Some(len) = len.filter(|&len| len as usize <= allowed.bulk) else {
            return Err(broken("Protocol error: invalid bulk length"));
        };
        if !allowed.authenticated && len > UNAUTHENTICATED.0 {
            return Err(broken("Protocol error: unauthenticated bulk length"));
        }
        self.at = end + 2;
        self.next_len = Some(len as usize);
        Ok(len as usize)
    }

    fn parse_inline(&mut self, bytes: &[u8], allowed: Allowed) -> Parsed {
        let end = memchr::memchr(b'\n', bytes);
        if end.unwrap_or(bytes.len()) > allowed.line {
            return broken("Protocol error: too big inline request");
        }
        let Some(end) = end else {
            return Parsed::Partial;
        };
        self.at = end + 1;
        let line = &bytes[..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !self.is_later && ends_as_http(line) {
            return Parsed::Foreign;
        }
        if !split_quoted(line, &mut self.unquoted, &mut self.ranges) {
            return broken("Protocol error: unbalanced quotes in request");
        }
        self.is_inline = true;
        if self.ranges.is_empty() {
            return Parsed::Nothing;
        }
        if !allowed.authenticated && self.ranges.len() as i64 > UNAUTHENTICATED.1 {
            return broken("Protocol error: unauthenticated multibulk length");
        }
        Parsed::Command
    }
}

/// The second arguments of the commands at the beginning of `bytes`, which are most commands' keys, as far as `keys` has room. Returns how
/// many there are and how many bytes were looked at. What is not plain is left to [`Parser::parse`].
#[inline]
pub(crate) fn keys_ahead<'a>(bytes: &'a [u8], keys: &mut [&'a [u8]]) -> (usize, usize) {
    let (mut found, mut at) = (0, 0);
    while found < keys.len() {
        let line = number_line(bytes, at, b'*').filter(|(count, _)| *count <= MOST_AHEAD);
        let Some((count, mut next)) = line else {
            break;
        };
        for i in 0..count {
            let Some((len, start)) = number_line(bytes, next, b'$') else {
                return (found, at);
            };
            next = start + len + 2;
            if i == 1 && next <= bytes.len() {
                keys[found] = &bytes[start..start + len];
                found += 1;
            }
        }
        at = next;
    }
    (found, at)
}

/// The number of a line that begins with `kind`, and where the next line is.
#[inline]
fn number_line(bytes: &[u8], at: usize, kind: u8) -> Option<(usize, usize)> {
    const MOST_DIGITS: usize = 9;
    let line = bytes.get(at..)?.strip_prefix(&[kind])?;
    let mut number = 0;
    for (i, &byte) in line.iter().take(MOST_DIGITS + 1).enumerate() {
        if byte == b'\r' {
            return Some((number, at + i + 3));
        }
        number = 10 * number + usize::from(byte.checked_sub(b'0').filter(|digit| *digit < 10)?);
    }
    None
}

fn broken(text: &str) -> Parsed {
    Parsed::Broken(text.into())
}

/// The end of the line that begins at `from`, where the byte after it has arrived.
#[inline]
fn find_line(bytes: &[u8], from: usize) -> Option<usize> {
    // Lengths are short: a few bytes are looked at before the search is worth its call.
    let near = bytes.len().min(from + 8);
    let rest = bytes.get(from..)?;
    let end = match bytes[from..near].iter().position(|&byte| byte == b'\r') {
        Some(at) => from + at,
        None => from + memchr::memchr(b'\r', rest)?,
    };
    (bytes.len() > end + 1).then_some(end)
}

fn partial_line(bytes: &[u8], from: usize, error: &str) -> Parsed {
    if bytes.len() - from > MAX_LINE {
        return broken(error);
    }
    Parsed::Partial
}

/// Whether a line is the first one of an HTTP request.
fn ends_as_http(line: &[u8]) -> bool {
    line.len() >= 8 && line[line.len() - 8..line.len() - 1].eq_ignore_ascii_case(b"HTTP/1.")
}

/// Splits a line at spaces; quotes keep them, and double quotes know escapes. False where a quote is not closed.
fn split_quoted(line: &[u8], text: &mut Vec<u8>, ranges: &mut Vec<(usize, usize)>) -> bool {
    let is_space = |byte: u8| byte == b' ' || (b'\t'..=b'\r').contains(&byte);
    let mut at = 0;
    loop {
        while at < line.len() && (is_space(line[at]) || line[at] == 0) {
            at += 1;
        }
        if at >= line.len() {
            return true;
        }
        let start = text.len();
        while at < line.len() && !is_space(line[at]) && line[at] != 0 {
            match line[at] {
                quote @ (b'"' | b'\'') => match unquote(&line[at + 1..], quote, text) {
                    // What follows a closing quote is a space or nothing.
                    Some(len) if line.get(at + 1 + len).is_none_or(|&next| is_space(next)) => {
                        at += 1 + len;
                        break;
                    }
                    _ => return false,
                },
                byte => {
                    text.push(byte);
                    at += 1;
                }
            }
        }
        ranges.push((start, text.len()));
    }
}

/// Reads up to the closing quote; returns how many bytes that took.
fn unquote(quoted: &[u8], quote: u8, text: &mut Vec<u8>) -> Option<usize> {
    let hex = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut at = 0;
    loop {
        let rest = quoted.get(at..)?;
        let (byte, len) = match rest {
            [] => return None,
            [b'\\', b'\'', ..] if quote == b'\'' => (b'\'', 2),
            [b'\\', b'x', high, low, ..]
                if quote == b'"' && hex(*high).is_some() && hex(*low).is_some() =>
            {
                (hex(*high)? << 4 | hex(*low)?, 4)
            }
            [b'\\', escaped, ..] if quote == b'"' => {
                let byte = match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                };
                (byte, 2)
            }
            [byte, ..] if *byte == quote => return Some(at + 1),
            [byte, ..] => (*byte, 1),
        };
        text.push(byte);
        at += len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_seen_ahead_as_far_as_commands_are_plain() {
        let seen = |bytes: &[u8]| {
            let mut keys = [&[][..]; 2];
            let (found, len) = keys_ahead(bytes, &mut keys);
            (
                keys[..found]
                    .iter()
                    .map(|key| key.to_vec())
                    .collect::<Vec<_>>(),
                len,
            )
        };
        let get = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n";
        let set = b"*3\r\n$3\r\nSET\r\n$2\r\nbb\r\n$0\r\n\r\n";
        let ping = b"*1\r\n$4\r\nPING\r\n";
        let both = vec![b"a".to_vec(), b"bb".to_vec()];
        let bytes = [&get[..], ping, set, get].concat();
        assert_eq!(seen(&bytes), (both, get.len() + ping.len() + set.len()));
        for rest in [
            "",
            "PING\r\n",
            "*",
            "*2",
            "*x\r\n",
            "*99\r\n",
            "*2\r\n$",
            "*-1\r\n",
            "*12345678901\r\n",
        ] {
            let bytes = [&get[..], rest.as_bytes()].concat();
            assert_eq!(seen(&bytes), (vec![b"a".to_vec()], get.len()), "{rest:?}");
        }
        // The announced length is more than there is.
        assert_eq!(seen(b"*2\r\n$3\r\nGET\r\n$9\r\na").0, Vec::<Vec<u8>>::new());
    }

    const ALL: Allowed = Allowed {
        authenticated: true,
        bulk: 512 << 20,
        line: 64 << 10,
    };

    /// Commands in `bytes`, which arrive in two parts.
    fn commands(bytes: &[u8], cut: usize) -> (Vec<Vec<Vec<u8>>>, Option<Parsed>) {
        let mut parser = Parser::default();
        let mut found = Vec::new();
        let mut start = 0;
        for arrived in [cut, bytes.len()] {
            loop {
                let have = &bytes[start..arrived];
                if have.is_empty() {
                    break;
                }
                match parser.parse(have, ALL) {
                    Parsed::Command => {
                        found.push(parser.args(have).iter().map(<[u8]>::to_vec).collect())
                    }
                    Parsed::Nothing => {}
                    Parsed::Partial => break,
                    other => return (found, Some(other)),
                }
                start += parser.next();
            }
        }
        (found, None)
    }

    #[test]
    fn a_command_is_the_same_wherever_it_is_cut() {
        let bytes = b"*2\r\n$3\r\nGET\r\n$5\r\na\r\nbc\r\n\r\nPING \"a\\x41 b\" 'c\\'d'\r\n*0\r\n*1\r\n$4\r\nPING\r\n*2\r\n$0\r\n\r\n$0\r\n\r\nset a b\n";
        let whole: Vec<Vec<&[u8]>> = vec![
            vec![b"GET", b"a\r\nbc"],
            vec![b"PING", b"aA b", b"c'd"],
            vec![b"PING"],
            vec![b"", b""],
            vec![b"set", b"a", b"b"],
        ];
        for cut in 0..=bytes.len() {
            let (found, ended) = commands(bytes, cut);
            assert_eq!(found, whole, "cut at {cut}");
            assert_eq!(ended, None);
        }
    }

    #[test]
    fn what_is_no_request_ends_in_an_error_wherever_it_is_cut() {
        for (bytes, error) in [
            (&b"*x\r\n"[..], "Protocol error: invalid multibulk length"),
            (
                b"*3000000000\r\n",
                "Protocol error: invalid multibulk length",
            ),
            (b"*1\r\n+OK\r\n", "Protocol error: expected '$', got '+'"),
            (b"*1\r\n$-1\r\n", "Protocol error: invalid bulk length"),
            (
                b"*1\r\n$999999999999\r\n",
                "Protocol error: invalid bulk length",
            ),
            (
                b"get \"a\r\n",
                "Protocol error: unbalanced quotes in request",
            ),
            (
                b"get 'a'b\r\n",
                "Protocol error: unbalanced quotes in request",
            ),
        ] {
            for cut in 0..=bytes.len() {
                let (_, ended) = commands(bytes, cut);
                assert_eq!(
                    ended,
                    Some(Parsed::Broken(error.into())),
                    "{bytes:?} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn a_first_line_of_http_is_foreign() {
        for cut in 0..18 {
            assert_eq!(
                commands(b"GET / HTTP/1.1\r\n\r\n", cut).1,
                Some(Parsed::Foreign)
            );
        }
    }

    #[test]
    fn who_has_not_authenticated_may_send_little() {
        let little = Allowed {
            authenticated: false,
            bulk: 512 << 20,
            line: 64 << 10,
        };
        let parse = |bytes: &[u8]| Parser::default().parse(bytes, little);
        assert_eq!(
            parse(b"*11\r\n"),
            broken("Protocol error: unauthenticated multibulk length")
        );
        assert_eq!(
            parse(b"*1\r\n$16385\r\n"),
            broken("Protocol error: unauthenticated bulk length")
        );
        assert_eq!(parse(b"*1\r\n$16384\r\n"), Parsed::Partial);
    }

    #[test]
    fn a_line_without_an_end_is_refused() {
        let line = vec![b'a'; MAX_LINE + 1];
        assert_eq!(
            Parser::default().parse(&line, ALL),
            broken("Protocol error: too big inline request")
        );
        let mut count = b"*".to_vec();
        count.resize(MAX_LINE + 1, b'1');
        assert_eq!(
            Parser::default().parse(&count, ALL),
            broken("Protocol error: too big mbulk count string")
        );
    }
}
