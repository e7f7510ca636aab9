// The live page of the admin interface: asks for samples once a second and for the tables every two, as long as the
// page is visible, and sends the changes that the user makes.

import { change, exists, get, token } from "./api.js";
import { ConnectionTable, ENDED, LIVE, MOST } from "./connections.js";
import { askLimit, askReload, askToken, confirm, explain, problemList, tell } from "./dialogs.js";
import { arrange, byId, h, setText, setTitle } from "./dom.js";
import { ago, byteRate, bytes, clock, count, duration, exact, NOTHING, plural, rate, words } from "./format.js";
import { backends, certificates, listeners } from "./panels.js";
import { plots } from "./plots.js";
import { Samples } from "./samples.js";

const LIVE_EVERY = 1000;
const TABLES_EVERY = 2000;
const CERTIFICATES_EVERY = 30_000;
const KEPT_ENDINGS = 1000;

const samples = new Samples();
let status = null;
let listenerNames = [];

// Requests, and what happens without an answer

let lostSince = null;

function answered() {
  if (lostSince == null) return;
  lostSince = null;
  byId("lost").hidden = true;
  document.body.classList.remove("stale");
}

function unanswered() {
  lostSince ??= Date.now();
  document.body.classList.add("stale");
  byId("lost").hidden = false;
  setText(byId("lost"), `No answer since ${clock(lostSince)}. The page shows the last facts, and tries again on its own.`);
  byId("lamp").dataset.level = "bad";
  setText(byId("state"), "no answer");
}

/** Runs `task` again and again while the page is visible; what takes longer than the interval is not run twice. */
async function every(interval, task) {
  for (;;) {
    if (document.hidden) await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
    const begun = performance.now();
    try {
      await task();
      answered();
    } catch (error) {
      if (error.status == null && error instanceof Error && !["TypeError", "TimeoutError", "AbortError"].includes(error.name)) throw error;
      if (error.status == null) unanswered();
      else if (error.isUnauthorized) await enterTokenToRead(error);
      else setText(byId("state"), error.message);
    }
    const rest = Math.max(interval / 4, interval - (performance.now() - begun));
    await new Promise((resolve) => setTimeout(resolve, rest));
  }
}

/** The time that an update of the page takes, for the test in a browser and for `performance` in its console. */
function measured(name, update) {
  performance.clearMeasures(name);
  const start = performance.now();
  const result = update();
  performance.measure(name, { start, end: performance.now() });
  return result;
}

let toastTimer;

function toast(text, level = "good") {
  const element = byId("toast");
  element.hidden = false;
  element.dataset.level = level;
  setText(element, text);
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (element.hidden = true), level === "good" ? 5000 : 10_000);
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

async function enterToken(reason, what = "Changes need") {
  const form = await askToken(what, reason, status?.token_configured ?? true);
  if (form) token.set(form.get("token").trim(), form.has("keep"));
  return form != null;
}

let reading = null;

/** Where reads need the token, too. What polls waits for the one dialog. */
function enterTokenToRead(error) {
  const reason = token.value ? error.message : "";
  reading ??= enterToken(reason, "Here, reads need").then(async (given) => {
    if (!given) await new Promise((resolve) => {
      byId("lost").hidden = false;
      byId("lost").replaceChildren("The token is needed to read. ", h("button", { type: "button", onclick: resolve }, "Enter the token"));
    });
    byId("lost").hidden = true;
    reading = null;
  });
  return reading;
}

/** Makes a change and says so; returns its answer, null if it was not made, and {} for a status of `without`. */
async function act(path, done, body, without = []) {
  try {
    const answer = await change(path, enterToken, body);
    if (answer == null) return null;
    if (done) toast(typeof done === "function" ? done(answer) : done);
    refresh();
    return answer;
  } catch (error) {
    if (without.includes(error.status)) return {};
    if (error.problems?.length) tell("The change was not made", [h("p", {}, error.message), problemList(error.problems)]);
    else toast(error.status == null ? "No answer. The change may not have been made." : sentence(error.message), "bad");
    return null;
  }
}

// The top of the page

function level({ ready, state, warnings = [], configuration }) {
  if (!ready || state === "stopped") return "bad";
  return state !== "serving" || warnings.length > 0 || configuration.last_error ? "warn" : "good";
}

const fileName = (path) => path.split("/").at(-1);

function showStatus(next) {
  if (status && status.started !== next.started) restarted();
  status = next;
  token.required = status.token_required;
  const { configuration, now, started, state, ready, not_ready: reasons, warnings = [] } = status;
  byId("lamp").dataset.level = level(status);
  setText(byId("name"), status.name);
  setText(byId("state"), ready || state !== "serving" ? words(state) : "not ready");
  setText(byId("uptime"), duration(Math.floor((now - started) / 1000)));
  setTitle(byId("uptime"), `started ${exact(started)}`);
  setText(byId("configuration"), `${configuration.file ? fileName(configuration.file) : "built in"}, loaded ${ago(configuration.loaded, now)}`);
  setTitle(byId("configuration"), [configuration.file, configuration.hash && `SHA-256 ${configuration.hash}…`, exact(configuration.loaded)].filter(Boolean).join("\n"));
  const { last_error: error, reloads, failed_reloads: failures } = configuration;
  setText(byId("reload-result"), error ? `failed ${ago(error.at, now)}` : reloads ? "succeeded" : "none yet");
  setTitle(byId("reload-result"), `${plural(reloads, "reload")}, ${count(failures)} failed`);
  byId("reload-result").className = error ? "bad" : "";
  byId("reload").hidden = !configuration.file;
  byId("drain").disabled = state !== "serving";
  if (document.activeElement !== byId("log-level")) byId("log-level").value = status.log_level;
  showAttention(reasons, warnings, error, now);
  setText(byId("about"), `portcullis ${status.version} · process ${status.pid} · ${count(status.accepted)} accepted, ${count(status.refused)} refused, ${bytes(status.bytes_in)} in and ${bytes(status.bytes_out)} out since the start`);
  document.title = `${level(status) === "bad" ? "✕ " : level(status) === "warn" ? "! " : ""}${status.name}: ${plural(status.connections, "connection")}`;
}

let attention = "";

function showAttention(reasons, warnings, error, now) {
  const text = JSON.stringify([reasons, warnings, error, error && ago(error.at, now)]);
  if (text === attention) return;
  attention = text;
  const open = byId("attention").querySelector("details")?.open ?? false;
  const line = (kind, content) =>
    h("li", { class: kind }, h("span", { class: "lamp small", "data-level": kind, "aria-hidden": "true" }), content);
  const lines = [
    ...reasons.map((reason) => line("bad", h("span", {}, `Not ready: ${reason}`))),
    ...(error ? [line("bad", h("details", { open },
      h("summary", {}, `The reload ${ago(error.at, now)} failed with ${plural(error.problems.length, "problem")}. The configuration before it is in use.`),
      problemList(error.problems)))] : []),
    ...warnings.map((warning) => line("warn", h("span", {}, sentence(warning)))),
  ];
  byId("attention").hidden = lines.length === 0;
  byId("attention").replaceChildren(h("ul", {}, ...lines));
}

function showNumbers() {
  if (samples.length === 0) return;
  const { accepted, refused, bytes_in, bytes_out } = samples.columns;
  const connections = samples.total(samples.connections);
  const peak = (column) => column.reduce((most, value) => Math.max(most, value ?? 0), 0);
  const span = `in ${duration(Math.round((samples.last - samples.at[0]) / 1000) + 1)}`;
  setText(byId("now-connections"), count(connections.at(-1)));
  setText(byId("note-connections"), `at most ${count(peak(connections))} ${span}`);
  setValue("now-accepted", rate(accepted.at(-1)), "/s");
  setText(byId("note-accepted"), `at most ${rate(peak(accepted))}/s ${span}`);
  const [amount, unit] = byteRate(bytes_in.at(-1) + bytes_out.at(-1)).split(" ");
  setValue("now-bytes", amount, ` ${unit}`);
  setText(byId("note-bytes"), `${byteRate(bytes_in.at(-1))} in, ${byteRate(bytes_out.at(-1))} out`);
  setValue("now-refused", rate(refused.at(-1)), "/s");
  setText(byId("note-refused"), `at most ${rate(peak(refused))}/s ${span}`);
}

function setValue(id, amount, unit) {
  const element = byId(id);
  if (element.childElementCount === 0) element.replaceChildren(h("span", {}), h("span", { class: "unit" }));
  setText(element.firstChild, amount);
  setText(element.lastChild, unit);
}

// The list of connections and its filter

const filter = {
  get search() { return byId("search").value.trim(); },
  get listener() { return byId("filter-listener").value; },
  get phase() { return byId("filter-phase").value; },
  get older() { return byId("filter-older").value; },
  get outcome() { return byId("filter-outcome").value; },
};

let tab = "live";

/** The parameters of the filter for the tab that is shown. A network is compared with the peer, all else is searched. */
function parameters() {
  const { search, listener, phase, older, outcome } = filter;
  const isNetwork = /^[0-9a-f.:]+\/\d{1,3}$/i.test(search);
  const all = { [isNetwork ? "peer" : "search"]: search, listener, ...(tab === "live" ? { phase, older } : { outcome }) };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== ""));
}

const isFiltered = () => Object.keys(parameters()).length > 0;

const live = new ConnectionTable(byId("panel-live"), "Live connections", LIVE, {
  keyOf: ({ id }) => id,
  onclose: ({ id, peer }, reset) => act(`/api/connections/${encodeURIComponent(id)}/close${reset ? "?reset" : ""}`,
    `Connection ${id} of ${peer} is ${reset ? "reset" : "closed"}`),
  onmore: refresh,
  empty: () => (isFiltered() ? "No live connection matches the filter." : "No connection is open."),
});

const ended = new ConnectionTable(byId("panel-ended"), "Ended connections, the newest first", ENDED, {
  keyOf: ({ sequence }) => sequence,
  onmore: refresh,
  empty: () => (isFiltered() ? "No ended connection matches the filter." : "No connection has ended yet."),
});

let shownFilter = "";
let before = { at: 0, bytes: new Map() };

async function showConnections() {
  const asked = parameters();
  const state = () => JSON.stringify([tab, parameters(), live.shown, live.sorted]);
  const text = state();
  const answer = await get("/api/connections", { ...asked, limit: live.sorted ? MOST : live.shown });
  if (text !== state()) return;
  const at = performance.now();
  const passed = (at - before.at) / 1000;
  const sums = new Map();
  for (const connection of answer.connections) {
    const sum = connection.bytes_in + connection.bytes_out;
    const last = before.bytes.get(connection.id);
    connection.rate = last == null ? (connection.age > 0 && connection.age < passed ? sum / connection.age : null) : Math.max(0, sum - last) / passed;
    sums.set(connection.id, sum);
  }
  before = { at, bytes: sums };
  measured("update-connections", () => {
    live.update(answer.connections, answer.total, status?.now ?? Date.now(), shownFilter !== text);
    const matching = byId("close-matching");
    matching.hidden = !isFiltered() || answer.total === 0;
    setText(matching, `Close ${count(answer.total)} matching…`);
    setText(byId("count-live"), count(isFiltered() ? status?.connections : answer.total));
  });
  shownFilter = text;
}

let endings = { filter: "", last: 0, list: [], kept: KEPT_ENDINGS };

async function showEndings() {
  const asked = parameters();
  const text = JSON.stringify(asked);
  if (endings.filter !== text) endings = { filter: text, last: 0, list: [], kept: KEPT_ENDINGS };
  const current = endings;
  const answer = await get("/api/endings", { ...asked, limit: KEPT_ENDINGS, ...(current.last ? { since: current.last } : {}) });
  if (tab !== "ended" || current !== endings) return;
  const known = current.list[0]?.sequence ?? 0;
  current.list = [...answer.endings.filter(({ sequence }) => sequence > known), ...current.list].slice(0, KEPT_ENDINGS);
  current.last = answer.last;
  const view = JSON.stringify([tab, asked, ended.shown, ended.sorted]);
  measured("update-connections", () => ended.update(current.list, current.list.length, status?.now ?? Date.now(), shownFilter !== view));
  shownFilter = view;
}

function showTab(name) {
  tab = name;
  for (const other of ["live", "ended"]) {
    const isShown = other === name;
    byId(`tab-${other}`).setAttribute("aria-selected", String(isShown));
    byId(`tab-${other}`).tabIndex = isShown ? 0 : -1;
    byId(`panel-${other}`).hidden = !isShown;
  }
  byId("filter-phase").hidden = byId("filter-older").hidden = name !== "live";
  byId("filter-outcome").hidden = name !== "ended";
  byId("close-matching").hidden = true;
  filtered();
}

/** Called when the filter has changed. */
function filtered() {
  byId("clear").hidden = !isFiltered();
  view.pickOutcome(tab === "ended" ? filter.outcome || null : null);
  view.pickListener(filter.listener || null);
  refresh();
}

/** Selects a value, or none if it is selected already. */
function select(id, name) {
  const element = byId(id);
  if (![...element.options].some(({ value }) => value === name)) element.append(h("option", { value: name }, words(name)));
  element.value = element.value === name ? "" : name;
}

function options(id, names) {
  const element = byId(id);
  const known = new Set([...element.options].map(({ value }) => value));
  for (const name of names) if (!known.has(name)) element.append(h("option", { value: name }, words(name)));
}

async function closeMatching() {
  const asked = parameters();
  const path = (extra) => `/api/connections/close?${new URLSearchParams(asked)}${extra}`;
  const dry = await act(path("&dry-run"));
  if (!dry) return;
  const terms = Object.entries(asked).map(([name, value]) => `${{ search: "text", older: "older than (seconds)" }[name] ?? name}: ${value}`);
  if (await confirm("Close connections", `${plural(dry.matching, "connection matches", "connections match")} this filter:`, `Close ${count(dry.matching)}`, [problemList(terms)]))
    await act(path(""), ({ closed }) => `${plural(closed, "connection")} closed`);
}

// Updates

const view = plots(byId, {
  onlistener: (name) => {
    select("filter-listener", name);
    filtered();
  },
  onoutcome: (name) => {
    select("filter-outcome", name);
    showTab("ended");
  },
});

const showListeners = listeners(act, { askLimit, onpick: (name) => {
  select("filter-listener", name);
  filtered();
  byId("connections").scrollIntoView({ block: "start" });
} });
const showBackends = backends(act);
const showCertificates = certificates();
let certificatesAt = -Infinity;

/** Another process answers: what the page has collected belongs to the one before. */
function restarted() {
  samples.clear();
  endings = { filter: "", last: 0, list: [] };
  before = { at: 0, bytes: new Map() };
  certificatesAt = -Infinity;
}

async function showSamples() {
  const answer = await get("/api/live", samples.last ? { since: samples.last } : undefined);
  samples.add(answer);
  measured("update-plots", () => {
    showNumbers();
    if (samples.length > 0) view.update(samples);
  });
}

async function showTables() {
  const wantsCertificates = performance.now() - certificatesAt > CERTIFICATES_EVERY;
  const [nextStatus, listening, forwarding, certified] = await Promise.all([
    get("/api/status"), get("/api/listeners"), get("/api/backends"), wantsCertificates ? get("/api/certificates") : null,
  ]);
  measured("update-tables", () => {
    showStatus(nextStatus);
    showListeners(listening);
    showBackends(forwarding, nextStatus.now);
    if (certified) {
      showCertificates(certified);
      certificatesAt = performance.now();
    }
    if (listenerNames.length === 0 && listening.listeners.length > 0)
      exists(`/api/explain?${new URLSearchParams({ listener: listening.listeners[0].name, from: "127.0.0.1" })}`)
        .then((is) => (byId("explain").hidden = !is));
    listenerNames = listening.listeners.map(({ name }) => name);
    options("filter-listener", listenerNames);
    options("filter-outcome", samples.outcomes.keys());
    setText(byId("count-live"), count(nextStatus.connections));
  });
  await (tab === "live" ? showConnections() : showEndings());
}

/** Updates the tables now: after a change, and after another filter. */
function refresh() {
  showTables().then(answered, () => {});
}

// What the user does

byId("tab-live").addEventListener("click", () => showTab("live"));
byId("tab-ended").addEventListener("click", () => showTab("ended"));
document.querySelector("[role=tablist]").addEventListener("keydown", ({ key }) => {
  if (!["ArrowLeft", "ArrowRight", "Home", "End"].includes(key)) return;
  showTab(key === "Home" ? "live" : key === "End" ? "ended" : tab === "live" ? "ended" : "live");
  byId(`tab-${tab}`).focus();
});

let typing;
byId("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(filtered, 200);
});
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("reset", () => setTimeout(filtered));
for (const id of ["filter-listener", "filter-phase", "filter-older", "filter-outcome"]) byId(id).addEventListener("change", filtered);
byId("close-matching").addEventListener("click", closeMatching);
options("filter-phase", ["accepted", "waiting", "handshake", "serving", "closing"]);

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
