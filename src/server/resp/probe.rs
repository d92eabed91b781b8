//! What fuzzing looks at: how a stream is cut into commands, and what they do without a socket.

use std::net::SocketAddr;
use std::sync::Arc;

use super::dispatch::{Outcome, dispatch};
use super::parser::{Allowed, Parsed, Parser, keys_ahead};
use super::reply::Replies;
use super::session::Session;
use crate::engine::{Databases, Options, Store};
use crate::server::{Config, Limits, Secrets, Shared};

/// How a stream ended.
#[derive(Debug, PartialEq, Eq)]
pub enum RespEnd {
    /// With the beginning of a command, perhaps of no byte.
    Partial,
    /// As a request of another protocol.
    Foreign,
    /// With an error.
    Error(Vec<u8>),
}

/// Longest line, longer than what fuzzing sends.
const LINE: usize = 64 << 10;

/// The commands of a stream.
pub type RespCommands = Vec<Vec<Vec<u8>>>;

/// Cuts a stream that arrives in pieces into commands, each a list of arguments.
pub fn resp_commands(
    pieces: &[&[u8]],
    bulk: usize,
    authenticated: bool,
) -> (RespCommands, RespEnd) {
    let allowed = Allowed {
        authenticated,
        bulk,
        line: LINE,
    };
    let (mut parser, mut found) = (Parser::default(), Vec::new());
    let mut input = Vec::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        while !input.is_empty() {
            match parser.parse(&input, allowed) {
                Parsed::Command => {
                    let args = parser.args(&input);
                    found.push(args.iter().map(<[u8]>::to_vec).collect());
                }
                Parsed::Nothing => {}
                Parsed::Partial => break,
                Parsed::Foreign => return (found, RespEnd::Foreign),
                Parsed::Broken(error) => return (found, RespEnd::Error(error)),
            }
            input.drain(..parser.next());
        }
    }
    (found, RespEnd::Partial)
}

/// The keys that are asked for ahead of their commands.
pub fn resp_keys_ahead(stream: &[u8]) -> Vec<&[u8]> {
    let mut keys = [&[][..]; 16];
    let (found, _) = keys_ahead(stream, &mut keys);
    keys[..found].to_vec()
}

/// A server without sockets, and one of its clients.
pub struct RespProbe {
    shared: Arc<Shared>,
    session: Session,
}

impl RespProbe {
    /// An empty one.
    pub fn new(max_value: usize) -> Option<RespProbe> {
        let config = Config {
            limits: Limits {
                max_value,
                ..Limits::default()
            },
            ..Config::default()
        };
        let zero = Arc::new(Store::new(&Options::default()).ok()?);
        let databases = Arc::new(Databases::new(zero).ok()?);
        let shared = Arc::new(Shared::new(config, Secrets::default(), databases).ok()?);
        let here = SocketAddr::from(([127, 0, 0, 1], 1));
        let client = shared.resp.clients.add(here, here, 0, 0);
        Some(RespProbe {
            session: Session::new(client, true),
            shared,
        })
    }

    /// Runs a command as its client's; None where it waits for something.
    pub fn run(&mut self, command: &[Vec<u8>]) -> Option<Vec<u8>> {
        let mut stream = format!("*{}\r\n", command.len()).into_bytes();
        for arg in command {
            stream.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            stream.extend_from_slice(arg);
            stream.extend_from_slice(b"\r\n");
        }
        let allowed = Allowed {
            authenticated: true,
            bulk: stream.len(),
            line: LINE,
        };
        let mut parser = Parser::default();
        let mut out = Replies::of_version(self.session.resp3);
        if parser.parse(&stream, allowed) != Parsed::Command {
            return None;
        }
        let outcome = dispatch(
            &self.shared,
            &mut self.session,
            parser.args(&stream),
            &mut out,
        );
        // Large values lie between the other bytes.
        let mut replies = std::mem::take(&mut out.bytes);
        for (at, block) in out.blocks.iter().rev() {
            replies.splice(*at..*at, block.value().iter().copied());
        }
        (outcome == Outcome::Done).then_some(replies)
    }
}
