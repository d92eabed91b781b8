// The console: connects the parts, keeps the connection, asks for the token, listens to the keyboard.

import * as api from "./api.js";
import { Browser } from "./browse.js";
import { Entry } from "./entry.js";
import { clock, duration } from "./format.js";
import { Live } from "./live.js";
import { Loader } from "./load.js";

const SECOND = 1000;
const byId = (id) => document.getElementById(id);

const database = byId("database");
for (let number = 0; number < 16; number += 1) database.append(new Option(String(number), String(number)));
const chosen = () => database.value;

const live = new Live();
let entry = null;
const browser = new Browser(run, chosen, (key) => entry.open(key), (key) => entry.remove(key));
entry = new Entry(run, chosen, (key) => browser.forget(key));
const loader = new Loader(run, chosen, () => browser.start());
database.addEventListener("change", () => {
  entry.clear();
  browser.start();
});

// -- the connection ---------------------------------------------------------------------------------------------------

let goneSince = null;
let timer = null;
let beats = 0;
let browsed = false;

function status(state, text) {
  byId("status").dataset.state = state;
  byId("status-text").textContent = text;
}

function gone() {
  if (goneSince === null) {
    goneSince = new Date();
    live.restart();
  }
  status("gone", "gone");
  byId("gone").hidden = false;
  byId("gone-text").textContent = `It has not answered since ${clock(goneSince)}; asked again every second.`;
  disable(true);
}

function back() {
  goneSince = null;
  status("live", "live");
  byId("gone").hidden = true;
  byId("sign-out").hidden = api.token.get() === null;
  disable(false);
  if (!browsed) {
    browsed = true;
    browser.start();
  }
}

function disable(whether) {
  for (const form of ["browse-form", "entry-form", "load-form"]) byId(form).inert = whether;
}

async function beat() {
  clearTimeout(timer);
  const own = ++beats;
  try {
    const stats = await api.stats();
    back();
    byId("about").textContent = `version ${stats.version}, up ${duration(Math.max(1, stats.uptime_seconds))}`;
    live.show(stats);
  } catch (error) {
    if (error instanceof api.Refused && (error.status === 401 || error.status === 429)) {
      status("connecting", "token needed");
      await askForToken(error);
    } else if (error instanceof api.Refused) {
      status("gone", `refused: ${error.message}`);
    } else {
      gone();
      live.gap();
    }
  }
  // "Try now" may have begun another one meanwhile.
  if (own === beats) timer = setTimeout(beat, SECOND);
}

/** Does a request for the user; says in `note` what went wrong. */
async function run(note, request) {
  note.dataset.tone = "";
  try {
    await request();
  } catch (error) {
    note.dataset.tone = "bad";
    if (error instanceof api.Gone) {
      note.textContent = "The server does not answer.";
      gone();
    } else if (error instanceof api.Refused) {
      note.textContent = error.message;
      if (error.status === 401) await askForToken(error);
    } else {
      note.textContent = String(error);
      throw error;
    }
  }
}

let asking = null;
// There is nothing behind it to see.
byId("token-dialog").addEventListener("cancel", (event) => event.preventDefault());

function askForToken(error) {
  const dialog = byId("token-dialog");
  const had = api.token.get() !== null;
  byId("token-note").textContent = error.status === 429 ? error.message : had ? "That is not the token." : "";
  byId("token-note").dataset.tone = "bad";
  asking ??= new Promise((answered) => {
    byId("token").value = "";
    dialog.showModal();
    byId("token-form").addEventListener("submit", () => {
      api.token.set(byId("token").value);
      asking = null;
      answered();
    }, { once: true });
  });
  return asking;
}

byId("retry").addEventListener("click", beat);
byId("sign-out").addEventListener("click", () => {
  api.token.forget();
  location.reload();
});

// -- themes and the keyboard ------------------------------------------------------------------------------------------

const theme = byId("theme");
theme.value = localStorage.getItem("atbr-theme") ?? "";
function dress() {
  document.documentElement.dataset.theme = theme.value;
}
theme.addEventListener("change", () => {
  localStorage.setItem("atbr-theme", theme.value);
  dress();
});
dress();

const help = byId("help");
byId("help-button").addEventListener("click", () => help.showModal());

const SHORTCUTS = {
  "/": () => browser.focus(),
  g: () => entry.focus(),
  n: () => {
    entry.clear();
    entry.focus();
  },
  l: () => loader.focus(),
  "?": () => help.showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const field = event.target.matches("input, textarea, select");
  if (event.key === "Escape" && field) event.target.blur();
  else if (!field && SHORTCUTS[event.key]) {
    event.preventDefault();
    SHORTCUTS[event.key]();
  }
});

beat();
