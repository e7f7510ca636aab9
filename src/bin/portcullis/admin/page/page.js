// The live page of the admin interface: requests samples once a second and the tables every two, as long as the page is
// visible, and makes the changes that the user wants.

import { exists, get, Lost, token } from "./api.js";
import { act, changes, enterTokenToRead, toast } from "./changes.js";
import { askLimit, askReload, confirm, explain } from "./dialogs.js";
import { byId, setText } from "./dom.js";
import { add, choose, filter, offer, offerRoutes, showTab, valueOf } from "./filter.js";
import { count } from "./format.js";
import { lists, restart, showList } from "./lists.js";
import { measured } from "./measured.js";
import { backends, certificates, listeners } from "./panels.js";
import { plots } from "./plots.js";
import { Samples } from "./samples.js";
import { answered, showNumbers, showStatus, unanswered } from "./top.js";

const LIVE_EVERY = 1000;
const TABLES_EVERY = 2000;
const CERTIFICATES_EVERY = 30_000;

const samples = new Samples();
let status = null;
let listenerNames = [];
let certificatesAt = -Infinity;

// What is shown

const view = plots(byId, {
  onlistener: (name) => choose("listener", name),
  onoutcome: (name) => {
    const isShown = filter.tab === "ended";
    showTab("ended");
    if (isShown || valueOf("outcome") !== name) choose("outcome", name);
  },
});
const showListeners = listeners(act, { askLimit, onpick: (name) => {
  choose("listener", name);
  byId("connections").scrollIntoView({ block: "start" });
} });
const showBackends = backends(act);
const showCertificates = certificates();

async function showSamples() {
  samples.add(await get("/api/live", samples.last ? { since: samples.last } : undefined));
  if (samples.length === 0) return;
  measured("update-plots", () => {
    showNumbers(samples);
    view.update(samples);
  });
}

async function showTables() {
  const wantsCertificates = performance.now() - certificatesAt > CERTIFICATES_EVERY;
  const [next, listening, forwarding, certified] = await Promise.all([
    get("/api/status"), get("/api/listeners"), get("/api/backends"), wantsCertificates ? get("/api/certificates") : null,
  ]);
  adopt(next);
  measured("update-tables", () => {
    showStatus(next);
    showListeners(listening);
    showBackends(forwarding, next.now);
    setText(byId("count-live"), count(next.connections));
    if (certified) {
      showCertificates(certified);
      certificatesAt = performance.now();
    }
  });
  if (listenerNames.length === 0 && listening.listeners.length > 0) findExplain(listening.listeners[0].name);
  listenerNames = listening.listeners.map(({ name }) => name);
  offer("listener", listenerNames);
  offerRoutes(listening.listeners.flatMap(({ routes }) => routes));
  add("outcome", samples.outcomes.keys());
  await showList(next.now);
}

/** Remembers the status. If another process answers, what was collected belongs to the one before. */
function adopt(next) {
  if (status && status.started !== next.started) {
    samples.clear();
    restart();
    certificatesAt = -Infinity;
  }
  status = next;
  token.required = status.token_required;
  changes.isTokenConfigured = status.token_configured;
  changes.tokenPlace = status.token_place;
}

async function findExplain(listener) {
  const question = new URLSearchParams({ listener, from: "127.0.0.1" });
  byId("explain").hidden = !(await exists(`/api/explain?${question}`));
}

// When it is shown

/** Runs `task` again and again while the page is visible, and never twice at a time. */
async function every(interval, task) {
  for (;;) {
    if (document.hidden) await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
    const begun = performance.now();
    await run(task);
    const rest = Math.max(interval / 4, interval - (performance.now() - begun));
    await new Promise((resolve) => setTimeout(resolve, rest));
  }
}

async function run(task) {
  try {
    await task();
    answered();
  } catch (error) {
    if (error instanceof Lost) unanswered();
    else if (error.isUnauthorized) await enterTokenToRead(error);
    else if (error.status) setText(byId("state"), error.message);
    else console.error(error);
  }
}

/** Updates the tables now. */
const refresh = () => run(showTables);

changes.onchanged = refresh;
lists.onwanted = refresh;
filter.onchanged = () => {
  view.pickListener(valueOf("listener"));
  view.pickOutcome(filter.tab === "ended" ? valueOf("outcome") : null);
  refresh();
};

// What the user does beyond the tables

byId("log-level").addEventListener("change", async ({ target }) => {
  if (!(await act(`/api/log-level?level=${target.value}`, ({ log_level }) => `The log level is ${log_level}`))) target.value = status.log_level;
});

byId("reload").addEventListener("click", async () => {
  const plan = await act("/api/plan", null, "", [404, 405]);
  if (plan && (await askReload(plan))) await act("/api/reload", "The configuration is reloaded");
});

byId("drain").addEventListener("click", async () => {
  const sure = await confirm("Drain and shut down",
    "The listeners stop accepting, open connections may finish, and the process ends. There is no way back.", "Drain");
  if (sure) await act("/api/drain", "The drain has begun");
});

byId("explain").addEventListener("click", () => explain(listenerNames, (asked) => get("/api/explain", asked)));

token.onchange = () => (byId("lock").hidden = !token.value);
byId("lock").addEventListener("click", () => {
  token.forget();
  toast("Changes need the token again");
});
token.onchange();

every(LIVE_EVERY, showSamples);
every(TABLES_EVERY, showTables);
