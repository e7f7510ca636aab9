// Changes: they ask for the token once, and say what came of them.

import { change, Lost, token } from "./api.js";
import { askToken, problemList, tell } from "./dialogs.js";
import { byId, h, setText } from "./dom.js";
import { sentence } from "./format.js";

/** What the page sets: whether there is a token, where it is, and what follows a change. */
export const changes = { isTokenConfigured: true, tokenPlace: null, onchanged: () => {} };

let toastTimer;

export function toast(text, level = "good") {
  const element = byId("toast");
  element.hidden = false;
  element.dataset.level = level;
  setText(element, text);
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (element.hidden = true), level === "good" ? 5000 : 10_000);
}

async function enterToken(reason, what = "Changes need") {
  const form = await askToken(what, reason, changes.isTokenConfigured, changes.tokenPlace);
  if (form) token.set(form.get("token").trim(), form.has("keep"));
  return form != null;
}

let reading = null;

/** Where reads need the token, too. What polls waits for the one dialog. */
export function enterTokenToRead(error) {
  const reason = token.value ? error.message : "";
  reading ??= enterToken(reason, "Reads and changes need").then(async (given) => {
    if (!given) await new Promise((resolve) => {
      byId("token-needed").hidden = false;
      byId("token-needed").replaceChildren("The token is needed to read. ", h("button", { type: "button", onclick: resolve }, "Enter the token"));
    });
    byId("token-needed").hidden = true;
    reading = null;
  });
  return reading;
}

/** Makes a change and says so; returns its answer, null if it was not made, and {} for a status of `without`. */
export async function act(path, done, body, without = []) {
  try {
    const answer = await change(path, enterToken, body);
    if (answer == null) return null;
    if (done) toast(typeof done === "function" ? done(answer) : done);
    changes.onchanged();
    return answer;
  } catch (error) {
    if (without.includes(error.status)) return {};
    if (error.problems?.length) tell("The change was not made", [h("p", {}, error.message), problemList(error.problems)]);
    else toast(error instanceof Lost ? "No answer. The change may not have been made." : sentence(error.message), "bad");
    return null;
  }
}
