// The tables of live and ended connections: rows by key, one of which can show its story.

import { arrange, cell, h, setText, setTitle, table } from "./dom.js";
import { ago, byteRate, bytes, count, duration, exact, NOTHING, plural, routeName, words } from "./format.js";

const STEP = matchMedia("(max-width: 640px)").matches ? 25 : 100;
export const MOST = 500;

/** The server, or the backend where there is none yet. */
const where = ({ backend, server }) => (server ? (backend ? `${backend} → ${server}` : server) : backend ?? NOTHING);

/** `by` is what a column is sorted by; `text` is what it shows. */
export const LIVE = [
  { label: "Peer", class: "peer", text: ({ peer }) => peer ?? NOTHING },
  { label: "Name", class: "name wide", text: ({ name }) => name ?? NOTHING },
  { label: "JA4", class: "ja4", text: ({ ja4 }) => ja4 ?? NOTHING },
  { label: "Listener", class: "listener wide", text: ({ listener }) => listener },
  { label: "Route", class: "route wide", text: ({ route }) => routeName(route) },
  { label: "Server", class: "server wide", text: where },
  { label: "Phase", class: "phase", text: ({ phase }) => words(phase) },
  { label: "Age", class: "number age", by: ({ age }) => age, text: ({ age }) => duration(age < 10 ? age : Math.floor(age)), title: ({ opened }) => `opened ${exact(opened)}` },
  { label: "In", class: "number size", by: ({ bytes_in }) => bytes_in, text: ({ bytes_in }) => bytes(bytes_in) },
  { label: "Out", class: "number size", by: ({ bytes_out }) => bytes_out, text: ({ bytes_out }) => bytes(bytes_out) },
  { label: "Rate", class: "number size", by: ({ rate }) => rate ?? 0, text: ({ rate }) => byteRate(rate) },
];

export const ENDED = [
  { label: "Peer", class: "peer", text: ({ peer }) => peer ?? NOTHING },
  { label: "Name", class: "name wide", text: ({ name }) => name ?? NOTHING },
  { label: "JA4", class: "ja4", text: ({ ja4 }) => ja4 ?? NOTHING },
  { label: "Listener", class: "listener wide", text: ({ listener }) => listener },
  { label: "Route", class: "route wide", text: ({ route }) => routeName(route) },
  { label: "Server", class: "server wide", text: ({ server, backend }) => server ?? backend ?? NOTHING, title: where },
  { label: "Outcome", class: "outcome wide", text: ({ outcome }) => words(outcome), mark: ({ outcome }) => outcome },
  { label: "Reason", class: "reason wide", text: ({ reason }) => reason ?? NOTHING },
  { label: "By", class: "by", text: ({ ended_by }) => ended_by ?? NOTHING },
  { label: "Lasted", class: "number age", by: ({ duration: lasted }) => lasted, text: ({ duration: lasted }) => duration(lasted) },
  { label: "In", class: "number size", by: ({ bytes_in }) => bytes_in, text: ({ bytes_in }) => bytes(bytes_in) },
  { label: "Out", class: "number size", by: ({ bytes_out }) => bytes_out, text: ({ bytes_out }) => bytes(bytes_out) },
  { label: "Ended", class: "number ended", text: ({ ended }, now) => ago(ended, now), title: ({ ended }) => exact(ended) },
];

/**
 * A table of connections. `onclose(connection, reset)` closes one, and `onwhy(connection)` shows how one ended that is
 * gone; a table of ended connections has neither.
 */
export class ConnectionTable {
  #rows = new Map();
  #entered = false;

  constructor(parent, caption, columns, { keyOf, onclose, onwhy, onmore, empty }) {
    Object.assign(this, { columns, keyOf, onclose, onwhy, onmore, empty });
    this.shown = STEP;
    this.sorted = null;
    const labels = columns.map(({ label, class: name }) => [label, name]);
    this.view = table(caption, onclose ? [...labels, ["", "actions"]] : labels, "connections");
    this.note = h("p", { class: "table-note", "aria-live": "off" });
    this.more = h("button", { type: "button", hidden: true, onclick: () => {
      this.shown = Math.min(MOST, this.shown + STEP);
      onmore();
    } }, "Show more");
    parent.append(h("div", { class: "scroll" }, this.view.element), h("div", { class: "table-foot" }, this.note, this.more));
    columns.forEach((column, index) => column.by && this.#sortable(this.view.element.tHead.rows[0].cells[index], column));
    // A row must not move away from under the pointer.
    const { body } = this.view;
    body.addEventListener("pointerenter", ({ pointerType }) => (this.#entered = pointerType === "mouse"));
    body.addEventListener("pointerleave", () => (this.#entered = false));
  }

  /** Whether the order is held, because the pointer or the focus is in a row. */
  get held() {
    return this.#entered || this.view.body.contains(document.activeElement);
  }

  /** A head that sorts by its column: the largest first, then the smallest, then by time again. */
  #sortable(head, column) {
    head.replaceChildren(h("button", { type: "button", class: "link", onclick: () => {
      const { column: before, sign } = this.sorted ?? {};
      this.sorted = before !== column ? { column, sign: -1 } : sign < 0 ? { column, sign: 1 } : null;
      for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
      if (this.sorted) head.setAttribute("aria-sort", this.sorted.sign < 0 ? "descending" : "ascending");
      this.onmore();
    } }, column.label));
  }

  /** Those that are shown, in their order. */
  #listed(connections) {
    if (!this.sorted) return connections.slice(0, this.shown);
    const { column: { by }, sign } = this.sorted;
    return [...connections].sort((a, b) => sign * (by(a) - by(b))).slice(0, this.shown);
  }

  /** Connections whose story is open, but which are not listed. */
  beyond(connections) {
    const listed = new Set(this.#listed(connections).map(this.keyOf));
    return [...this.#rows.values()].filter(({ key, story }) => story && !listed.has(key)).map(({ connection }) => connection);
  }

  /**
   * Shows these connections. `reset` is for another filter: the order is not held then. `beyond` are those that are
   * not listed, but open.
   */
  update(connections, total, now, { reset, beyond = [] }) {
    this.now = now;
    const hold = this.held && !reset;
    const listed = this.#listed(connections);
    let fresh = 0;
    for (const connection of [...listed, ...beyond]) {
      const key = this.keyOf(connection);
      if (this.#rows.has(key)) this.#fill(this.#rows.get(key), connection);
      else if (hold) fresh++;
      else this.#rows.set(key, this.#row(connection));
    }
    const keys = new Set([...listed, ...beyond].map(this.keyOf));
    for (const [key, row] of this.#rows) {
      if (!keys.has(key) && !hold && (reset || !row.story)) this.#rows.delete(key);
      else if (this.onclose) this.#mark(row, !keys.has(key) && (row.story != null || this.#belongs(row, listed, total)));
    }
    if (!hold) this.#arrange(listed);
    this.#describe(connections.length, total, hold, fresh);
  }

  /** Whether a connection would be in the list if it were open; the list has the newest ones. */
  #belongs({ connection }, listed, total) {
    return listed.length === total || (!this.sorted && connection.opened > listed.at(-1).opened);
  }

  #mark(row, isGone) {
    if (row.isGone === isGone) return;
    row.isGone = isGone;
    row.element.classList.toggle("gone", isGone);
    row.close.disabled = isGone;
    if (row.story) this.#tell(row);
  }

  /** Rows in the order of the list; one that is gone and open stays at the top until it is closed. */
  #arrange(listed) {
    const rows = listed.map((connection) => this.#rows.get(this.keyOf(connection)));
    const among = new Set(rows);
    const rest = [...this.#rows.values()].filter((row) => !among.has(row));
    arrange(this.view.body, [...rest, ...rows].flatMap(({ element, story }) => (story ? [element, story] : [element])));
  }

  #describe(loaded, total, hold, fresh) {
    const shown = Math.min(loaded, this.shown);
    this.more.hidden = total <= this.shown || this.shown >= MOST;
    const sentence = total === 0 ? this.empty()
      : this.sorted && shown < total ? `${count(shown)} of the newest ${count(loaded)}, of ${count(total)} in all.`
      : shown < total ? `The newest ${count(shown)} of ${count(total)}.`
      : `${plural(total, "connection")}.`;
    setText(this.note, hold && fresh ? `${sentence} The list is held while the pointer or the focus is in it; ${count(fresh)} are new.` : sentence);
    this.note.classList.toggle("empty", total === 0);
    this.view.element.hidden = this.#rows.size === 0;
  }

  #row(connection) {
    const key = this.keyOf(connection);
    const cells = this.columns.map(({ label, class: name }, index) => {
      const text = index === 0
        ? h("button", { type: "button", class: "link", "aria-expanded": "false", onclick: (event) => {
          event.stopPropagation();
          this.toggle(key);
        } })
        : h("span", {});
      const element = index === 0 ? h("th", { scope: "row", role: "rowheader", class: name, "data-label": label }, text) : cell(label, name, text);
      return { element, text };
    });
    const row = { key, cells, connection: null, story: null, isGone: false };
    row.element = h("tr", { role: "row", onclick: () => {
      if (!String(getSelection())) this.toggle(key);
    } }, ...cells.map(({ element }) => element));
    if (this.onclose) {
      row.close = h("button", { type: "button", class: "quiet", onclick: (event) => {
        event.stopPropagation();
        this.onclose(row.connection, false);
      } }, "Close");
      row.element.append(cell("", "actions", row.close));
    }
    this.#fill(row, connection);
    return row;
  }

  #fill(row, connection) {
    row.connection = connection;
    this.columns.forEach(({ text, title, mark }, index) => {
      const target = row.cells[index].text;
      const value = text(connection, this.now);
      if (row.cells[index].value !== value) {
        row.cells[index].value = value;
        target.textContent = value;
        target.parentElement.classList.toggle("none", value === NOTHING);
        if (!title) target.title = value;
      }
      if (title) setTitle(target, title(connection));
      if (mark) target.dataset.outcome = mark(connection);
    });
    row.close?.setAttribute("aria-label", `Close ${connection.peer}, connection ${connection.id}`);
    if (row.story) this.#tell(row);
  }

  /** Opens or closes the story of a row. */
  toggle(key) {
    const row = this.#rows.get(key);
    if (!row) return;
    const open = row.story == null;
    row.cells[0].text.setAttribute("aria-expanded", String(open));
    row.element.classList.toggle("open", open);
    if (open) {
      const span = [...row.element.cells].filter((column) => column.offsetParent).length;
      row.story = h("tr", { role: "row", class: "story" }, h("td", { role: "cell", colSpan: span }));
      this.#tell(row);
      row.element.after(row.story);
    } else {
      row.story.remove();
      row.story = null;
    }
  }

  #tell(row) {
    const { connection } = row;
    const text = JSON.stringify([connection.story, facts(connection), connection.notes, row.isGone]);
    if (row.text === text && row.story.firstChild.firstChild) return;
    row.text = text;
    const button = (label, onclick) => h("button", { type: "button", onclick }, label);
    const actions = this.onclose && h("p", { class: "story-actions" }, ...(row.isGone
      ? [button("It has ended. Show why", () => this.onwhy(connection))]
      : [button("Close", () => this.onclose(connection, false)), button("Reset", () => this.onclose(connection, true))]));
    row.story.firstChild.replaceChildren(h("div", { class: "telling" }, timeline(connection), h("div", {}, factList(connection), actions)));
  }
}

function timeline({ story }) {
  const list = h("ol", { class: "timeline" });
  for (const { event, at, what } of story ?? [])
    list.append(h("li", { class: event === "observed" ? event : "" }, h("span", { class: "at" }, at == null ? "" : `+${duration(at)}`), h("span", { class: "what" }, what)));
  return h("div", {}, h("h3", {}, "Story"), list);
}

function facts({ id, peer, listener, bytes_in, bytes_out, socket_peer, name, alpn, ja4, tls, client_certificate, route, backend, server, opened, ended, ended_by, reason, outcome, phase }) {
  return [
    ["Connection", `${id} of listener ${listener}`], ["Peer", peer], ["Socket", socket_peer === peer ? null : socket_peer], ["Name", name],
    ["TLS", tls && `${tls.version}, ${tls.cipher}${tls.resumed ? ", resumed" : ""}`], ["ALPN", alpn], ["JA4", ja4],
    ["Client certificate", client_certificate], ["Route", route && routeName(route)], ["Backend", backend], ["Server", server],
    ["Bytes", `${bytes(bytes_in)} in, ${bytes(bytes_out)} out`], ["Opened", exact(opened)],
    ["Ended", ended && `${exact(ended)}, in phase ${words(phase)}${ended_by ? `, by ${ended_by}` : ""}`], ["Outcome", outcome && words(outcome)], ["Reason", reason],
  ].filter(([, value]) => value);
}

function factList(connection) {
  const list = h("dl", { class: "story-facts" });
  for (const [term, value] of facts(connection)) list.append(h("div", {}, h("dt", {}, term), h("dd", {}, value)));
  return h("div", {}, h("h3", {}, "Facts"), list);
}
