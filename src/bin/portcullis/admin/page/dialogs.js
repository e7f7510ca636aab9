// Dialogs. Escape closes each of them, and the focus returns to where it was.

import { cell, h, table } from "./dom.js";
import { count, NOTHING, sentence, words } from "./format.js";

/** Shows a dialog with a form. Resolves with the form's data when it is submitted, with null when it is closed. */
function show(title, content, { confirm, danger = false, wide = false, close = "Cancel", onsubmit } = {}) {
  return new Promise((resolve) => {
    let result = null;
    const form = h("form", { method: "dialog", onsubmit: (event) => {
      if (event.submitter?.value !== "confirm") return;
      if (onsubmit) {
        event.preventDefault();
        onsubmit(new FormData(form));
      } else result = new FormData(form);
    } }, h("h2", { id: "dialog-title" }, title), ...content,
      h("div", { class: "dialog-actions" },
        h("button", { type: "submit", value: "cancel", formNoValidate: true }, close),
        confirm && h("button", { type: "submit", value: "confirm", class: danger ? "danger" : "primary" }, confirm)));
    const dialog = h("dialog", { class: wide ? "wide" : "", "aria-labelledby": "dialog-title", onclose: () => {
      dialog.remove();
      resolve(result);
    } }, form);
    // Enter in a field confirms; the first button of a form would be taken otherwise.
    form.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.target.tagName !== "INPUT") return;
      event.preventDefault();
      form.requestSubmit(form.querySelector("[value=confirm]") ?? undefined);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

const field = (label, input) => h("label", { class: "field" }, h("span", {}, label), input);

/** `what` needs the token: changes, or also reads. */
export function askToken(what, reason, isConfigured, place) {
  if (!isConfigured)
    return show("Changes are disabled", [
      h("p", {}, "No token is configured. Set ", h("code", {}, "token-file"), " or ", h("code", {}, "token"), " in the section ", h("code", {}, "[admin]"),
        " of the configuration, or use ", h("code", {}, "portcullis ctl"), " on the Unix socket."),
    ], { close: "Close" }).then(() => null);
  return show("Token", [
    h("p", {}, `${what} the token of the admin interface. `,
      ...(place ? [`It is ${place}.`] : ["The keys ", h("code", {}, "admin.token-file"), " and ", h("code", {}, "admin.token"), " say where it is."])),
    reason && h("p", { class: "bad", role: "alert" }, sentence(reason)),
    field("Token", h("input", { type: "password", name: "token", required: true, autocomplete: "off", autofocus: true, spellcheck: false })),
    h("label", { class: "check" }, h("input", { type: "checkbox", name: "keep" }), h("span", {}, "Remember it until this tab is closed")),
  ], { confirm: "Unlock" });
}

export const confirm = (title, text, button, details = []) =>
  show(title, [h("p", {}, text), ...details], { confirm: button, danger: true }).then((form) => form != null);

export const tell = (title, content) => show(title, content, { close: "Close" });

export const problemList = (problems) => h("ul", { class: "problems" }, ...problems.map((problem) => h("li", {}, problem)));

export async function askLimit({ name, limit, connections }) {
  const form = await show(`Limit of ${name}`, [
    h("p", {}, `Connections beyond the limit are handled as the configuration says. ${count(connections)} are open now. The limit lasts until the file has another one.`),
    field("Connections", h("input", { type: "number", name: "limit", min: 1, max: 10_000_000, step: 1, required: true, value: limit ?? "", autofocus: true })),
  ], { confirm: "Set the limit" });
  return form && Number(form.get("limit"));
}

/** What a reload would do, and whether to do it. The plan is empty where there is none. */
export function askReload(plan) {
  if (!plan.changes) return confirm("Reload the configuration", "The file is read and checked first. If it has a problem, the configuration stays as it is.", "Reload");
  if (plan.problems.length > 0)
    return tell("The file has problems", [h("p", {}, "A reload would keep the configuration as it is."), problemList(plan.problems)]).then(() => false);
  if (plan.changes.length === 0)
    return confirm("Reload the configuration", "The file says what is in use already. A reload would change nothing but certificates that were renewed.", "Reload");
  const view = table("What a reload changes", [["Key"], ["From"], ["To"], ["Takes effect"], ["Open connections"]], "plan");
  view.body.append(...plan.changes.map(({ key, from, to, takes_effect, connections, effect }) => h("tr", { role: "row" },
    h("th", { scope: "row", role: "rowheader", class: "wrap" }, key),
    cell("From", "wrap", from ?? NOTHING), cell("To", "wrap", to ?? NOTHING), cell("Takes effect", "wide", takes_effect ?? NOTHING),
    cell("Open connections", "wide", [connections == null ? null : count(connections), effect].filter(Boolean).join(", ") || NOTHING))));
  return show("Reload the configuration", [h("p", {}, "This is what the reload changes."), h("div", { class: "scroll" }, view.element)],
    { confirm: "Reload", wide: true }).then((form) => form != null);
}

/** Asks which rule decides for a client. `ask(parameters)` returns the answer. */
export function explain(listeners, ask) {
  const result = h("div", { class: "explained", "aria-live": "polite" });
  const text = (label, name, placeholder, required) =>
    field(label, h("input", { type: "text", name, placeholder, required, autocomplete: "off", spellcheck: false }));
  return show("Explain a decision", [
    h("p", {}, "Shows what each guard decides for a client, and where it would be sent. Nothing is connected, and nothing is counted."),
    h("div", { class: "fields" },
      field("Listener", h("select", { name: "listener" }, ...listeners.map((name) => h("option", {}, name)))),
      text("Client's address", "from", "203.0.113.7", true),
      text("Server name", "name", "shop.example"),
      text("ALPN", "alpn", "h2"),
      text("Protocol", "protocol", "ssh"),
      text("Names of its certificate", "cert", "dns:batch.mesh"),
      text("Proxy that sends its address", "proxy", "10.0.0.1"),
      h("label", { class: "check" }, h("input", { type: "checkbox", name: "direct", value: "true" }), h("span", {}, "It connects without a proxy"))),
    result,
  ], {
    confirm: "Explain", close: "Close",
    onsubmit: async (form) => {
      const parameters = [...form].filter(([, value]) => value.trim() !== "");
      try {
        result.replaceChildren(...explained(await ask(parameters)));
      } catch (error) {
        result.replaceChildren(h("p", { class: "bad" }, error.message));
      }
    },
  });
}

function explained({ guards, route, backend, server, decision }) {
  const list = h("ol", { class: "guards" }, ...guards.map(({ guard, verdict, reason }) =>
    h("li", {}, h("span", { class: `verdict ${verdict}` }, verdict), h("span", { class: "guard" }, words(guard)), h("span", {}, reason ?? ""))));
  const facts = [["Route", route], ["Backend", backend], ["Server", server]].filter(([, value]) => value);
  return [
    h("p", { class: "decision" }, sentence(decision)), list,
    h("dl", { class: "story-facts" }, ...facts.map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value)))),
  ];
}
