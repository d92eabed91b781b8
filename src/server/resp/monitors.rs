//! MONITOR: who sees all commands.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::clients::{Buffers, Client};
use super::parser::Args;

/// Connections that see all commands.
#[derive(Default)]
pub(crate) struct Monitors {
    count: AtomicUsize,
    clients: Mutex<Vec<Arc<Client>>>,
}

/// Appends a text in quotes, with what is not printable escaped.
pub(crate) fn push_quoted(line: &mut Vec<u8>, text: &[u8]) {
    line.push(b'"');
    for &byte in text {
        match byte {
            b'\\' | b'"' => line.extend([b'\\', byte]),
            b'\n' => line.extend(b"\\n"),
            b'\r' => line.extend(b"\\r"),
            b'\t' => line.extend(b"\\t"),
            7 => line.extend(b"\\a"),
            8 => line.extend(b"\\b"),
            b' '..=b'~' => line.push(byte),
            other => line.extend(format!("\\x{other:02x}").as_bytes()),
        }
    }
    line.push(b'"');
}

impl Monitors {
    #[inline]
    pub(crate) fn are_there(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn add(&self, client: &Arc<Client>) {
        self.clients.lock().push(Arc::clone(client));
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn remove(&self, client: &Client) {
        let mut clients = self.clients.lock();
        let before = clients.len();
        clients.retain(|other| other.id != client.id);
        self.count
            .fetch_sub(before - clients.len(), Ordering::SeqCst);
    }

    /// Shows a command to all; arguments from `secret_from` on are not shown.
    pub(crate) fn show(
        &self,
        client: &Client,
        db: u8,
        args: Args<'_>,
        secret_from: usize,
        buffers: &Buffers,
    ) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut line = format!(
            "+{}.{:06} [{db} {}]",
            now.as_secs(),
            now.subsec_micros(),
            client.peer
        )
        .into_bytes();
        for (i, arg) in args.iter().enumerate() {
            line.push(b' ');
            push_quoted(&mut line, if i < secret_from { arg } else { b"(redacted)" });
        }
        line.extend(b"\r\n");
        for monitor in self.clients.lock().iter() {
            monitor.post(&line, buffers);
        }
    }
}
