// How many of the points on the map survive this attack, for every eps; and how many no attack can reach.

import { s, tidy } from "./ui.js";
import { argmax, pgd } from "./attack.js";
import { exactRadius } from "./geometry.js";

const WIDTH = 340;
const HEIGHT = 190;
const LEFT = 34;
const RIGHT = 12;
const TOP = 12;
const BOTTOM = 34;
const COUNT = 16;

/** {root, run}: `run(net, pieces, points, settings, most)` is a generator that draws as it counts. */
export function survivalCurve() {
  const root = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "lab-curve", role: "img" });
  return { root, run: (...what) => count(root, ...what) };
}

function* count(root, net, pieces, points, settings, most) {
  const total = points.x.length;
  const eps = Array.from({ length: COUNT + 1 }, (_, i) => (most * i) / COUNT);
  const correct = points.x.map((x, i) => argmax(net.logits(x)) === points.y[i]);
  const radii = points.x.map((x) => (pieces ? exactRadius(pieces, x, settings.norm).radius : NaN));
  const reached = pieces ? eps.map((e) => radii.filter((r, i) => correct[i] && r > e).length) : [];
  const survive = [];
  for (const e of eps) {
    let left = 0;
    for (let i = 0; i < total; i++) {
      const target = settings.target === points.y[i] ? null : settings.target;
      const { read } = pgd(net, points.x[i], points.y[i], { ...settings, eps: e, target, start: settings.random ? "random" : null });
      if (correct[i] && read.every((c) => c === points.y[i])) left++;
      if (i % 8 === 7) yield;
    }
    survive.push(left);
  }
  draw(root, { eps, survive, reached, total, most, budget: settings.steps * settings.stepSize });
}

function draw(root, { eps, survive, reached, total, most, budget }) {
  const x = (e) => LEFT + ((WIDTH - LEFT - RIGHT) * e) / most;
  const y = (n) => HEIGHT - BOTTOM - ((HEIGHT - TOP - BOTTOM) * n) / total;
  const line = (counts, kind) => s("polyline", { points: counts.map((n, i) => `${x(eps[i])},${y(n)}`).join(" "), class: kind });
  const text = (content, at, more = {}) => s("text", { ...at, ...more }, content);
  const marks = [0, total / 2, total].flatMap((n) => [
    s("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(n), y2: y(n), class: "lab-grid" }),
    text(tidy(n), { x: LEFT - 5, y: y(n) + 4, "text-anchor": "end" }),
  ]);
  marks.push(
    ...[0, 0.25, 0.5, 0.75, 1].map((k) =>
      text(tidy(k * most), { x: x(k * most), y: HEIGHT - BOTTOM + 14, "text-anchor": "middle" }),
    ),
  );
  marks.push(text("eps", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 3, "text-anchor": "middle" }));
  if (budget < most) {
    marks.push(s("line", { x1: x(budget), x2: x(budget), y1: TOP, y2: HEIGHT - BOTTOM, class: "lab-budget" }));
  }
  root.replaceChildren(...marks, ...(reached.length ? [line(reached, "lab-true")] : []), line(survive, "lab-found"));
  const ends = `At eps ${tidy(most)}, ${survive.at(-1)} of ${total} points survive this attack`;
  root.setAttribute("aria-label", reached.length ? `${ends}; ${reached.at(-1)} are truly out of reach.` : `${ends}.`);
}
