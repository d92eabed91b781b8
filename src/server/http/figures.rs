//! What the server holds and does: JSON for programs, Prometheus' text format, and whether it is well.

use std::fmt::Write;

use axum::Extension;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::path::Query;
use super::routes::Result;
use super::{App, reply};
use crate::server::listen::Door;
use crate::server::offload::Offload;

/// `GET /health`.
pub(super) async fn health(Extension(app): Extension<App>) -> Response {
    let (status, text) = app.health();
    let mut response = reply::typed("text/plain; charset=utf-8", text);
    *response.status_mut() = status;
    response
}

/// `GET /v1/stats`: of one database, or of all where none is named.
pub(super) async fn stats(Extension(app): Extension<App>, request: Request) -> Result {
    Query::new(request.uri().query()).database()?;
    let worker = app.clone();
    let figures = Offload::run_now(move || worker.figures()).await;
    Ok(reply::json(&figures))
}

/// `GET /metrics`.
pub(super) async fn metrics(Extension(app): Extension<App>) -> Response {
    let worker = app.clone();
    let text = Offload::run_now(move || worker.metrics()).await;
    reply::typed("text/plain; version=0.0.4; charset=utf-8", text)
}

impl App {
    fn health(&self) -> (StatusCode, &'static str) {
        if self.shutdown.has_begun() {
            return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n");
        }
        if self.databases.is_broken() {
            let text = "a part of the store is broken\n";
            return (StatusCode::SERVICE_UNAVAILABLE, text);
        }
        (StatusCode::OK, "ok\n")
    }

    /// The object of `/v1/stats`. Locks each shard for a moment.
    pub(super) fn figures(&self) -> Value {
        let (total, each) = self.databases.stats();
        let stats = &self.stats;
        let of = |counter: &std::sync::atomic::AtomicU64| {
            counter.load(std::sync::atomic::Ordering::Relaxed)
        };
        let databases: Vec<_> = each
            .iter()
            .map(|(db, of)| json!({"db": db, "entries": of.entries}))
            .collect();
        let latency: Vec<_> = stats
            .latency()
            .iter()
            .enumerate()
            .map(|(i, (_, count))| json!([bound_seconds(i), count]))
            .collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": self.started.elapsed().as_secs_f64(),
            "entries": total.entries,
            "expiring": total.expiring,
            "databases": databases,
            "key_bytes": total.key_bytes,
            "value_bytes": total.value_bytes,
            "memory": total.bytes_allocated,
            "max_memory": self.databases.max_bytes(),
            "hits": of(&stats.hits),
            "misses": of(&stats.misses),
            "evicted": total.evictions,
            "expired": total.expirations,
            "connections": self.connections.open(),
            "connections_http": self.connections.of(Door::Http),
            "connections_resp": self.connections.of(Door::Resp),
            "connections_received": of(&stats.connections_received),
            "connections_refused": of(&stats.connections_refused),
            "requests": of(&stats.commands),
            "errors": of(&stats.errors),
            "failed_auth": of(&stats.failed_auth),
            "bytes_in": of(&stats.bytes_in),
            "bytes_out": of(&stats.bytes_out),
            "latency": latency,
            "latency_seconds": stats.latency_sum_us() as f64 / 1e6,
        })
    }

    fn metrics(&self) -> String {
        let (total, each) = self.databases.stats();
        let stats = &self.stats;
        let of = |counter: &std::sync::atomic::AtomicU64| {
            counter.load(std::sync::atomic::Ordering::Relaxed)
        };
        let mut out = String::with_capacity(8 << 10);
        // Writing into a string does not fail.
        for (name, kind, help, value) in [
            (
                "atbr_uptime_seconds",
                "gauge",
                "Seconds since the server started.",
                self.started.elapsed().as_secs_f64(),
            ),
            (
                "atbr_expiring_entries",
                "gauge",
                "Entries with a time to live.",
                total.expiring as f64,
            ),
            (
                "atbr_memory_bytes",
                "gauge",
                "Bytes that the databases have allocated.",
                total.bytes_allocated as f64,
            ),
            (
                "atbr_hits_total",
                "counter",
                "Look-ups that found a value.",
                of(&stats.hits) as f64,
            ),
            (
                "atbr_misses_total",
                "counter",
                "Look-ups that found none.",
                of(&stats.misses) as f64,
            ),
            (
                "atbr_evictions_total",
                "counter",
                "Entries evicted to make room.",
                total.evictions as f64,
            ),
            (
                "atbr_expirations_total",
                "counter",
                "Entries taken out because they had expired.",
                total.expirations as f64,
            ),
            (
                "atbr_connections_total",
                "counter",
                "Connections received.",
                of(&stats.connections_received) as f64,
            ),
            (
                "atbr_connections_refused_total",
                "counter",
                "Connections refused because there were too many.",
                of(&stats.connections_refused) as f64,
            ),
            (
                "atbr_failed_auth_total",
                "counter",
                "Wrong passwords and tokens.",
                of(&stats.failed_auth) as f64,
            ),
            (
                "atbr_errors_total",
                "counter",
                "Requests that failed inside the server.",
                of(&stats.errors) as f64,
            ),
            (
                "atbr_received_bytes_total",
                "counter",
                "Bytes received.",
                of(&stats.bytes_in) as f64,
            ),
            (
                "atbr_sent_bytes_total",
                "counter",
                "Bytes sent.",
                of(&stats.bytes_out) as f64,
            ),
        ] {
            let _ = writeln!(
                out,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
            );
        }
        let _ = writeln!(
            out,
            "# HELP atbr_entries Entries by database.\n# TYPE atbr_entries gauge"
        );
        for (db, of) in each {
            let _ = writeln!(out, "atbr_entries{{db=\"{db}\"}} {}", of.entries);
        }
        let _ = writeln!(
            out,
            "# HELP atbr_connections Open connections by door.\n# TYPE atbr_connections gauge"
        );
        for (name, door) in [("http", Door::Http), ("resp", Door::Resp)] {
            let _ = writeln!(
                out,
                "atbr_connections{{door=\"{name}\"}} {}",
                self.connections.of(door)
            );
        }
        self.write_latency(&mut out);
        out
    }

    fn write_latency(&self, out: &mut String) {
        const NAME: &str = "atbr_request_seconds";
        let _ = writeln!(
            out,
            "# HELP {NAME} How long requests took.\n# TYPE {NAME} histogram"
        );
        let latency = self.stats.latency();
        let mut count = 0;
        for (i, (_, here)) in latency.iter().enumerate() {
            count += here;
            match i + 1 == latency.len() {
                true => drop(writeln!(out, "{NAME}_bucket{{le=\"+Inf\"}} {count}")),
                false => drop(writeln!(
                    out,
                    "{NAME}_bucket{{le=\"{}\"}} {count}",
                    bound_seconds(i)
                )),
            }
        }
        let sum = self.stats.latency_sum_us() as f64 / 1e6;
        let _ = writeln!(out, "{NAME}_sum {sum}\n{NAME}_count {count}");
    }
}

/// The upper bound of a bucket of the histogram, in seconds; of the last one, which is open, what would be its bound.
fn bound_seconds(bucket: usize) -> f64 {
    (1u64 << bucket) as f64 / 1e6
}
