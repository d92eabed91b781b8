// How figures, keys and values are written.

const whole = new Intl.NumberFormat("en");

export function number(value) {
  return whole.format(Math.round(value));
}

/** 1234567 -> "1.23 M"; three digits are enough for a figure that changes every second. */
export function short(value) {
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (value >= size * 10 || (value >= size && unit !== "k")) return `${digits(value / size)} ${unit}`;
  }
  return value < 10 && !Number.isInteger(value) ? value.toFixed(1) : number(value);
}

export function bytes(value) {
  for (const [unit, size] of [["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) {
    if (value >= size) return `${digits(value / size)} ${unit}`;
  }
  return `${number(value)} B`;
}

export function percent(share) {
  return `${(100 * share).toFixed(share >= 0.9995 || share === 0 ? 0 : 1)} %`;
}

/** Seconds as "3 d 4 h", "2 min 5 s", "1.2 ms", "850 µs". */
export function duration(seconds) {
  if (seconds < 1e-3) return `${digits(seconds * 1e6)} µs`;
  if (seconds < 1) return `${digits(seconds * 1e3)} ms`;
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => seconds >= size);
  const [unit, size] = units[first];
  const text = `${Math.floor(seconds / size)} ${unit}`;
  const next = units[first + 1];
  const rest = next ? Math.floor((seconds % size) / next[1]) : 0;
  return rest ? `${text} ${rest} ${next[0]}` : text;
}

export function clock(date) {
  return date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

function digits(value) {
  if (Number.isInteger(value)) return String(value);
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

/** The text that these bytes are, or null. */
export function asText(data) {
  try {
    return strict.decode(data);
  } catch {
    return null;
  }
}

export function utf8(text) {
  return encoder.encode(text);
}

/** A key in one line: control characters, and bytes that are no text, as escapes. */
export function shownKey(data) {
  const text = asText(data);
  if (text === null) return Array.from(data, (byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : hex(byte))).join("");
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function hex(byte) {
  return `\\x${byte.toString(16).padStart(2, "0")}`;
}

/** Bytes as rows of offset, hexadecimal digits and ASCII. */
export function hexRows(data) {
  const rows = [];
  for (let at = 0; at < data.length; at += 16) {
    const part = Array.from(data.subarray(at, at + 16));
    const digits = part.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const ascii = part.map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : ".")).join("");
    rows.push(`${at.toString(16).padStart(8, "0")}  ${digits.padEnd(47)}  ${ascii}`);
  }
  return rows.join("\n");
}

export function toBase64url(data) {
  let text = "";
  for (let at = 0; at < data.length; at += 8192) text += String.fromCharCode(...data.subarray(at, at + 8192));
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

export function fromBase64url(text) {
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
}
