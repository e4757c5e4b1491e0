// The map of the plane: who wins where, the exact boundary, data, the ball, the exact radius and the path of an attack.

import { h, s, tidy } from "./ui.js";
import { logOdds } from "./attack.js";
import { contour, segments } from "./geometry.js";

const BLUE = [0, 114, 178];
const ORANGE = [213, 94, 0];

/**
 * @param spec box, axes (their names), classes, focus (the class that is blue), points {x, y}
 * @returns {{root: Element, focus: Element, map: Function, attack: Function, place: Function}}
 */
export function planeView({ box, axes, classes, focus, points }) {
  const [left, right, bottom, top] = box;
  const wide = right - left;
  const high = top - bottom;
  const scale = 400 / Math.max(wide, high);
  const width = wide * scale;
  const height = high * scale;
  const px = ([x, y]) => [(x - left) * scale, (top - y) * scale];
  const canvas = h("canvas", { "aria-hidden": "true" });
  const layers = Object.fromEntries(["boundary", "data", "attack"].map((name) => [name, s("g", { class: `lab-${name}` })]));
  const label =
    `Map of the plane. Blue: ${classes[focus]}. Orange: ${classes.length === 2 ? classes[1 - focus] : "any other class"}. ` +
    "Arrow keys move the start; with Shift, in small steps.";
  const svg = s(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, tabindex: 0, role: "application", "aria-label": label },
    ...Object.values(layers),
    ticks(box, axes, px, width, height),
  );
  const root = h("div", { class: "lab-map", style: `aspect-ratio:${width}/${height};--shape:${width / height}` }, canvas, svg);

  for (let i = 0; i < points.x.length; i++) {
    const [cx, cy] = px(points.x[i]);
    layers.data.append(s("circle", { cx, cy, r: 2.6, class: points.y[i] === focus ? "lab-blue" : "lab-orange" }));
  }
  return {
    root,
    focus: svg,
    /** A generator that draws who wins where: the exact boundary from its pieces, or without them the zero line of the shading. */
    *map(net, pieces) {
      const draw = (lines) =>
        layers.boundary.replaceChildren(s("path", { d: lines.map(([a, b, c, d]) => `M${px([a, b])}L${px([c, d])}`).join("") }));
      draw(pieces ? segments(pieces, box) : []);
      const zero = yield* paint(canvas, net, box, focus, pieces ? 0.6 : 0.2, scale);
      if (!pieces) draw(zero);
    },
    attack: (state) => layers.attack.replaceChildren(...drawAttack(state, px, scale)),
    /** The point of the plane under a pointer. */
    place(event) {
      const frame = svg.getBoundingClientRect();
      const share = (v, from, size) => Math.min(1, Math.max(0, (v - from) / size));
      return [
        left + wide * share(event.clientX, frame.left, frame.width),
        top - high * share(event.clientY, frame.top, frame.height),
      ];
    },
  };
}

/** Numbers along two edges. */
function ticks(box, axes, px, width, height) {
  const group = s("g", { class: "lab-ticks", "aria-hidden": "true" });
  for (const axis of [0, 1]) {
    const [low, high] = box.slice(2 * axis, 2 * axis + 2);
    const rough = (high - low) / 5;
    const ten = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((k) => k * ten).find((k) => k >= rough);
    for (let v = Math.ceil(low / step) * step; v < high; v += step) {
      const [x, y] = px(axis ? [low, v] : [v, low]);
      const near = axis ? y < 26 || y > height - 22 : x < 22 || x > width - 12 - 6 * axes[0].length;
      if (near) continue;
      group.append(
        s(
          "text",
          axis ? { x: 4, y: y + 3 } : { x, y: height - 5, "text-anchor": "middle" },
          tidy(Math.abs(v) < step / 1e6 ? 0 : v),
        ),
      );
    }
  }
  group.append(s("text", { x: width - 6, y: height - 5, "text-anchor": "end" }, axes[0]), s("text", { x: 4, y: 13 }, axes[1]));
  return group;
}

/** Shade the canvas by the log-odds of the focus class, coarsely first; a generator, to be run in slices. Returns their zero line. */
function* paint(canvas, net, box, focus, fine, scale) {
  const [left, right, bottom, top] = box;
  const columns = Math.round((right - left) * scale * fine);
  const rows = Math.round((top - bottom) * scale * fine);
  [canvas.width, canvas.height] = [columns, rows];
  const pen = canvas.getContext("2d");
  const values = new Float64Array(columns * rows);
  const block = 6;
  const place = (x, y) => [left + ((x + 0.5) / columns) * (right - left), top - ((y + 0.5) / rows) * (top - bottom)];
  const odds = (x, y) => logOdds(net.logits(place(x, y)), focus);
  const colour = (value) => [...(value > 0 ? BLUE : ORANGE), Math.round(140 * Math.abs(Math.tanh(value / 2)))];
  for (let y = 0; y < rows; y += block, yield) {
    for (let x = 0; x < columns; x += block) {
      const [r, g, b, a] = colour(odds(x + block / 2, y + block / 2));
      pen.fillStyle = `rgba(${r},${g},${b},${a / 255})`;
      pen.fillRect(x, y, block, block);
    }
  }
  for (let y = 0; y < rows; y++, yield) {
    const line = pen.createImageData(columns, 1);
    for (let x = 0; x < columns; x++) line.data.set(colour((values[y * columns + x] = odds(x, y))), 4 * x);
    pen.putImageData(line, 0, y);
  }
  return contour(values, columns, rows).map(([a, b, c, d]) => [...place(a, b), ...place(c, d)]);
}

/** Ball, exact radius (none where the start itself is misread), path up to step `shown` with its projections, start and end. */
function drawAttack({ point, norm, eps, exact, misread, found, shown, label, focus }, px, scale) {
  const shape = (radius, kind) => {
    const [cx, cy] = px(point);
    const r = radius * scale;
    return norm === "l2"
      ? s("circle", { cx, cy, r, class: kind })
      : s("rect", { x: cx - r, y: cy - r, width: 2 * r, height: 2 * r, class: kind });
  };
  const line = (a, b, kind) => {
    const [[x1, y1], [x2, y2]] = [px(a), px(b)];
    return s("line", { x1, y1, x2, y2, class: kind });
  };
  const parts = [shape(eps, "lab-ball"), line(point, found.path[0], "lab-back")];
  for (let k = 0; k < shown && k < found.raw.length; k++) {
    const [before, beyond, after] = [found.path[k], found.raw[k], found.path[k + 1]];
    if (Math.hypot(beyond[0] - after[0], beyond[1] - after[1]) * scale > 1) {
      parts.push(line(before, beyond, "lab-beyond"), line(beyond, after, "lab-back"));
    }
    parts.push(line(before, after, "lab-way"));
  }
  found.path.slice(1, shown + 1).forEach((at) => {
    const [cx, cy] = px(at);
    parts.push(s("circle", { cx, cy, r: 2, class: "lab-dot" }));
  });
  const last = Math.min(shown, found.path.length - 1);
  const [x, y] = px(found.path[last]);
  const [cx, cy] = px(point);
  const broken = found.read[last] !== label;
  parts.push(s("circle", { cx, cy, r: 4.5, class: `lab-start ${label === focus ? "lab-blue" : "lab-orange"}` }));
  if (exact.foot && !misread) parts.push(shape(exact.radius, "lab-exact"), line(point, exact.foot, "lab-foot"));
  if (last || found.path[0].some((v, i) => v !== point[i])) {
    parts.push(
      s("path", { d: `M${x - 5} ${y}L${x} ${y - 5}L${x + 5} ${y}L${x} ${y + 5}Z`, class: `lab-end ${broken ? "broken" : "held"}` }),
    );
  }
  return parts;
}
