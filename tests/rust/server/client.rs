//! A client of the Redis protocol.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Option<Vec<u8>>),
    Array(Vec<Reply>),
}

pub struct Client(BufReader<TcpStream>);

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(120)))
            .unwrap();
        Client(BufReader::new(stream))
    }

    pub fn send(&mut self, args: &[&str]) {
        let mut request = format!("*{}\r\n", args.len());
        for arg in args {
            request.push_str(&format!("${}\r\n{arg}\r\n", arg.len()));
        }
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
    }

    pub fn call(&mut self, args: &[&str]) -> Reply {
        self.send(args);
        self.reply()
    }

    /// Runs commands as one transaction; none of them may fail.
    pub fn exec(&mut self, commands: &[&[&str]]) {
        self.send(&["MULTI"]);
        commands.iter().for_each(|command| self.send(command));
        self.send(&["EXEC"]);
        (0..=commands.len()).for_each(|_| drop(self.reply()));
        match self.reply() {
            Reply::Array(replies) => {
                let is_error = |reply: &Reply| matches!(reply, Reply::Error(_));
                assert!(!replies.iter().any(is_error), "{replies:?}");
            }
            other => panic!("{other:?}"),
        }
    }

    pub fn reply(&mut self) -> Reply {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        let (kind, rest) = line.trim_end().split_at(1);
        match kind {
            "+" => Reply::Simple(rest.into()),
            "-" => Reply::Error(rest.into()),
            ":" => Reply::Integer(rest.parse().unwrap()),
            "$" => Reply::Bulk(
                usize::try_from(rest.parse::<i64>().unwrap())
                    .ok()
                    .map(|len| {
                        let mut bytes = vec![0; len + 2];
                        self.0.read_exact(&mut bytes).unwrap();
                        bytes.truncate(len);
                        bytes
                    }),
            ),
            "*" => Reply::Array((0..rest.parse().unwrap()).map(|_| self.reply()).collect()),
            _ => panic!("no reply: {line:?}"),
        }
    }
}
