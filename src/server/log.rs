//! The log of the command line: one line an event on stderr, as text or JSON. A program that serves a store of its own
//! installs whatever subscriber of `tracing` it likes, or none.

use tracing::Level;
use tracing_subscriber::fmt::Subscriber;

/// Writes what is logged from now on, down to `level`, as "text" or "json".
///
/// # Errors
/// One line, where a word is unknown or this process logs already.
pub fn start(level: &str, format: &str) -> Result<(), String> {
    let level: Level = level
        .parse()
        .map_err(|_| format!("there is no log level {level:?}"))?;
    let lines = Subscriber::builder()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false);
    let started = match format {
        "text" => tracing::subscriber::set_global_default(lines.with_ansi(false).finish()),
        "json" => tracing::subscriber::set_global_default(
            lines
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .finish(),
        ),
        _ => return Err(format!("there is no log format {format:?}")),
    };
    started.map_err(|_| "this process logs already".into())
}

/// Writes a line for who started the server.
pub fn write(level: &str, message: &str) {
    match level {
        "error" => tracing::error!("{message}"),
        "warn" => tracing::warn!("{message}"),
        _ => tracing::info!("{message}"),
    }
}
