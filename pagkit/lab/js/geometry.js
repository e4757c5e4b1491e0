// Distances on the plane to the exact decision boundary, which pagkit.exact lists as straight pieces.

/** Pieces as six numbers each: origin (2), unit direction (2), low and high end along it (may be infinite). */
const SIX = 6;

/**
 * The distance of a point to the boundary, and the nearest point of it: {radius, foot}. Infinite and null without a piece.
 * @param {string} norm "l2", or "linf": the largest coordinate of the difference.
 */
export function exactRadius(pieces, [x, y], norm = "l2") {
  let radius = Infinity;
  let foot = null;
  for (let p = 0; p < pieces.length; p += SIX) {
    const [ox, oy, dx, dy, low, high] = pieces.subarray(p, p + SIX);
    const ax = ox - x;
    const ay = oy - y; // the piece is this far away at t = 0, and (ax + t dx, ay + t dy) at t
    const best = norm === "l2" ? [-(ax * dx + ay * dy)] : [-ax / dx, -ay / dy, (ay - ax) / (dx - dy), -(ax + ay) / (dx + dy)];
    for (const guess of best) {
      const t = Math.min(high, Math.max(low, Number.isFinite(guess) ? guess : 0));
      const u = ax + t * dx;
      const v = ay + t * dy;
      const far = norm === "l2" ? Math.hypot(u, v) : Math.max(Math.abs(u), Math.abs(v));
      if (far < radius) [radius, foot] = [far, [x + u, y + v]];
    }
  }
  return { radius, foot };
}

/** The part of each piece inside box = [x low, x high, y low, y high], as segments [x1, y1, x2, y2]. */
export function segments(pieces, box) {
  const found = [];
  for (let p = 0; p < pieces.length; p += SIX) {
    const [ox, oy, dx, dy, ...ends] = pieces.subarray(p, p + SIX);
    let [low, high] = ends;
    for (const [o, d, a, b] of [
      [ox, dx, box[0], box[1]],
      [oy, dy, box[2], box[3]],
    ]) {
      if (d === 0) {
        if (o < a || o > b) high = -Infinity;
        continue;
      }
      low = Math.max(low, Math.min((a - o) / d, (b - o) / d));
      high = Math.min(high, Math.max((a - o) / d, (b - o) / d));
    }
    if (low < high) found.push([ox + low * dx, oy + low * dy, ox + high * dx, oy + high * dy]);
  }
  return found;
}

/** Where a function known on a grid (row by row) is zero, as segments in grid units; straight between neighbours. */
export function contour(values, columns, rows) {
  const found = [];
  for (let y = 0; y + 1 < rows; y++) {
    for (let x = 0; x + 1 < columns; x++) {
      const corners = [
        [x, y],
        [x + 1, y],
        [x + 1, y + 1],
        [x, y + 1],
      ];
      const height = corners.map(([i, j]) => values[j * columns + i]);
      const cuts = [];
      for (let k = 0; k < 4; k++) {
        const [a, b] = [height[k], height[(k + 1) % 4]];
        const share = a / (a - b);
        const [from, to] = [corners[k], corners[(k + 1) % 4]];
        if (a > 0 !== b > 0) cuts.push([from[0] + share * (to[0] - from[0]), from[1] + share * (to[1] - from[1])]);
      }
      for (let k = 0; k + 1 < cuts.length; k += 2) found.push([...cuts[k], ...cuts[k + 1]]);
    }
  }
  return found;
}
