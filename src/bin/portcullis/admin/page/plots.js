// The four plots of the last ten minutes, and the small curves above them. Each plot has a legend with values at the
// cursor, and a table with the same numbers per minute.

import { arrange, cell, h, Keyed, setText, table } from "./dom.js";
import { byteRate, bytes, clock, count, duration, rate, words } from "./format.js";
import { COLUMN, heatMap } from "./heat_map.js";
import { WINDOW } from "./samples.js";

const HEIGHT = 190;
const SHORTEST = 60;
const OUTCOMES = [
  "completed", "handed_off", "disconnected", "truncated", "cancelled", "forced", "timed_out", "refused", "unreachable",
  "proxy_header_failed", "handshake_failed", "failed", "panicked",
];

/** A colour of page.css, in the scheme of now. */
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const transparent = (name, percent) => `color-mix(in srgb, ${color(name)} ${percent}%, transparent)`;

/** Seconds from the epoch, as uPlot wants them. */
const seconds = (samples) => samples.at.map((at) => at / 1000);

function axes(format, extra = {}) {
  const shared = { stroke: color("muted"), font: `11px ${color("font")}`, ticks: { show: false } };
  return [
    { ...shared, space: 80, grid: { show: false }, values: times, size: 26 },
    { ...shared, size: 62, gap: 6, space: 34, grid: { stroke: color("grid"), width: 1 }, values: (_, ticks) => ticks.map((tick) => (tick == null ? "" : format(tick))), ...extra },
  ];
}

/** The times of an axis, without one that would not fit at its end. */
const times = (plot, ticks) => ticks.map((tick) =>
  plot.valToPos(tick, "x") > plot.bbox.width / devicePixelRatio - 24 ? "" : clock(tick * 1000).slice(0, tick % 60 ? 8 : 5));

const fromZero = (least) => (_, __, max) => [0, Math.max(least, (max ?? 0) * 1.08)];

/** A plot with its head, legend and table. A subclass says which series there are and how they are drawn. */
class Plot {
  #legend;
  #twin;
  #signature = "";
  #told = "";
  #index = null;

  constructor(element, { title, unit, note, nothing, onpick }) {
    this.title = title;
    this.onpick = onpick;
    this.picked = null;
    this.area = h("div", { class: "area", role: "img" });
    this.nothing = h("p", { class: "nothing", hidden: true }, nothing);
    this.legend = h("ul", { class: "legend" });
    this.#legend = new Keyed((series) => this.#entry(series));
    this.#twin = table(`${title}: means by minute, and the highest p99`, []);
    this.details = h("details", { class: "twin", ontoggle: () => this.#fillTwin() },
      h("summary", {}, "As a table"), this.#twin.element);
    this.when = h("span", { class: "when" });
    element.append(
      h("header", {}, h("h2", {}, title, " ", h("span", { class: "unit" }, unit)), this.when, this.legend),
      h("div", { class: "drawn" }, this.area, this.nothing), this.details);
    if (note) element.append(h("p", { class: "unseen" }, note));
    new ResizeObserver(() => this.plot?.setSize(this.#size())).observe(this.area);
  }

  #size() {
    return { width: Math.max(200, this.area.clientWidth), height: HEIGHT };
  }

  #entry(series) {
    const value = h("span", { class: "amount" });
    const content = [h("span", { class: "swatch", "aria-hidden": "true" }), h("span", { class: "label" }, series.label), value];
    const inner = this.onpick && !series.fixed
      ? h("button", { type: "button", title: `Show only ${series.label} in the list below`, onclick: () => this.onpick(series.name) }, ...content)
      : h("span", {}, ...content);
    const element = h("li", {}, inner);
    return {
      element,
      update: ({ name, color: colorName, values, format }) => {
        inner.firstChild.style.background = color(colorName);
        inner.querySelector(".label").title = series.label;
        setText(value, format(values[this.#index ?? values.length - 1]));
        if (inner.tagName === "BUTTON") inner.setAttribute("aria-pressed", String(this.picked === name));
        element.classList.toggle("faded", this.picked != null && this.picked !== name);
      },
    };
  }

  /** Draws the samples; the plot is made again if its series have changed. */
  update(samples) {
    this.samples = samples;
    this.series = this.list(samples);
    const signature = JSON.stringify([this.series.map(({ name }) => name), samples.bounds.length, samples.length > 0]);
    if (signature !== this.#signature) this.rebuild(signature);
    const data = [seconds(samples), ...this.drawn(this.series)];
    const last = samples.last / 1000;
    const span = Math.min(WINDOW, Math.max(SHORTEST, last - (data[0][0] ?? last)));
    this.plot.batch(() => {
      this.plot.setData(data, false);
      this.plot.setScale("x", { min: last - span, max: last });
    });
    this.#showLegend();
    this.nothing.hidden = this.series.some(({ values }) => values.some((value) => value != null));
    this.area.setAttribute("aria-label", `${this.title}. Now: ${this.series
      .map(({ label, values, format }) => `${label} ${format(values.at(-1))}`).join(", ") || "nothing"}.`);
    this.#fillTwin();
  }

  rebuild(signature = this.#signature) {
    this.#signature = signature;
    this.plot?.destroy();
    const cursor = {
      y: false, drag: { x: false, y: false }, points: { show: false }, sync: { key: "time", scales: ["x", null] },
      bind: { dblclick: () => null },
    };
    const options = {
      ...this.#size(), padding: [8, 8, 0, 0], legend: { show: false }, cursor,
      hooks: { setCursor: [({ cursor: { idx } }) => this.#point(idx)] },
    };
    const { hooks = {}, ...rest } = this.options(this.series);
    this.plot = new uPlot({ ...options, ...rest, hooks: { ...options.hooks, ...hooks } }, [[]], this.area);
    this.plot.over.addEventListener("click", () => this.onclick?.());
  }

  #point(index) {
    this.#index = index ?? null;
    if (this.samples) this.#showLegend();
  }

  #showLegend() {
    const at = this.#index == null ? null : this.samples.at[this.#index];
    setText(this.when, at == null ? "" : clock(at));
    arrange(this.legend, this.#legend.update([...this.series].reverse(), ({ name }) => name).map(({ element }) => element));
  }

  #fillTwin() {
    if (!this.details.open || !this.samples) return;
    const { at } = this.samples;
    const series = this.series;
    const labels = ["Minute", ...series.map(({ label }) => label)];
    const minutes = new Map();
    at.forEach((instant, index) => {
      const minute = Math.floor(instant / 60000);
      minutes.set(minute, [...(minutes.get(minute) ?? []), index]);
    });
    const lines = [...minutes].reverse().map(([minute, indices]) => [
      clock(minute * 60000).slice(0, 5),
      ...series.map(({ values, format, mean = format, worst }) => {
        const there = indices.map((index) => values[index]).filter((value) => value != null);
        return mean(there.length === 0 ? null : worst ? Math.max(...there) : there.reduce((sum, value) => sum + value, 0) / there.length);
      }),
    ]);
    // A table that is made again loses its selection, and costs a layout.
    const text = JSON.stringify([labels, lines]);
    if (text === this.#told) return;
    this.#told = text;
    const head = h("tr", { role: "row" }, ...labels
      .map((label, index) => h("th", { scope: "col", role: "columnheader", class: index ? "number" : "" }, label)));
    this.#twin.element.tHead.replaceChildren(head);
    this.#twin.body.replaceChildren(...lines.map(([minute, ...values]) => h("tr", { role: "row" },
      h("th", { scope: "row", role: "rowheader", "data-label": "Minute" }, minute),
      ...values.map((value, index) => cell(series[index].label, "number", value)))));
  }
}

/** Series on top of each other; a click on one picks it. */
class Stacked extends Plot {
  constructor(element, { list, format, ...rest }) {
    super(element, rest);
    this.list = (samples) => list(samples).map((series) => ({ format, ...series }));
    this.format = format;
  }

  /** Running sums, from the lowest series up. */
  drawn(series) {
    let below = null;
    return series.map(({ values }) => {
      below = values.map((value, index) => (value ?? 0) + (below?.[index] ?? 0));
      return below;
    });
  }

  options(series) {
    const lines = series.map(() => ({ width: 0, points: { show: false } }));
    const fill = (index) => transparent(series[index].color, this.picked && this.picked !== series[index].name ? 22 : 82);
    if (lines.length > 0) lines[0].fill = () => fill(0);
    return {
      series: [{}, ...lines],
      bands: lines.slice(1).map((_, index) => ({ series: [index + 2, index + 1], fill: () => fill(index + 1) })),
      scales: { x: { time: true }, y: { range: fromZero(4) } },
      axes: axes(this.format, { incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 1e6] }),
    };
  }

  onclick() {
    const { left, top, idx } = { ...this.plot.cursor };
    if (idx == null || left < 0) return;
    const value = this.plot.posToVal(top, "y");
    const sums = this.drawn(this.series);
    const index = sums.findIndex((column) => value <= column[idx]);
    if (index >= 0) this.onpick?.(this.series[index].name);
  }

  /** Lets one series stand out; null for all. */
  pick(name) {
    if (this.picked === name) return;
    this.picked = name;
    if (!this.samples) return;
    this.rebuild();
    this.update(this.samples);
  }
}

/** Bytes in above zero, bytes out below. */
class Mirrored extends Plot {
  list(samples) {
    const { bytes_in, bytes_out } = samples.columns;
    return [
      { name: "out", label: "to clients", color: "series-1", values: bytes_out, format: byteRate },
      { name: "in", label: "from clients", color: "series-2", values: bytes_in, format: byteRate },
    ];
  }

  drawn([out, incoming]) {
    return [out.values.map((value) => (value == null ? null : -value)), incoming.values];
  }

  options() {
    const line = (name) => ({ stroke: color(name), fill: () => transparent(name, 45), width: 1, points: { show: false } });
    return {
      series: [{}, line("series-1"), line("series-2")],
      scales: { x: { time: true }, y: { range: (_, min, max) => [Math.min(-1000, (min ?? 0) * 1.08), Math.max(1000, (max ?? 0) * 1.08)] } },
      axes: axes((value) => bytes(Math.abs(value))),
    };
  }
}

/** Handshake times: how many in each bucket as shades, the median and the 99th percentile as lines. */
class Handshakes extends Plot {
  list(samples) {
    const { p50, p99 } = samples.columns;
    return [
      { name: "p99", label: "p99", color: "series-4", values: perColumn(samples.at, p99, (all) => all.at(-1)), format: duration, worst: true },
      { name: "p50", label: "p50", color: "text", values: perColumn(samples.at, p50, (all) => all[all.length >> 1]), format: duration },
    ];
  }

  drawn([p99, p50]) {
    return [p99.values, p50.values];
  }

  options() {
    const line = (name) => ({ stroke: color(name), width: 1.5, spanGaps: true, points: { show: false } });
    const decades = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1, 10, 100];
    const map = heatMap(() => this.samples, () => color("heat"));
    return {
      series: [{}, line("series-4"), line("text")],
      scales: { x: { time: true }, y: { distr: 3, range: () => map.range() } },
      axes: axes(duration, { splits: (_, __, min, max) => decades.filter((value) => value >= min && value <= max), filter: (_, splits) => splits }),
      hooks: { drawClear: [map.draw] },
    };
  }
}

/** Each value replaced by one of its column's, of which `choose` gets the sorted list: calm lines over the heat map. */
function perColumn(at, values, choose) {
  const columns = new Map();
  const columnOf = (instant) => Math.floor(instant / 1000 / COLUMN);
  at.forEach((instant, index) => {
    const column = columns.get(columnOf(instant)) ?? [];
    if (values[index] != null) column.push(values[index]);
    columns.set(columnOf(instant), column);
  });
  for (const [column, list] of columns) columns.set(column, list.length ? choose(list.sort((a, b) => a - b)) : null);
  return at.map((instant) => columns.get(columnOf(instant)));
}

/** A curve without axes. */
class Spark {
  constructor(element, colors, mirrored = false) {
    Object.assign(this, { element, colors, mirrored });
    new ResizeObserver(() => this.plot?.setSize(this.#size())).observe(element);
  }

  #size() {
    return { width: Math.max(40, this.element.clientWidth), height: Math.max(20, this.element.clientHeight) };
  }

  rebuild() {
    this.plot?.destroy();
    this.plot = new uPlot({
      ...this.#size(), padding: [2, 0, 2, 0], legend: { show: false }, cursor: { show: false },
      axes: [{ show: false }, { show: false }],
      scales: { x: { time: true }, y: { range: (_, min, max) => (this.mirrored ? [Math.min(-1, min ?? 0), Math.max(1, max ?? 0)] : [0, Math.max(1, max ?? 0)]) } },
      series: [{}, ...this.colors.map((name) => ({ stroke: color(name), fill: transparent(name, 16), width: 1.25, points: { show: false } }))],
    }, [[]], this.element);
  }

  update(samples, columns) {
    if (!this.plot) this.rebuild();
    const last = samples.last / 1000;
    this.plot.batch(() => {
      this.plot.setData([seconds(samples), ...columns], false);
      this.plot.setScale("x", { min: Math.min(last - SHORTEST, (samples.at[0] ?? 0) / 1000), max: last });
    });
  }
}

/** All plots. `onlistener` and `onoutcome` are called with the name of what was clicked. */
export function plots(find, { onlistener, onoutcome }) {
  const connections = new Stacked(find("plot-connections"), {
    title: "Connections", unit: "by listener", nothing: "There is no listener.", onpick: onlistener, format: count,
    list: (samples) => [...samples.connections].map(([name, values], index) => ({ name, label: name, color: `series-${index % 8 + 1}`, values, mean: rate })),
  });
  const traffic = new Mirrored(find("plot-bytes"), { title: "Traffic", unit: "bytes per second", nothing: "There are no samples yet." });
  const handshakes = new Handshakes(find("plot-handshakes"), {
    title: "TLS handshakes", unit: "duration", nothing: "No TLS handshake in the last ten minutes.",
    note: "The shades show how many handshakes took how long. The lines show the median and the 99th percentile.",
  });
  const endings = new Stacked(find("plot-endings"), {
    title: "Endings", unit: "per second, by outcome", nothing: "No connection has ended in the last ten minutes.", onpick: onoutcome, format: rate,
    list: (samples) => OUTCOMES.filter((name) => samples.outcomes.has(name))
      .concat([...samples.outcomes.keys()].filter((name) => !OUTCOMES.includes(name)))
      .map((name) => ({ name, label: words(name), color: `outcome-${name.replaceAll("_", "-")}`, values: samples.outcomes.get(name) })),
  });
  const sparks = {
    connections: new Spark(find("spark-connections"), ["series-1"]),
    accepted: new Spark(find("spark-accepted"), ["series-2"]),
    bytes: new Spark(find("spark-bytes"), ["series-1", "series-2"], true),
    refused: new Spark(find("spark-refused"), ["outcome-refused"]),
  };
  const large = [connections, traffic, handshakes, endings];
  let samples = null;
  const update = (newest) => {
    samples = newest;
    for (const plot of large) plot.update(samples);
    const { accepted, refused, bytes_in, bytes_out } = samples.columns;
    sparks.connections.update(samples, [samples.total(samples.connections)]);
    sparks.accepted.update(samples, [accepted]);
    sparks.bytes.update(samples, [bytes_out.map((value) => -value), bytes_in]);
    sparks.refused.update(samples, [refused]);
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const plot of [...large, ...Object.values(sparks)]) if (plot.plot) plot.rebuild();
    if (samples) update(samples);
  });
  return { update, pickListener: (name) => connections.pick(name), pickOutcome: (name) => endings.pick(name) };
}
