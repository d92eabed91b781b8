// Loading a file of the data folder, with its progress.

import * as api from "./api.js";
import { bytes, number, short } from "./format.js";

const byId = (id) => document.getElementById(id);
const [form, file, button, cancel, bar, note] = ["load-form", "file", "load", "load-cancel", "load-progress", "load-note"].map(byId);

export class Loader {
  constructor(run, database, loaded) {
    this.run = run;
    this.database = database;
    this.loaded = loaded;
    this.stop = null;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.stop === null) this.load(file.value);
    });
    cancel.addEventListener("click", () => this.stop?.abort());
    file.addEventListener("focus", () => this.offer());
  }

  /** Offers the files that there are. */
  async offer() {
    try {
      const names = await api.files();
      byId("files").replaceChildren(...names.map((name) => new Option(name)));
    } catch {
      // The name can still be typed, and loading says what is wrong.
    }
  }

  async load(name) {
    this.stop = new AbortController();
    this.working(true);
    await this.run(note, async () => {
      try {
        const last = await api.load(name, this.database(), (line) => this.show(line), this.stop.signal);
        this.end(last, name);
      } catch (error) {
        if (error.name !== "AbortError") throw error;
        note.textContent = "Cancelled. The rows loaded by then stay.";
      }
    });
    this.stop = null;
    this.working(false);
    this.loaded();
  }

  working(whether) {
    bar.hidden = !whether;
    bar.removeAttribute("value");
    cancel.hidden = !whether;
    button.disabled = whether;
    if (whether) note.textContent = "";
  }

  show(line) {
    if (line.total_bytes) bar.value = Math.min(1, line.bytes / line.total_bytes);
    const speed = line.seconds ? `, ${short(line.rows / line.seconds)} rows/s` : "";
    note.textContent = `${number(line.rows)} rows, ${bytes(line.bytes)}${speed}`;
  }

  end(last, name) {
    if (last === null || last.error !== undefined) {
      note.dataset.tone = "bad";
      note.textContent = last?.error?.detail ?? last?.error ?? `${name} was not loaded to its end.`;
      return;
    }
    note.dataset.tone = "good";
    note.textContent = `Loaded ${number(last.rows)} rows of ${name} in ${last.seconds.toFixed(2)} s.`;
  }

  focus() {
    file.focus();
    file.select();
  }
}
