// Numbers, units and times in words.

const counts = new Intl.NumberFormat("en");
const clocks = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dates = new Intl.DateTimeFormat("en-GB", {
  year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short",
});
const days = new Intl.DateTimeFormat("en-GB", { year: "numeric", month: "short", day: "numeric" });

export const NOTHING = "–";

export const count = (value) => (value == null ? NOTHING : counts.format(value));

/** "1 server", "2 servers". */
export const plural = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;

/** Three significant digits at most, without an exponent. */
function short(value) {
  return value >= 100 ? String(Math.round(value)) : String(Number(value.toPrecision(value >= 10 ? 3 : 2)));
}

export function bytes(value) {
  if (value == null) return NOTHING;
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  for (; Math.abs(value) >= 999.5 && unit < units.length - 1; unit++) value /= 1000;
  return `${value < 0 ? "−" : ""}${short(Math.abs(value))} ${units[unit]}`;
}

export const byteRate = (value) => (value == null ? NOTHING : `${bytes(value)}/s`);

export const rate = (value) => (value == null ? NOTHING : short(value));

/** A duration: the two largest units, or milliseconds. */
export function duration(seconds) {
  if (seconds == null) return NOTHING;
  if (seconds === 0) return "0 ms";
  if (seconds < 0.9995) return `${short(seconds * 1000)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const [large, small, rest, unit] =
    whole < 3600 ? ["min", "s", whole % 60, 60] :
    whole < 86400 ? ["h", "min", Math.floor(whole % 3600 / 60), 3600] :
    ["d", "h", Math.floor(whole % 86400 / 3600), 86400];
  const first = `${Math.floor(whole / unit)} ${large}`;
  return rest ? `${first} ${rest} ${small}` : first;
}

/** How long ago, in one unit. */
export function ago(at, now) {
  if (at == null) return NOTHING;
  const seconds = Math.max(0, (now - at) / 1000);
  if (seconds < 2) return "just now";
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60]])
    if (seconds >= length) return `${Math.floor(seconds / length)} ${unit} ago`;
  return `${Math.floor(seconds)} s ago`;
}

export const clock = (at) => clocks.format(at);
export const exact = (at) => (at == null ? "" : dates.format(at));
export const day = (at) => (at == null ? NOTHING : days.format(at));

/** The name of a route without the word. */
export const routeName = (route) => route?.replace(/^route | route$/, "") ?? NOTHING;

/** `timed_out` → "timed out". */
export const words = (name) => (name == null ? NOTHING : name.replaceAll("_", " "));

/** With a capital letter. */
export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);
