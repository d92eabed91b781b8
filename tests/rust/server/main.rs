//! The server as its callers see it: start, listen, stop.

mod client;
mod isolation;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use atbr::engine::{Databases, Options, Store};
use atbr::server::{Config, Limits, Secrets, Server, StartError};
use client::{Client, Reply};

fn databases() -> Arc<Databases> {
    let zero = Arc::new(Store::new(&Options::default()).unwrap());
    Arc::new(Databases::new(zero).unwrap())
}

fn config() -> Config {
    Config {
        http: Some(0),
        resp: Some(0),
        ..Config::default()
    }
}

#[test]
fn both_ports_listen_until_the_server_stops() {
    let server = Server::start(config(), Secrets::default(), databases()).unwrap();
    let (http, resp) = (server.http_addr().unwrap(), server.resp_addr().unwrap());
    let mut client = TcpStream::connect(http).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    client
        .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let _resp = TcpStream::connect(resp).unwrap();
    assert!(server.join(Duration::from_secs(10)));
    assert!(TcpStream::connect(http).is_err());
    assert!(TcpStream::connect(resp).is_err());
}

#[test]
fn a_busy_port_names_the_port_and_its_flag() {
    let first = Server::start(config(), Secrets::default(), databases()).unwrap();
    let port = first.resp_addr().unwrap().port();
    let busy = Config {
        resp: Some(port),
        ..config()
    };
    let Err(error) = Server::start(busy, Secrets::default(), databases()) else {
        panic!("two servers listen at one port");
    };
    let text = error.to_string();
    assert!(
        text.contains(&port.to_string()) && text.contains("--resp") && !text.contains('\n'),
        "{text}"
    );
}

#[test]
fn a_port_that_others_can_reach_needs_a_secret() {
    let open = || Config {
        host: "0.0.0.0".into(),
        ..config()
    };
    let refused = Server::start(open(), Secrets::default(), databases());
    assert!(matches!(refused, Err(StartError::Unprotected { .. })));
}

#[test]
fn a_panic_of_a_command_ends_its_own_connection_and_no_other() {
    let tested = Config {
        debug_commands: true,
        ..config()
    };
    let server = Server::start(tested, Secrets::default(), databases()).unwrap();
    let connected = || {
        let stream = TcpStream::connect(server.resp_addr().unwrap()).unwrap();
        let limit = Some(Duration::from_secs(30));
        stream.set_read_timeout(limit).unwrap();
        stream
    };
    let mut other = connected();
    for _ in 0..3 {
        let mut panics = connected();
        panics.write_all(b"DEBUG PANIC\r\n").unwrap();
        let mut answer = Vec::new();
        let _ = panics.read_to_end(&mut answer);
        assert!(answer.is_empty());
        other.write_all(b"PING\r\n").unwrap();
        let mut pong = [0; 7];
        other.read_exact(&mut pong).unwrap();
        assert_eq!(&pong, b"+PONG\r\n");
    }
    drop(other);
    assert!(
        server.join(Duration::from_secs(30)),
        "a connection's place was not given back"
    );
}

#[cfg(not(feature = "tls"))]
#[test]
fn a_build_without_tls_says_so() {
    let files = atbr::server::TlsFiles {
        cert: "cert.pem".into(),
        key: "key.pem".into(),
    };
    let encrypted = Config {
        tls: Some(files),
        ..config()
    };
    let Err(error) = Server::start(encrypted, Secrets::default(), databases()) else {
        panic!("nothing is encrypted, and nobody was told");
    };
    assert!(
        error.to_string().contains("--tls-cert") && error.to_string().contains("no TLS"),
        "{error}"
    );
}

/// Each of these waits for the server, and not the server for its client.
#[test]
fn a_pause_is_no_stall() {
    let impatient = Config {
        limits: Limits {
            stall_timeout: Duration::from_millis(1),
            ..Limits::default()
        },
        ..config()
    };
    let server = Server::start(impatient, Secrets::default(), databases()).unwrap();
    let address = server.resp_addr().unwrap();
    let (mut pausing, mut waiting) = (Client::connect(address), Client::connect(address));
    let ok = || Reply::Simple("OK".into());
    assert_eq!(pausing.call(&["CLIENT", "PAUSE", "1500", "WRITE"]), ok());
    assert_eq!(waiting.call(&["SET", "a", "1"]), ok());
    // And one that sends no more than the beginning is ended.
    let mut stalled = TcpStream::connect(address).unwrap();
    stalled
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    stalled.write_all(b"*1\r\n$4\r\nPI").unwrap();
    assert_eq!(stalled.read(&mut [0; 8]).unwrap(), 0);
}
