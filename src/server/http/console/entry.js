// One entry: look up, set, delete, download.

import * as api from "./api.js";
import { asText, bytes, duration, hexRows, number, shownKey, utf8 } from "./format.js";

const LONGEST_TTL = Number.MAX_SAFE_INTEGER / 1000;

const byId = (id) => document.getElementById(id);
const [form, key, keyNote, value, ttl, note] = ["entry-form", "key", "key-note", "value", "ttl", "entry-note"].map(byId);
const [setButton, download] = [byId("set"), byId("download")];
const dialog = byId("delete-dialog");

function say(text, tone = "") {
  note.textContent = text;
  note.dataset.tone = tone;
}

export class Entry {
  constructor(run, database, deleted) {
    this.run = run;
    this.database = database;
    this.deleted = deleted;
    this.clear();
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.lookUp();
    });
    setButton.addEventListener("click", () => this.set());
    byId("delete").addEventListener("click", () => this.remove(this.key()));
    download.addEventListener("click", () => this.download());
    key.addEventListener("input", () => this.name(null));
    for (const field of [key, value, ttl]) {
      field.addEventListener("keydown", (event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
          event.preventDefault();
          this.set();
        }
      });
    }
  }

  clear() {
    this.name(null);
    this.show(null);
    for (const field of [key, value, ttl]) field.value = "";
    say("");
  }

  /** The bytes of a key that no text is, or null: the field is the key. */
  name(raw) {
    this.raw = raw;
    this.etag = null;
    keyNote.hidden = raw === null;
    keyNote.textContent = raw === null ? "" : "This key is no text; it is shown with escapes.";
  }

  key() {
    return this.raw ?? utf8(key.value);
  }

  open(bytesOfKey) {
    const text = asText(bytesOfKey);
    const plain = text !== null && !/[\r\n]/.test(text);
    key.value = plain ? text : shownKey(bytesOfKey);
    this.name(plain ? null : bytesOfKey);
    return this.lookUp();
  }

  lookUp() {
    const asked = this.key();
    return this.run(note, async () => {
      const found = await api.look(asked, this.database());
      this.show(found);
      if (found === null) say(`There is no ${shownKey(asked) || "(the empty key)"}.`);
    });
  }

  show(found) {
    this.etag = found?.etag ?? null;
    const text = found && asText(found.data);
    const partial = found !== null && found.data.length < found.length;
    // A field turns carriage returns into newlines: such a value would come back changed.
    const editable = found === null || (text !== null && !partial && !text.includes("\r"));
    value.readOnly = !editable;
    setButton.disabled = !editable;
    download.hidden = found === null;
    if (found === null) {
      value.value = "";
      ttl.value = "";
      return;
    }
    value.value = text !== null && !partial ? text : hexOrStart(found.data, partial);
    ttl.value = found.ttl === null ? "" : String(found.ttl / 1000);
    const parts = [found.length === 1 ? "1 byte" : `${number(found.length)} bytes`];
    parts.push(found.ttl === null ? "never expires" : `expires in ${duration(Math.max(found.ttl, 1) / 1000)}`);
    if (partial) parts.push(`the first ${bytes(found.data.length)} are shown`);
    else if (text === null) parts.push("no text: shown in hexadecimal");
    else if (!editable) parts.push("has carriage returns: not to be edited here");
    say(parts.join(", "));
  }

  set() {
    const milliseconds = readTtl();
    if (milliseconds === undefined) {
      say("Seconds are a number above 0; leave the field empty for never.", "bad");
      ttl.focus();
      return null;
    }
    if (setButton.disabled) return null;
    const [name, text] = [this.key(), value.value];
    return this.run(note, async () => {
      try {
        this.etag = await api.set(name, text, milliseconds, this.etag, this.database());
        value.readOnly = false;
        say(`Set ${shownKey(name) || "(the empty key)"}.`, "good");
      } catch (error) {
        if (error.status !== 412) throw error;
        say("Somebody else changed this entry since it was looked up. Look it up again, then set it.", "bad");
      }
    });
  }

  async remove(name) {
    byId("delete-key").textContent = shownKey(name) || "(the empty key)";
    dialog.returnValue = "";
    dialog.showModal();
    await new Promise((closed) => dialog.addEventListener("close", closed, { once: true }));
    if (dialog.returnValue !== "delete") return;
    await this.run(note, async () => {
      const removed = await api.remove(name, this.database());
      this.show(null);
      say(removed ? `Deleted ${shownKey(name)}.` : `There was no ${shownKey(name)}.`, removed ? "good" : "");
      this.deleted(name);
    });
  }

  download() {
    const name = this.key();
    return this.run(note, async () => {
      const address = URL.createObjectURL(await api.whole(name, this.database()));
      const link = document.createElement("a");
      link.href = address;
      link.download = "value.bin";
      link.click();
      URL.revokeObjectURL(address);
    });
  }

  focus() {
    key.focus();
    key.select();
  }
}

/** The text of a long value's beginning: its last character may be cut. */
function hexOrStart(data, partial) {
  for (let cut = 0; partial && cut < 4; cut += 1) {
    const text = asText(data.subarray(0, data.length - cut));
    if (text !== null) return text;
  }
  return hexRows(data);
}

/** Milliseconds, null for never, undefined for what is no time. */
function readTtl() {
  const text = ttl.value.trim();
  if (text === "") return null;
  const seconds = Number(text.replace(",", "."));
  if (!(seconds > 0 && seconds < LONGEST_TTL)) return undefined;
  return Math.max(1, Math.round(seconds * 1000));
}
