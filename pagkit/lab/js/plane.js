// The plane lab: choose a start on the map, set the attack, watch every step.

import { button, h, lengths, questions, readout, worker } from "./ui.js";
import { compile, decode } from "./engine.js";
import { logOddsSlope, pgd } from "./attack.js";
import { exactRadius } from "./geometry.js";
import { layout, listen, makeControls, makePlayer } from "./planecontrols.js";
import { planeView } from "./planeview.js";
import { survivalCurve } from "./curve.js";
import { explain, far } from "./verdict.js";

const FREE = [-Infinity, Infinity];

/** Build the lab inside `root`. Returns {lab, snapshot, set}: the answers for `root.lab`, what to tell a notebook, a way to set things. */
export function plane(root, spec, tell) {
  const { nets, pieces } = load(spec);
  const state = { ...spec.settings };
  const view = planeView(spec);
  const curve = spec.points.x.length && !spec.small ? survivalCurve() : null;
  const told = readout();
  const ruler = lengths();
  const mapWork = worker();
  const curveWork = worker();
  let now = null; // what the attack did
  let drawn = null; // the network whose map is drawn

  const update = () => {
    now = examine(nets[state.net], pieces[state.net], state, spec);
    if (drawn !== state.net) {
      drawn = state.net;
      mapWork(view.map(nets[state.net], pieces[state.net]));
    }
    if (curve)
      curveWork(curve.run(nets[state.net], pieces[state.net], spec.points, { ...state, bounds: FREE }, spec.ranges.eps[1]));
    player.stop();
    show(now.found.path.length - 1);
  };
  const show = (step) => {
    player.at(step, now.found.path.length - 1);
    view.attack({ ...state, ...now, shown: step, focus: spec.focus });
    const { broken, head, why } = now.verdict;
    told.say(h("b", { class: broken ? "broken" : "held" }, head), `${why} True class: ${spec.classes[now.label]}.`);
    ruler.draw(...rulerRows(state, now, step, spec.small));
    tell();
  };
  const set = (change) => {
    Object.assign(state, change);
    for (const [key, control] of Object.entries(controls)) control.set(state[key]);
    for (const { one, wants } of presets) {
      const chosen = Object.keys(wants).every((key) => String(wants[key]) === String(state[key]));
      one.setAttribute("aria-pressed", String(chosen));
    }
    update();
  };
  const player = makePlayer(show);
  const controls = makeControls(spec, state, set);
  const presets = Object.entries(spec.presets).map(([name, change]) => {
    const wants = { ...spec.settings, ...change, seed: 0 };
    return { wants, one: button(name, () => set(wants)) };
  });
  root.classList.toggle("lab-small", Boolean(spec.small));
  root.replaceChildren(...layout(spec, view, controls, player, told, ruler, curve, presets, set, state));
  listen(view, spec.box, state, set);
  update();
  const radius = (net, x, norm = "l2") => (pieces[net] ? exactRadius(pieces[net], x, norm).radius : null);
  return {
    lab: { ...questions(nets, FREE, { logOddsSlope, pgd }), radius, settings: () => ({ ...state }), set },
    snapshot: () => snapshot(state, now),
    set,
  };
}

/** The networks, compiled, and the pieces of their exact boundaries, null where none is known. */
function load(spec) {
  const entries = Object.entries(spec.nets);
  return {
    nets: Object.fromEntries(entries.map(([name, { net }]) => [name, compile(net)])),
    pieces: Object.fromEntries(entries.map(([name, { pieces }]) => [name, pieces ? decode(pieces, "float32") : null])),
  };
}

/** Attack the chosen start: its class (that of the nearest point shown), the attack, the exact radius, and the verdict. */
function examine(net, pieces, state, { points, focus, classes }) {
  const gaps = points.x.map((x) => far("l2", x, state.point));
  const label = gaps.length ? points.y[gaps.indexOf(Math.min(...gaps))] : focus;
  const target = state.target === label ? null : state.target; // no attack aims at what is read already
  const found = pgd(net, state.point, label, { ...state, target, bounds: FREE, start: state.random ? "random" : null });
  const exact = pieces ? exactRadius(pieces, state.point, state.norm) : { radius: null, foot: null };
  const misread = pgd(net, state.point, label, { eps: 0, bounds: FREE }).read[0] !== label;
  return { label, found, exact, misread, verdict: explain({ ...state, label }, found, exact.radius, classes) };
}

/** The lengths to compare, and the longest that fits the scale. */
function rulerRows(state, { found, exact, verdict }, step, small) {
  const moved = far(state.norm, found.path[step], state.point);
  const rows = [
    ["allowed, eps", state.eps, "allowed"],
    ...(small ? [] : [["steps × size", state.steps * state.stepSize, "budget"]]),
    ["moved", moved, verdict.broken ? "broken" : "held"],
  ];
  if (exact.radius !== null) rows.push(["to the boundary", exact.radius, "exact"]);
  const radius = Number.isFinite(exact.radius) ? exact.radius : 0;
  return [rows, 1.5 * Math.max(state.eps, radius, moved) || 1];
}

/** What a notebook can read. */
function snapshot(state, { label, found, exact, verdict }) {
  return {
    point: Array.from(state.point),
    eps: state.eps,
    radius: Number.isFinite(exact.radius) ? exact.radius : null,
    result: { net: state.net, label, read: found.read.at(-1), x: Array.from(found.x), broken: verdict.broken },
  };
}
