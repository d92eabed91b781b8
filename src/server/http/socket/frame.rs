//! WebSocket frames (RFC 6455), as a server reads and writes them. Parses in place, holds only what has arrived, and knows
//! no network.

/// What a message holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Kind {
    Text,
    Binary,
}

impl Kind {
    /// Text where it is, as text may only be UTF-8.
    pub(super) fn of(bytes: &[u8]) -> Kind {
        match std::str::from_utf8(bytes) {
            Ok(_) => Kind::Text,
            Err(_) => Kind::Binary,
        }
    }

    fn opcode(self) -> u8 {
        match self {
            Kind::Text => TEXT,
            Kind::Binary => BINARY,
        }
    }
}

/// Something whole that has arrived.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    Message(Kind, &'a [u8]),
    Ping(&'a [u8]),
    Pong,
    Close,
}

/// Whether to go on with what has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Go,
    /// Keep the rest for the next call.
    Stop,
}

/// Why a connection is closed, by RFC 6455.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(in super::super) enum CloseCode {
    Normal = 1000,
    GoingAway = 1001,
    Protocol = 1002,
    NotUtf8 = 1007,
    TooSlow = 1008,
    TooLarge = 1009,
    Failed = 1011,
}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// What of a client's frames has arrived.
#[derive(Debug)]
pub(super) struct Frames {
    /// The start of a frame, or frames that were not looked at yet.
    pending: Vec<u8>,
    /// The first parts of a message in several frames.
    message: Vec<u8>,
    kind: Option<Kind>,
    longest: usize,
}

/// A frame's head, and where its payload lies.
struct Head {
    is_last: bool,
    opcode: u8,
    mask: [u8; 4],
    payload: std::ops::Range<usize>,
}

impl Frames {
    /// Messages may have so many bytes.
    pub(super) fn new(longest: usize) -> Frames {
        Frames {
            pending: Vec::new(),
            message: Vec::new(),
            kind: None,
            longest,
        }
    }

    /// Bytes that are held.
    pub(super) fn held(&self) -> usize {
        self.pending.capacity() + self.message.capacity()
    }

    /// Whether a message has begun and not ended.
    pub(super) fn is_midway(&self) -> bool {
        self.kind.is_some() || !self.pending.is_empty()
    }

    /// Bytes of the message that has begun.
    pub(super) fn begun(&self) -> usize {
        self.pending.len() + self.message.len()
    }

    /// Takes what arrived and calls `f` with all that is whole, in order.
    ///
    /// # Errors
    /// What to close the connection with.
    pub(super) fn feed(
        &mut self,
        arrived: &mut [u8],
        f: &mut impl FnMut(Event<'_>) -> Flow,
    ) -> Result<Flow, CloseCode> {
        if self.pending.is_empty() {
            let (used, flow) = self.parse(arrived, f)?;
            self.keep(&arrived[used..])?;
            return Ok(flow);
        }
        self.keep(arrived)?;
        let mut pending = std::mem::take(&mut self.pending);
        let (used, flow) = self.parse(&mut pending, f)?;
        if used == pending.len() {
            // What a large message took goes back.
            pending = Vec::new();
        } else {
            pending.drain(..used);
        }
        self.pending = pending;
        Ok(flow)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), CloseCode> {
        self.pending
            .try_reserve(bytes.len())
            .map_err(|_| CloseCode::Failed)?;
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    /// Bytes used, and whether `f` wanted to go on.
    fn parse(
        &mut self,
        bytes: &mut [u8],
        f: &mut impl FnMut(Event<'_>) -> Flow,
    ) -> Result<(usize, Flow), CloseCode> {
        let mut used = 0;
        while let Some(head) = self.head(&bytes[used..])? {
            let next = used + head.payload.end;
            if next > bytes.len() {
                break;
            }
            let payload = &mut bytes[used + head.payload.start..next];
            unmask(payload, head.mask);
            used = next;
            if self.frame(&head, payload, f)? == Flow::Stop {
                return Ok((used, Flow::Stop));
            }
        }
        Ok((used, Flow::Go))
    }

    /// The head of the first frame; None where it is not whole.
    fn head(&self, bytes: &[u8]) -> Result<Option<Head>, CloseCode> {
        let &[first, second, ref rest @ ..] = bytes else {
            return Ok(None);
        };
        let opcode = first & 15;
        let is_last = first & FIN != 0;
        let is_control = opcode & 8 != 0;
        let short = second & !MASKED;
        // Reserved bits belong to extensions, of which there are none.
        if first & 0x70 != 0
            || second & MASKED == 0
            || !matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG)
            || (is_control && (!is_last || short > 125))
            || (!is_control && (opcode == CONTINUATION) != self.kind.is_some())
        {
            return Err(CloseCode::Protocol);
        }
        let (len, at) = match (short, rest) {
            (126, &[a, b, ..]) => (u64::from(u16::from_be_bytes([a, b])), 4),
            (127, &[a, b, c, d, e, f, g, h, ..]) => {
                (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 10)
            }
            (126 | 127, _) => return Ok(None),
            _ => (u64::from(short), 2),
        };
        let room = (self.longest - self.message.len().min(self.longest)) as u64;
        if !is_control && len > room {
            return Err(CloseCode::TooLarge);
        }
        let Some(&[a, b, c, d]) = bytes.get(at..at + 4) else {
            return Ok(None);
        };
        Ok(Some(Head {
            is_last,
            opcode,
            mask: [a, b, c, d],
            payload: at + 4..at + 4 + len as usize,
        }))
    }

    fn frame(
        &mut self,
        head: &Head,
        payload: &[u8],
        f: &mut impl FnMut(Event<'_>) -> Flow,
    ) -> Result<Flow, CloseCode> {
        let kind = match head.opcode {
            PING => return Ok(f(Event::Ping(payload))),
            PONG => return Ok(f(Event::Pong)),
            CLOSE => {
                check_close(payload)?;
                return Ok(f(Event::Close));
            }
            TEXT => Kind::Text,
            BINARY => Kind::Binary,
            _ => self.kind.ok_or(CloseCode::Protocol)?,
        };
        if head.is_last && self.kind.is_none() {
            check_text(kind, payload)?;
            return Ok(f(Event::Message(kind, payload)));
        }
        self.message
            .try_reserve(payload.len())
            .map_err(|_| CloseCode::Failed)?;
        self.message.extend_from_slice(payload);
        self.kind = Some(kind);
        if !head.is_last {
            return Ok(Flow::Go);
        }
        self.kind = None;
        let message = std::mem::take(&mut self.message);
        check_text(kind, &message)?;
        Ok(f(Event::Message(kind, &message)))
    }
}

fn check_text(kind: Kind, payload: &[u8]) -> Result<(), CloseCode> {
    if kind == Kind::Text && std::str::from_utf8(payload).is_err() {
        return Err(CloseCode::NotUtf8);
    }
    Ok(())
}

fn check_close(payload: &[u8]) -> Result<(), CloseCode> {
    match payload {
        [] => Ok(()),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(CloseCode::Protocol);
            }
            check_text(Kind::Text, reason)
        }
        _ => Err(CloseCode::Protocol),
    }
}

/// Takes a client's mask off, eight bytes at a time.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut words = payload.chunks_exact_mut(8);
    for word in &mut words {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(word);
        word.copy_from_slice(&(u64::from_ne_bytes(bytes) ^ wide).to_ne_bytes());
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// Writes the head of a message of `len` bytes in one frame.
pub(super) fn write_head(out: &mut Vec<u8>, kind: Kind, len: usize) {
    head(out, kind.opcode(), len);
}

/// Writes a ping.
pub(super) fn write_ping(out: &mut Vec<u8>) {
    head(out, PING, 0);
}

/// Writes the answer to a ping.
pub(super) fn write_pong(out: &mut Vec<u8>, payload: &[u8]) {
    head(out, PONG, payload.len());
    out.extend_from_slice(payload);
}

/// Writes the last frame.
pub(super) fn write_close(out: &mut Vec<u8>, code: CloseCode) {
    head(out, CLOSE, 2);
    out.extend_from_slice(&(code as u16).to_be_bytes());
}

fn head(out: &mut Vec<u8>, opcode: u8, len: usize) {
    out.push(FIN | opcode);
    if len < 126 {
        out.push(len as u8);
    } else if let Ok(len) = u16::try_from(len) {
        out.push(126);
        out.extend_from_slice(&len.to_be_bytes());
    } else {
        out.push(127);
        out.extend_from_slice(&(len as u64).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MASK: [u8; 4] = [1, 2, 3, 0xff];

    fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        head(&mut frame, first & 15, payload.len());
        frame[0] = first;
        frame[1] |= MASKED;
        frame.extend_from_slice(&MASK);
        // The obvious way, against the fast one.
        frame.extend(
            payload
                .iter()
                .enumerate()
                .map(|(i, byte)| byte ^ MASK[i % 4]),
        );
        frame
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Seen {
        Message(Kind, Vec<u8>),
        Ping(Vec<u8>),
        Pong,
        Close,
    }

    fn seen(event: &Event<'_>) -> Seen {
        match event {
            Event::Message(kind, payload) => Seen::Message(*kind, payload.to_vec()),
            Event::Ping(payload) => Seen::Ping(payload.to_vec()),
            Event::Pong => Seen::Pong,
            Event::Close => Seen::Close,
        }
    }

    fn feed(frames: &mut Frames, bytes: &[u8]) -> Result<Vec<Seen>, CloseCode> {
        let mut all = Vec::new();
        frames.feed(&mut bytes.to_vec(), &mut |event| {
            all.push(seen(&event));
            Flow::Go
        })?;
        Ok(all)
    }

    #[test]
    fn what_breaks_the_protocol_is_refused() {
        for (bytes, code) in [
            (vec![0x81, 1, b'a'], CloseCode::Protocol),
            (client_frame(0xc1, b"a"), CloseCode::Protocol),
            (client_frame(0x83, b"a"), CloseCode::Protocol),
            (client_frame(0x80, b"a"), CloseCode::Protocol),
            (client_frame(0x09, b"a"), CloseCode::Protocol),
            (client_frame(0x89, &[0; 126]), CloseCode::Protocol),
            (client_frame(0x88, &[3]), CloseCode::Protocol),
            (client_frame(0x88, &[3, 0xed]), CloseCode::Protocol),
            (client_frame(0x81, b"\xff"), CloseCode::NotUtf8),
            (client_frame(0x82, &[0; 101]), CloseCode::TooLarge),
            (
                vec![0x82, 0xff, 255, 255, 255, 255, 255, 255, 255, 255],
                CloseCode::TooLarge,
            ),
            (
                [client_frame(2, &[0; 60]), client_frame(0x80, &[0; 60])].concat(),
                CloseCode::TooLarge,
            ),
            (
                [client_frame(1, b"a"), client_frame(0x81, b"b")].concat(),
                CloseCode::Protocol,
            ),
        ] {
            assert_eq!(feed(&mut Frames::new(100), &bytes), Err(code), "{bytes:?}");
        }
    }

    #[test]
    fn an_announced_length_takes_no_memory() {
        let mut frames = Frames::new(1 << 40);
        let mut start = client_frame(0x82, &[0; 70_000]);
        start.truncate(14);
        start[2..10].copy_from_slice(&(1u64 << 39).to_be_bytes());
        assert_eq!(feed(&mut frames, &start), Ok(Vec::new()));
        assert!(frames.held() < 1024 && frames.is_midway());
    }

    #[test]
    fn what_follows_a_stop_is_kept() {
        let mut frames = Frames::new(100);
        let both = [client_frame(0x81, b"a"), client_frame(0x81, b"b")].concat();
        let mut all = Vec::new();
        let flow = frames.feed(&mut both.clone(), &mut |event| {
            all.push(seen(&event));
            Flow::Stop
        });
        assert_eq!((flow, all.len()), (Ok(Flow::Stop), 1));
        assert_eq!(
            feed(&mut frames, &[]),
            Ok(vec![Seen::Message(Kind::Text, b"b".to_vec())])
        );
    }

    proptest! {
        #[test]
        fn messages_arrive_however_they_are_cut(
            messages in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..300), 1usize..4), 1..6),
            cut in 1usize..40,
        ) {
            let mut bytes = Vec::new();
            let mut expected = Vec::new();
            for (is_text, payload, parts) in messages {
                let (kind, payload) = match is_text {
                    true => (Kind::Text, payload.iter().map(|byte| byte & 0x7f).collect()),
                    false => (Kind::Binary, payload),
                };
                let size = payload.len().div_ceil(parts).max(1);
                let chunks: Vec<&[u8]> = if payload.is_empty() { vec![&[]] } else { payload.chunks(size).collect() };
                for (i, chunk) in chunks.iter().enumerate() {
                    let opcode = if i == 0 { kind.opcode() } else { CONTINUATION };
                    let fin = if i + 1 == chunks.len() { FIN } else { 0 };
                    bytes.extend(client_frame(fin | opcode, chunk));
                    bytes.extend(client_frame(FIN | PING, b"p"));
                }
                expected.extend((1..chunks.len()).map(|_| Seen::Ping(b"p".to_vec())));
                expected.push(Seen::Message(kind, payload));
                expected.push(Seen::Ping(b"p".to_vec()));
            }
            bytes.extend(client_frame(FIN | PONG, b""));
            bytes.extend(client_frame(FIN | CLOSE, &1000u16.to_be_bytes()));
            expected.extend([Seen::Pong, Seen::Close]);
            let mut frames = Frames::new(1000);
            let mut all = Vec::new();
            for part in bytes.chunks(cut) {
                all.extend(feed(&mut frames, part).unwrap());
            }
            prop_assert_eq!(all, expected);
            prop_assert!(!frames.is_midway());
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = feed(&mut Frames::new(64), &bytes);
        }
    }
}
