// The samples of the last ten minutes, as columns.

export const WINDOW = 600;

export class Samples {
  constructor() {
    this.clear();
  }

  clear() {
    this.at = [];
    this.columns = { accepted: [], refused: [], bytes_in: [], bytes_out: [], p50: [], p99: [], counts: [] };
    this.connections = new Map();
    this.outcomes = new Map();
    this.bounds = [];
  }

  get last() {
    return this.at.at(-1) ?? 0;
  }

  get length() {
    return this.at.length;
  }

  /** Appends an answer of `/api/live`. */
  add(answer) {
    const first = answer.at.findIndex((at) => at > this.last);
    if (first < 0) return;
    const before = this.at.length;
    const { handshakes } = answer;
    this.at.push(...answer.at.slice(first));
    const columns = { ...answer, p50: handshakes.p50, p99: handshakes.p99, counts: handshakes.counts };
    for (const [name, column] of Object.entries(this.columns)) column.push(...columns[name].slice(first));
    this.bounds = handshakes.bounds;
    // Outcomes appear with their first connection, listeners as soon as they are there.
    const isUsed = (column) => column.slice(first).some((value) => value > 0);
    const outcomes = Object.fromEntries(Object.entries(answer.outcomes).filter(([, column]) => isUsed(column)));
    for (const [series, columns] of [[this.connections, answer.connections], [this.outcomes, outcomes]]) {
      for (const name of Object.keys(columns)) if (!series.has(name)) series.set(name, Array(before).fill(0));
      for (const [name, column] of series)
        column.push(...(Object.hasOwn(columns, name) ? columns[name].slice(first) : Array(answer.at.length - first).fill(0)));
    }
    this.#trim(answer.connections);
  }

  #trim(listeners) {
    const old = this.at.findIndex((at) => at > this.last - WINDOW * 1000);
    if (old <= 0) return;
    for (const column of [this.at, ...Object.values(this.columns), ...this.connections.values(), ...this.outcomes.values()])
      column.splice(0, old);
    for (const series of [this.connections, this.outcomes])
      for (const [name, column] of series)
        if (!(series === this.connections && Object.hasOwn(listeners, name)) && column.every((value) => !value)) series.delete(name);
  }

  /** The sum of the series at each instant. */
  total(series) {
    return this.at.map((_, index) => {
      let sum = 0;
      for (const column of series.values()) sum += column[index] ?? 0;
      return sum;
    });
  }
}
