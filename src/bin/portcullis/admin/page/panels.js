// Listeners, certificates and backends.

import { arrange, byId, cell, h, Keyed, limitBar, setText, setTitle, table } from "./dom.js";
import { ago, count, day, duration, exact, NOTHING, plural, words } from "./format.js";

/** Shows the table, or a sentence where there is nothing to show. */
function panel(id, { element }, sentence) {
  const empty = h("p", { class: "empty", hidden: true }, sentence);
  byId(id).append(element, empty);
  return (isEmpty) => {
    element.hidden = isEmpty;
    empty.hidden = !isEmpty;
  };
}

function lamp() {
  return h("span", { class: "lamp small", "aria-hidden": "true" });
}

const button = (text, onclick, label) => h("button", { type: "button", "aria-label": label, onclick }, text);

/** `act(path, done)` makes a change, and says `done` when it is made. */
export function listeners(act, { askLimit, onpick }) {
  const view = table("Listeners", [["Listener"], ["Connections"], ["Refused", "number"], ["", "actions"]], "listeners");
  const show = panel("listeners", view, "There is no listener.");
  const rows = new Keyed(({ name }) => {
    let current;
    const light = lamp();
    const addresses = h("span", { class: "second" });
    const now = h("span", {});
    const bar = limitBar();
    const refused = h("span", {});
    const path = `/api/listeners/${encodeURIComponent(name)}`;
    const toggle = button("Pause", () => current.state === "paused"
      ? act(`${path}/resume`, `Listener ${name} accepts connections again`)
      : act(`${path}/pause`, `Listener ${name} is paused`));
    const limit = button("Limit…", async () => {
      const value = await askLimit(current);
      if (value != null) act(`${path}/limit?value=${value}`, `Listener ${name} is limited to ${count(value)} connections`);
    }, `Limit ${name}`);
    const element = h("tr", { role: "row" },
      h("th", { scope: "row", role: "rowheader" }, h("span", { class: "with-lamp" }, light,
        h("span", { class: "stack" }, h("button", { type: "button", class: "link", title: `Show only ${name} in the list below`, onclick: () => onpick(name) }, name), addresses))),
      cell("Connections", "wide", h("span", { class: "stack" }, now, bar.element)),
      cell("Refused", "number", refused),
      cell("", "actions", toggle, limit));
    return {
      element,
      update: (listener) => {
        current = listener;
        const { state, connections, limit: most } = listener;
        light.dataset.level = state === "open" ? "good" : state === "closed" ? "bad" : "warn";
        setText(addresses, `${listener.addresses.join(", ")}${listener.tls ? " · TLS" : ""}${state === "open" ? "" : ` · ${state}`}`);
        setText(now, most ? `${count(connections)} of ${count(most)}` : count(connections));
        bar.set(connections, most);
        setText(refused, count(listener.refused));
        setTitle(refused, `${count(listener.accepted)} accepted, ${count(listener.refused)} refused, ${count(listener.timed_out)} timed out, ${count(listener.truncated)} truncated, ${count(listener.failed)} failed`);
        setText(toggle, state === "paused" ? "Resume" : "Pause");
        toggle.setAttribute("aria-label", `${toggle.textContent} ${name}`);
        toggle.disabled = state !== "open" && state !== "paused";
      },
    };
  });
  return ({ listeners: list }) => {
    show(list.length === 0);
    arrange(view.body, rows.update(list, ({ name }) => name).map(({ element }) => element));
  };
}

export function certificates() {
  const view = table("Certificates", [["Certificate"], ["Issuer"], ["Expires", "number"]], "certificates");
  const show = panel("certificates", view, "There is no certificate, so no listener terminates TLS.");
  const rows = new Keyed(({ name }) => {
    const light = lamp();
    const names = h("span", { class: "second" });
    const issuer = h("span", { class: "wrap" });
    const left = h("span", {});
    const until = h("span", { class: "second" });
    const element = h("tr", { role: "row" },
      h("th", { scope: "row", role: "rowheader" }, h("span", { class: "with-lamp" }, light, h("span", { class: "stack" }, h("span", { class: "wrap" }, name), names))),
      cell("Issuer", "wide", issuer),
      cell("Expires", "number wide", h("span", { class: "stack" }, left, until)));
    return {
      element,
      update: (certificate) => {
        const { days_left: days, not_after, staple, problem, default_for: defaultFor = [] } = certificate;
        light.dataset.level = days == null ? "idle" : days < 0 || problem ? "bad" : days < 14 || staple === "stale" ? "warn" : "good";
        setText(names, certificate.names.join(", ") + (defaultFor.length ? ` · default for ${defaultFor.join(", ")}` : "") + (problem ? ` · not renewed: ${problem}` : ""));
        setTitle(names, `Serial number ${certificate.serial}, from ${certificate.chain ?? "memory"}, used by ${[...certificate.listeners ?? [], ...certificate.backends ?? []].join(", ") || "nothing"}`);
        setText(issuer, certificate.issuer || NOTHING);
        setText(left, ends(days));
        left.className = light.dataset.level === "good" ? "" : light.dataset.level;
        setText(until, day(not_after) + (staple && staple !== "none" ? ` · OCSP ${staple}` : ""));
        setTitle(until, exact(not_after));
      },
    };
  });
  return ({ certificates: list }) => {
    show(list.length === 0);
    arrange(view.body, rows.update(list, ({ name, serial }) => `${name}/${serial}`).map(({ element }) => element));
  };
}

/** When a certificate ends that is valid for this many days. */
function ends(days) {
  if (days == null) return NOTHING;
  if (days < 0) return `${plural(-days, "day")} ago`;
  return `in ${days < 1000 ? plural(days, "day") : `${count(Math.floor(days / 365))} years`}`;
}

function endsLevel(days) {
  return days == null || days >= 14 ? "" : days < 0 ? "bad" : "warn";
}

const BAD = ["down", "ejected", "unresolved"];
const AWAY = ["drained", "draining", "taken_down"];

export function backends(act) {
  const view = table("Servers of the backends", [["Server"], ["Weight", "number"], ["Connections", "number"], ["Connect", "number"], ["Certificate", "number"], ["Last check"], ["", "actions"]], "backends");
  const show = panel("backends", view, "There is no backend.");
  const groups = new Keyed((backend) => group(backend, act));
  view.body.remove();
  return ({ backends: list }, now) => {
    show(list.length === 0);
    const bodies = groups.update(list.map((backend) => ({ ...backend, now })), ({ name }) => name);
    arrange(view.element, [view.element.caption, view.element.tHead, ...bodies.map(({ element }) => element)]);
  };
}

/** The body of the table for one backend: a row with its name, then its servers. */
function group({ name }, act) {
  const facts = h("span", { class: "second" });
  const title = h("tr", { role: "row", class: "group" },
    h("th", { scope: "rowgroup", role: "rowheader", colSpan: 7 }, h("span", { class: "name" }, name), facts));
  const servers = new Keyed((server) => row(name, server, act));
  const element = h("tbody", { role: "rowgroup" }, title);
  return {
    element,
    update: (backend) => {
      const usable = backend.servers.filter((server) => server.usable).length;
      setText(facts, [
        words(backend.balance).replaceAll("-", " "),
        usable === backend.servers.length ? plural(usable, "server") : `${usable} of ${plural(backend.servers.length, "server")} in use`,
        ...(backend.waiting ? [`${plural(backend.waiting, "connection waits", "connections wait")} for a server`] : []),
      ].join(" · "));
      facts.classList.toggle("bad", usable === 0);
      const rows = servers.update(backend.servers.map((server) => ({ ...server, now: backend.now })), ({ key }) => key);
      arrange(element, [title, ...rows.map((entry) => entry.element)]);
    },
  };
}

function row(backend, { key, address }, act) {
  let current;
  const light = lamp();
  const state = h("span", { class: "second" });
  const weight = h("span", {});
  const now = h("span", {});
  const bar = limitBar();
  const connect = h("span", {});
  const certificate = h("span", {});
  const check = h("span", { class: "wrap" });
  const path = `/api/backends/${encodeURIComponent(backend)}/${encodeURIComponent(key)}`;
  const toggle = button("Drain", () => AWAY.includes(current.state)
    ? act(`${path}/${current.state === "taken_down" ? "auto" : "undrain"}`, `${address} is back in use`)
    : act(`${path}/drain`, `${address} gets no new connections`));
  const element = h("tr", { role: "row" },
    h("th", { scope: "row", role: "rowheader" }, h("span", { class: "with-lamp" }, light,
      h("span", { class: "stack" }, h("span", { class: "wrap address" }, address), state))),
    cell("Weight", "number", weight),
    cell("Connections", "number wide", h("span", { class: "stack" }, now, bar.element)),
    cell("Connect", "number", connect),
    cell("Certificate", "number wide", certificate),
    cell("Last check", "wide", check),
    cell("", "actions", toggle));
  return {
    element,
    update: (server) => {
      current = server;
      const { state: word, limit, checked, since, certificate_days_left: days, certificate_not_after: until } = server;
      light.dataset.level = BAD.includes(word) ? "bad" : server.usable && word === "up" ? "good" : AWAY.includes(word) ? "warn" : "idle";
      setText(state, [words(word), ...(server.progress ? [server.progress] : []), ...(server.last_resort ? ["(last resort)"] : []), ...(since ? [`for ${duration(Math.max(0, Math.floor((server.now - since) / 1000)))}`] : []), ...(server.backup ? ["backup"] : [])].join(" "));
      setTitle(state, since ? `since ${exact(since)}` : "");
      setText(weight, count(server.weight));
      setText(now, limit ? `${count(server.connections)} of ${count(limit)}` : count(server.connections));
      setTitle(now, `${count(server.connected)} connected since the start, ${plural(server.failures, "failure")}`);
      bar.set(server.connections, limit);
      setText(connect, duration(server.connect_time));
      setText(certificate, ends(days));
      certificate.className = endsLevel(days);
      setTitle(certificate, until == null ? "" : `Presented by the server; it ends ${exact(until)}`);
      setText(check, server.error ?? server.last_check ?? "not checked");
      check.className = server.error ?? server.last_check ? "wrap" : "wrap faint";
      setTitle(check, checked ? `${ago(checked, server.now)}, ${exact(checked)}` : "");
      setText(toggle, AWAY.includes(word) ? "Back" : "Drain");
      toggle.setAttribute("aria-label", AWAY.includes(word) ? `Back in use: ${address} of ${backend}` : `Drain ${address} of ${backend}`);
    },
  };
}
