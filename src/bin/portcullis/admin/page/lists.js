// The lists of live and ended connections: what is requested for them, and what is done to them.

import { get } from "./api.js";
import { act } from "./changes.js";
import { ConnectionTable, ENDED, LIVE, MOST } from "./connections.js";
import { confirm, problemList } from "./dialogs.js";
import { byId, setText } from "./dom.js";
import { filter, isFiltered, parameters, searchEnded } from "./filter.js";
import { count, plural } from "./format.js";
import { measured } from "./measured.js";

const KEPT_ENDINGS = 1000;

/** What follows when more rows or another order are wanted. */
export const lists = { onwanted: () => {} };

const live = new ConnectionTable(byId("panel-live"), "Live connections", LIVE, {
  keyOf: ({ id }) => id,
  onclose: ({ id, peer }, reset) => act(`/api/connections/${encodeURIComponent(id)}/close${reset ? "?reset" : ""}`,
    `Connection ${id} of ${peer} is ${reset ? "reset" : "closed"}`),
  onwhy: ({ peer }) => searchEnded(peer),
  onmore: () => lists.onwanted(),
  empty: () => (isFiltered() ? "No live connection matches the filter." : "No connection is open."),
});

const ended = new ConnectionTable(byId("panel-ended"), "Ended connections, the newest first", ENDED, {
  keyOf: ({ sequence }) => sequence,
  onmore: () => lists.onwanted(),
  empty: () => (isFiltered() ? "No ended connection matches the filter." : "No connection has ended yet."),
});

let shown = "";
let before = { at: 0, bytes: new Map() };
let endings = { filter: "", last: 0, list: [] };

/** Another process answers: what was collected belongs to the one before. */
export function restart() {
  before = { at: 0, bytes: new Map() };
  endings = { filter: "", last: 0, list: [] };
}

/** Requests and shows the list of the tab that is shown. */
export const showList = (now) => (filter.tab === "live" ? showLive(now) : showEnded(now));

/** What a list shows. An answer for another one is late. */
const wanted = (table) => JSON.stringify([filter.tab, parameters(), table.shown, table.sorted]);

async function showLive(now) {
  const view = wanted(live);
  const answer = await get("/api/connections", { ...parameters(), limit: live.sorted ? MOST : live.shown });
  const beyond = await findAgain(live.beyond(answer.connections));
  if (view !== wanted(live)) return;
  addRates([...answer.connections, ...beyond]);
  measured("update-connections", () => {
    live.update(answer.connections, answer.total, now, { reset: shown !== view, beyond });
    const matching = byId("close-matching");
    matching.hidden = !isFiltered() || answer.total === 0;
    setText(matching, `Close ${count(answer.total)} matching…`);
  });
  shown = view;
}

/** Those of these connections that are still open: each is the newest one before the next id, if it is. */
async function findAgain(connections) {
  const answers = await Promise.all(connections.slice(0, 5).map(({ id }) => get("/api/connections", { cursor: Number(id) + 1, limit: 1 })));
  return answers.flatMap(({ connections: found }) => found.filter(({ id }) => connections.some((one) => one.id === id)));
}

/** Bytes per second since the last update; since the beginning for a connection that is newer. */
function addRates(connections) {
  const at = performance.now();
  const passed = (at - before.at) / 1000;
  const sums = new Map();
  for (const connection of connections) {
    const sum = connection.bytes_in + connection.bytes_out;
    const last = before.bytes.get(connection.id);
    connection.rate = last != null ? Math.max(0, sum - last) / passed
      : connection.age > 0 && connection.age < passed ? sum / connection.age : null;
    sums.set(connection.id, sum);
  }
  before = { at, bytes: sums };
}

async function showEnded(now) {
  const view = wanted(ended);
  const text = JSON.stringify(parameters());
  if (endings.filter !== text) endings = { filter: text, last: 0, list: [] };
  const current = endings;
  const answer = await get("/api/endings", { ...parameters(), limit: KEPT_ENDINGS, ...(current.last ? { since: current.last } : {}) });
  if (view !== wanted(ended) || current !== endings) return;
  const known = current.list[0]?.sequence ?? 0;
  current.list = [...answer.endings.filter(({ sequence }) => sequence > known), ...current.list].slice(0, KEPT_ENDINGS);
  current.last = answer.last;
  measured("update-connections", () => ended.update(current.list, current.list.length, now, { reset: shown !== view }));
  shown = view;
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

byId("close-matching").addEventListener("click", closeMatching);
