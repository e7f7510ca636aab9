// The heat map behind the lines of handshake times.

/** Seconds whose samples share a column, which is wide enough to see. */
export const COLUMN = 10;

/** `samples` and `color` are called at each drawing. */
export function heatMap(samples, color) {
  /** The lower and upper limits of a bucket; the outermost ones have one limit each. */
  const limits = (bounds, bucket) => [
    bucket === 0 ? bounds[0] / 2 : bounds[bucket - 1],
    bucket < bounds.length ? bounds[bucket] : bounds.at(-1) * 2,
  ];

  function range() {
    const { bounds, columns } = samples() ?? { bounds: [] };
    if (bounds.length === 0) return [0.001, 1];
    let [first, last] = [bounds.length, 0];
    for (const counts of columns.counts)
      counts.forEach((count, bucket) => {
        if (count > 0) [first, last] = [Math.min(first, bucket), Math.max(last, bucket)];
      });
    if (first > last) return [bounds[0], bounds.at(-1)];
    return [limits(bounds, Math.max(0, first - 1))[0], limits(bounds, Math.min(bounds.length, last + 1))[1]];
  }

  function draw(plot) {
    const { at, bounds, columns } = samples() ?? { at: [] };
    if (at.length === 0 || bounds.length === 0) return;
    const { ctx, bbox } = plot;
    const cells = new Map(); // column → counts
    at.forEach((instant, index) => {
      const column = Math.floor(instant / 1000 / COLUMN);
      const sums = cells.get(column) ?? Array(bounds.length + 1).fill(0);
      columns.counts[index].forEach((count, bucket) => (sums[bucket] += count));
      cells.set(column, sums);
    });
    const most = Math.max(1, ...[...cells.values()].map((sums) => Math.max(...sums)));
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.fillStyle = color();
    for (const [column, sums] of cells) {
      const left = Math.round(plot.valToPos(column * COLUMN, "x", true));
      const right = Math.round(plot.valToPos((column + 1) * COLUMN, "x", true));
      sums.forEach((count, bucket) => {
        if (count === 0) return;
        const [lower, upper] = limits(bounds, bucket).map((limit) => Math.round(plot.valToPos(limit, "y", true)));
        ctx.globalAlpha = 0.08 + 0.8 * Math.sqrt(count / most);
        ctx.fillRect(left, upper, Math.max(1, right - left - 1), Math.max(1, lower - upper - 1));
      });
    }
    ctx.restore();
  }

  return { range, draw };
}
