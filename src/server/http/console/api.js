// What the console asks the server. The token is kept in sessionStorage and sent as Bearer, never in an address.

import { asText, fromBase64url, toBase64url, utf8 } from "./format.js";

const TOKEN = "atbr-token";
const SILENT_MS = 5000;
/** Of a longer value this much is fetched to be shown. */
export const SHOWN_BYTES = 65536;

export class Refused extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

/** The server does not answer. */
export class Gone extends Error {}

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (value) => sessionStorage.setItem(TOKEN, value),
  forget: () => sessionStorage.removeItem(TOKEN),
};

export async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (token.get() !== null) headers.Authorization = `Bearer ${String.fromCharCode(...utf8(token.get()))}`;
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", credentials: "omit", redirect: "error", ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Gone();
  }
  if (answer.ok) return answer;
  let problem = {};
  try {
    problem = await answer.json();
  } catch {
    // Not every answer is JSON; the status says enough.
  }
  throw new Refused(answer.status, problem.code ?? "", problem.detail ?? problem.title ?? answer.statusText);
}

function place(key, database) {
  return `v1/key?k64=${toBase64url(key)}&db=${database}`;
}

/** The server's figures; one that is silent for so long is gone. */
export async function stats() {
  try {
    return await (await ask("v1/stats", { signal: AbortSignal.timeout(SILENT_MS) })).json();
  } catch (error) {
    throw error instanceof Refused ? error : new Gone();
  }
}

/** The value's first bytes, its length, ttl in milliseconds (null: never) and ETag; null where there is no such key. */
export async function look(key, database) {
  let answer;
  try {
    answer = await ask(place(key, database), { headers: { Range: `bytes=0-${SHOWN_BYTES - 1}` } });
  } catch (error) {
    if (error.status === 404) return null;
    // An empty value has no first byte.
    if (error.status !== 416) throw error;
    answer = await ask(place(key, database));
  }
  const data = new Uint8Array(await answer.arrayBuffer());
  const range = /\/(\d+)$/.exec(answer.headers.get("Content-Range") ?? "");
  const left = answer.headers.get("Atbr-TTL-Ms");
  return {
    data,
    length: range ? Number(range[1]) : data.length,
    ttl: left === null ? null : Number(left),
    etag: answer.headers.get("ETag"),
  };
}

export async function whole(key, database) {
  return (await ask(place(key, database))).blob();
}

export async function set(key, value, ttl, etag, database) {
  const headers = { "Content-Type": "application/octet-stream" };
  if (ttl !== null) headers["Atbr-TTL-Ms"] = String(ttl);
  if (etag !== null) headers["If-Match"] = etag;
  return (await ask(place(key, database), { method: "PUT", headers, body: utf8(value) })).headers.get("ETag");
}

export async function remove(key, database) {
  try {
    await ask(place(key, database), { method: "DELETE" });
    return true;
  } catch (error) {
    if (error.status === 404) return false;
    throw error;
  }
}

/** One page of keys as bytes, and the cursor of the next one or null. */
export async function keys(filter, database, cursor, count) {
  const words = new URLSearchParams({ db: database, count });
  if (filter !== "") words.set(/[*?[\\]/.test(filter) ? "match" : "prefix", filter);
  if (cursor !== null) words.set("cursor", cursor);
  const page = await (await ask(`v1/keys?${words}`)).json();
  return {
    keys: page.keys.map(keyOf),
    cursor: page.cursor || null,
  };
}

function keyOf(item) {
  return item.key64 === undefined ? utf8(item.key) : fromBase64url(item.key64);
}

/** Names of the files in the data folder, those that are text. */
export async function files() {
  const listed = await (await ask("v1/files")).json();
  return listed.files.flatMap((item) => item.key ?? []);
}

/** Loads a file of the data folder; `seen` is called with each line of progress, the last one is returned. */
export async function load(file, database, seen, signal) {
  const words = new URLSearchParams({ file, db: database });
  const answer = await ask(`v1/load?${words}`, { method: "POST", signal });
  const reader = answer.body.getReader();
  let rest = new Uint8Array();
  let last = null;
  for (;;) {
    let part;
    try {
      part = await reader.read();
    } catch (error) {
      throw error.name === "AbortError" ? error : new Gone();
    }
    if (part.done) return last;
    rest = joined(rest, part.value);
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      last = JSON.parse(asText(rest.subarray(0, end)));
      rest = rest.subarray(end + 1);
      seen(last);
    }
  }
}

function joined(left, right) {
  const both = new Uint8Array(left.length + right.length);
  both.set(left);
  both.set(right, left.length);
  return both;
}
