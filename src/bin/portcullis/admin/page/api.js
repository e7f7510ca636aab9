// Requests to the admin interface, and the token that changes need.

const TOKEN = "portcullis-token";
const TIMEOUT = 10_000;

export class Failed extends Error {
  constructor(status, answer) {
    super(answer?.error ?? `the answer has status ${status}`);
    this.status = status;
    this.problems = answer?.problems ?? [];
  }
}

async function request(path, options = {}) {
  const response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT), ...options });
  const answer = await response.json().catch(() => null);
  if (!response.ok) throw new Failed(response.status, answer);
  return answer;
}

export const get = (path, parameters) => request(parameters ? `${path}?${new URLSearchParams(parameters)}` : path);

/** Whether this path exists, whatever it thinks of a request without parameters. */
export async function exists(path) {
  const response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT) }).catch(() => null);
  return response != null && response.status !== 404;
}

/** The token is kept in memory, or in this tab's session storage if the user wants it; it is never in a URL. */
export const token = {
  required: true,
  value: sessionStorage.getItem(TOKEN),
  set(value, keep) {
    this.value = value;
    if (keep) sessionStorage.setItem(TOKEN, value);
    this.onchange?.();
  },
  forget() {
    this.value = null;
    sessionStorage.removeItem(TOKEN);
    this.onchange?.();
  },
};

/** Makes a change. `ask` is called for the token, with the reason if the last one was wrong; null gives up. */
export async function change(path, ask, body) {
  let reason = "";
  for (;;) {
    if (token.required && !token.value && !(await ask(reason))) return null;
    const headers = token.value ? { authorization: `Bearer ${token.value}` } : {};
    try {
      return await request(path, { method: "POST", headers, body });
    } catch (error) {
      if (!token.required || (error.status !== 401 && error.status !== 403)) throw error;
      token.forget();
      reason = error.message;
    }
  }
}
