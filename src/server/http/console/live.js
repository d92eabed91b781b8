// The figures of the first section: taken once a second, drawn as tiles, a curve and a histogram.

import { Curve, Histogram, quantile } from "./charts.js";
import { bytes, duration, number, percent, short } from "./format.js";

const KEPT_SECONDS = 180;
const HISTOGRAM_SECONDS = 60;

const put = (id, text) => {
  document.getElementById(id).textContent = text;
};

export class Live {
  constructor() {
    const rates = (value) => short(value);
    this.curve = new Curve(document.getElementById("throughput"), "Requests a second over the last three minutes", KEPT_SECONDS, rates);
    this.histogram = new Histogram(document.getElementById("latency"), "Requests by how long they took, the last minute", short, duration);
    this.seen = [];
  }

  /** Forgets what came before: another server may answer now. */
  restart() {
    this.seen = [];
  }

  gap() {
    this.curve.add(null);
    put("throughput-now", "–");
  }

  show(stats, at = performance.now()) {
    const before = this.seen.at(-1);
    if (before && stats.uptime_seconds < before.stats.uptime_seconds) this.seen = [];
    this.seen.push({ stats, at });
    while (this.seen.length > 2 && at - this.seen[0].at > HISTOGRAM_SECONDS * 1000) this.seen.shift();
    const last = this.seen.at(-2);
    const seconds = last ? (at - last.at) / 1000 : 0;
    const rate = (read) => (seconds > 0 ? Math.max(0, read(stats) - read(last.stats)) / seconds : null);
    this.tiles(stats, rate);
    const requests = rate((s) => s.requests);
    if (requests === null) return;
    // A page in the background is woken less often.
    for (let missed = Math.min(Math.round(seconds), KEPT_SECONDS) - 1; missed > 0; missed -= 1) this.curve.add(null);
    this.curve.add(requests);
    put("throughput-now", `${short(requests)} requests/s`);
    this.latencies(stats);
  }

  tiles(stats, rate) {
    const aSecond = (read, word = "") => {
      const now = rate(read);
      return now === null ? "" : `${short(now)}/s${word}`;
    };
    put("tile-entries", short(stats.entries));
    put("note-entries", stats.expiring === null ? "" : `${short(stats.expiring)} expire`);
    put("tile-memory", bytes(stats.memory));
    const each = stats.entries ? `${number(stats.memory / stats.entries)} B an entry` : "";
    put("note-memory", stats.max_memory ? `of ${bytes(stats.max_memory)}` : each);
    const asked = stats.hits + stats.misses;
    put("tile-hits", asked ? percent(stats.hits / asked) : "–");
    put("note-hits", `${short(stats.hits)} of ${short(asked)}`);
    put("tile-evictions", short(stats.evicted));
    put("note-evictions", aSecond((s) => s.evicted));
    put("tile-expirations", short(stats.expired));
    put("note-expirations", aSecond((s) => s.expired));
    put("tile-connections", short(stats.connections));
    put("note-connections", aSecond((s) => s.connections_received, " new"));
  }

  latencies(stats) {
    const first = this.seen[0].stats.latency;
    const counts = stats.latency.map(([bound, count], index) => [bound, Math.max(0, count - first[index][1])]);
    const used = counts.map(([, count], index) => (count ? index : -1)).filter((index) => index >= 0);
    if (!used.length) {
      this.histogram.show([]);
      put("latency-now", "no requests");
      return;
    }
    // At least eight columns, so that few requests do not look like many.
    const from = Math.max(0, Math.min(used[0], used.at(-1) - 7));
    this.histogram.show(counts.slice(from, Math.max(used.at(-1), from + 7) + 1));
    const middle = quantile(counts, 0.5);
    const worst = quantile(counts, 0.99);
    put("latency-now", `half ≤ ${duration(middle)}, 99 % ≤ ${duration(worst)}`);
  }
}
