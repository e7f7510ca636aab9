// Requests to the admin interface, and the token that changes need.

const TOKEN = "portcullis-token";
const TIMEOUT = 10_000;

/** There was no answer. */
export class Lost extends Error {}

/** The answer is that the request failed. */
export class Failed extends Error {
  constructor(status, answer) {
    super(answer?.error ?? `the answer has status ${status}`);
    this.status = status;
    this.problems = answer?.problems ?? [];
  }

  get isUnauthorized() {
    return this.status === 401 || this.status === 403;
  }
}

const authorization = () => (token.value ? { authorization: `Bearer ${token.value}` } : {});

function send(path, options = {}) {
  return fetch(path, { cache: "no-store", headers: authorization(), signal: AbortSignal.timeout(TIMEOUT), ...options });
}

async function request(path, options) {
  const response = await send(path, options).catch((error) => {
    throw new Lost(error.message);
  });
  const answer = await response.json().catch((error) => {
    // The connection, or the time, has ended in the middle of it.
    if (response.ok) throw new Lost(error.message);
    return null;
  });
  if (!response.ok) throw new Failed(response.status, answer);
  return answer;
}

export const get = (path, parameters) => request(parameters ? `${path}?${new URLSearchParams(parameters)}` : path);

/** Whether this path exists, whatever it thinks of a request without parameters. */
export async function exists(path) {
  const response = await send(path).catch(() => null);
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
    try {
      return await request(path, { method: "POST", body });
    } catch (error) {
      if (!token.required || !error.isUnauthorized) throw error;
      token.forget();
      reason = error.message;
    }
  }
}
