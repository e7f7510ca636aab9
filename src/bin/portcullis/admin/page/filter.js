// The filter of the connections, and the tab that is shown.

import { byId, h } from "./dom.js";
import { routeName, words } from "./format.js";

const FIELDS = ["listener", "route", "phase", "older", "outcome"];
const field = (name) => byId(`filter-${name}`);

/** The tab that is shown, and what follows when it or the filter changes. */
export const filter = { tab: "live", onchanged: () => {} };

/** The value of a field, null for all. */
export const valueOf = (name) => field(name).value || null;

/** The parameters of a request for the tab that is shown. A network is compared with the peer, all else is searched. */
export function parameters() {
  const search = byId("search").value.trim();
  const isNetwork = /^[0-9a-f.:]+\/\d{1,3}$/i.test(search);
  const names = filter.tab === "live" ? ["listener", "route", "phase", "older"] : ["listener", "route", "outcome"];
  const all = [[isNetwork ? "peer" : "search", search], ...names.map((name) => [name, field(name).value])];
  return Object.fromEntries(all.filter(([, value]) => value !== ""));
}

export const isFiltered = () => Object.keys(parameters()).length > 0;

/** Adds to what can be chosen. */
export function add(name, values, label = words) {
  const known = new Set([...field(name).options].map(({ value }) => value));
  for (const value of values) if (!known.has(value)) field(name).append(h("option", { value }, label(value)));
}

/** Offers these values alone, and the chosen one for as long as it is chosen. */
export function offer(name, values, label) {
  const wanted = new Set(values);
  for (const option of [...field(name).options])
    if (option.value && !option.selected && !wanted.has(option.value)) option.remove();
  add(name, wanted, label);
}

/** The routes, with their field and column where a listener has some. */
export function offerRoutes(routes) {
  offer("route", routes, routeName);
  const none = field("route").options.length === 1;
  field("route").hidden = none;
  document.body.classList.toggle("routed", !none);
}

/** Chooses a value, or all if it is chosen already. */
export function choose(name, value) {
  add(name, [value]);
  field(name).value = field(name).value === value ? "" : value;
  changed();
}

/** Shows the end of the connection of this peer. */
export function searchEnded(peer) {
  byId("filters").reset();
  byId("search").value = peer;
  showTab("ended");
}

export function showTab(name) {
  filter.tab = name;
  for (const tab of ["live", "ended"]) {
    const isShown = tab === name;
    byId(`tab-${tab}`).setAttribute("aria-selected", String(isShown));
    byId(`tab-${tab}`).tabIndex = isShown ? 0 : -1;
    byId(`panel-${tab}`).hidden = !isShown;
  }
  field("phase").hidden = field("older").hidden = name !== "live";
  field("outcome").hidden = name !== "ended";
  byId("close-matching").hidden = true;
  changed();
}

function changed() {
  byId("clear").hidden = !isFiltered();
  filter.onchanged();
}

for (const tab of ["live", "ended"]) byId(`tab-${tab}`).addEventListener("click", () => showTab(tab));
document.querySelector("[role=tablist]").addEventListener("keydown", ({ key }) => {
  const other = filter.tab === "live" ? "ended" : "live";
  const tab = { ArrowLeft: other, ArrowRight: other, Home: "live", End: "ended" }[key];
  if (!tab) return;
  showTab(tab);
  byId(`tab-${tab}`).focus();
});

let typing;
byId("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(changed, 200);
});
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("reset", () => setTimeout(changed));
for (const name of FIELDS) field(name).addEventListener("change", changed);
add("phase", ["accepted", "waiting", "handshake", "serving", "closing"]);
