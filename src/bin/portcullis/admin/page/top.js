// The top of the page: what the program is, what needs attention, the numbers of now.

import { problemList } from "./dialogs.js";
import { byId, h, setText, setTitle } from "./dom.js";
import { ago, byteRate, bytes, clock, count, duration, exact, plural, rate, sentence, words } from "./format.js";

let lostSince = null;

export function answered() {
  if (lostSince == null) return;
  lostSince = null;
  byId("lost").hidden = true;
  document.body.classList.remove("stale");
}

export function unanswered() {
  lostSince ??= Date.now();
  document.body.classList.add("stale");
  byId("lost").hidden = false;
  setText(byId("lost"), `No answer since ${clock(lostSince)}. The page shows the last facts, and tries again on its own.`);
  byId("lamp").dataset.level = "bad";
  setText(byId("state"), "no answer");
}

function level({ ready, state, warnings = [], configuration }) {
  if (!ready || state === "stopped") return "bad";
  return state !== "serving" || warnings.length > 0 || configuration.last_error ? "warn" : "good";
}

/** What a graceful shutdown still waits for. */
const draining = ({ open, deadline }, now) =>
  `draining: ${count(open)} open, ${duration(Math.max(0, Math.round((deadline - now) / 1000)))} left`;

const fileName = (path) => path.split("/").at(-1);

export function showStatus(status) {
  const { configuration, now, started, state, drain, ready, not_ready: reasons, warnings = [] } = status;
  byId("lamp").dataset.level = level(status);
  setText(byId("name"), status.name);
  setText(byId("state"), drain && state === "draining" ? draining(drain, now) : ready || state !== "serving" ? words(state) : "not ready");
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

export function showNumbers(samples) {
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
