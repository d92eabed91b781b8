//! A server for tests and load generators: `serve [--resp PORT] [--http PORT] [--debug] [--max-bytes N] [--data-dir DIR]
//! [--password P] [--stall-seconds N] [--max-buffers N] [--readonly] [--threads N]`. Prints its ports in one line, and serves until its
//! input ends.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use atbr::engine::{Databases, Limits, Options, Store};
use atbr::server::{Config, Secrets, Server};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = Config {
        http: None,
        resp: Some(0),
        ..Config::default()
    };
    let mut limits = Limits::default();
    let mut secrets = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{flag} needs a value"));
        match flag.as_str() {
            "--resp" => config.resp = Some(value()?.parse()?),
            "--http" => config.http = Some(value()?.parse()?),
            "--debug" => config.debug_commands = true,
            "--threads" => config.threads = value()?.parse()?,
            "--readonly" => config.readonly = true,
            "--disable" => config.disabled_commands.push(value()?),
            "--max-bytes" => limits.bytes = value()?.parse()?,
            "--data-dir" => config.data_dir = Some(PathBuf::from(value()?)),
            "--password" => secrets.push(value()?.into_bytes()),
            "--stall-seconds" => {
                config.limits.stall_timeout = Duration::from_secs(value()?.parse()?)
            }
            "--max-buffers" => config.limits.max_buffers = value()?.parse()?,
            "--max-connections" => config.limits.max_connections = value()?.parse()?,
            "--max-unauthenticated" => config.limits.max_unauthenticated = value()?.parse()?,
            "--unauthenticated-seconds" => {
                config.limits.unauthenticated_timeout = Duration::from_secs(value()?.parse()?);
            }
            other => return Err(format!("{other} is no flag of this example").into()),
        }
    }
    let zero = Store::new(&Options {
        limits,
        ..Options::default()
    })?;
    let databases = Arc::new(Databases::new(Arc::new(zero))?);
    let server = Server::start(config, Secrets::new(secrets, Vec::new())?, databases)?;
    let port = |address: Option<std::net::SocketAddr>| address.map_or(0, |address| address.port());
    println!(
        "resp {} http {}",
        port(server.resp_addr()),
        port(server.http_addr())
    );
    std::thread::spawn(|| {
        let mut rest = Vec::new();
        let _ = std::io::stdin().read_to_end(&mut rest);
        std::process::exit(0);
    });
    while !server.wait_for_shutdown(Duration::from_secs(3600)) {}
    server.join(Duration::from_secs(5));
    Ok(())
}
