// The list of keys: by prefix or pattern, page by page, walked by the arrow keys.

import * as api from "./api.js";
import { asText, shownKey } from "./format.js";

const PAGE = 200;

const list = document.getElementById("keys");
const note = document.getElementById("browse-note");
const more = document.getElementById("more");
const filter = document.getElementById("filter");

export class Browser {
  /** `run` does a request and shows its failure; `open` is called with the bytes of a key. */
  constructor(run, database, open, remove) {
    this.database = database;
    this.run = run;
    this.found = [];
    this.cursor = null;
    this.selected = -1;
    this.asked = 0;
    document.getElementById("browse-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.start();
    });
    more.addEventListener("click", () => this.page());
    list.addEventListener("click", (event) => {
      const index = Array.from(list.children).indexOf(event.target.closest("li"));
      if (index >= 0) {
        this.select(index);
        open(this.found[index]);
      }
    });
    list.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
      if (step) this.select(Math.min(Math.max(this.selected + step, 0), this.found.length - 1));
      else if (event.key === "Home") this.select(0);
      else if (event.key === "End") this.select(this.found.length - 1);
      else if (event.key === "Enter" && this.found[this.selected]) open(this.found[this.selected]);
      else if (event.key === "Delete" && this.found[this.selected]) remove(this.found[this.selected]);
      else return;
      event.preventDefault();
    });
  }

  start() {
    this.found = [];
    this.cursor = null;
    this.select(-1);
    list.replaceChildren();
    return this.page();
  }

  async page() {
    const asked = ++this.asked;
    const words = filter.value;
    await this.run(note, async () => {
      // A page may be empty though more follows: a pattern that little agrees with.
      let had = 0;
      do {
        const page = await api.keys(words, this.database(), this.cursor, PAGE);
        if (asked !== this.asked) return;
        this.cursor = page.cursor;
        had += page.keys.length;
        for (const key of page.keys) this.append(key);
      } while (had < PAGE / 2 && this.cursor !== null);
      more.hidden = this.cursor === null;
      const count = `${this.found.length} ${this.found.length === 1 ? "key" : "keys"}`;
      note.textContent = this.cursor === null ? count : `${count} so far`;
    });
  }

  append(key) {
    const item = document.createElement("li");
    item.id = `key-${this.found.length}`;
    item.setAttribute("role", "option");
    item.setAttribute("aria-selected", "false");
    item.textContent = shownKey(key) || "(the empty key)";
    if (asText(key) === null) item.title = "These bytes are no text";
    this.found.push(key);
    list.append(item);
  }

  select(index) {
    list.children[this.selected]?.setAttribute("aria-selected", "false");
    this.selected = index;
    const item = list.children[index];
    if (item) {
      item.setAttribute("aria-selected", "true");
      item.scrollIntoView({ block: "nearest" });
      list.setAttribute("aria-activedescendant", item.id);
    } else {
      list.removeAttribute("aria-activedescendant");
    }
  }

  /** Takes a key that was deleted out of the list. */
  forget(key) {
    const index = this.found.findIndex((other) => shownKey(other) === shownKey(key));
    if (index < 0) return;
    this.select(-1);
    this.found.splice(index, 1);
    list.children[index].remove();
    if (this.found.length) this.select(Math.min(index, this.found.length - 1));
  }

  focus() {
    filter.focus();
    filter.select();
  }
}
