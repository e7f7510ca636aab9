// The time that an update of the page takes, for the test in a browser and for the console.

/** Runs `update` and measures it; `performance.getEntriesByName(name)` has the last one. */
export function measured(name, update) {
  performance.clearMeasures(name);
  const start = performance.now();
  update();
  performance.measure(name, { start, end: performance.now() });
}
