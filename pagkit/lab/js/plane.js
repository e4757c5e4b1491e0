// The plane lab: choose a start on the map, set the attack, watch every step.

import { button, choice, h, lengths, menu, questions, readout, slider, tick, tidy, worker } from "./ui.js";
import { compile, decode } from "./engine.js";
import { LOSSES, argmax, logOddsSlope, pgd } from "./attack.js";
import { exactRadius } from "./geometry.js";
import { planeView } from "./planeview.js";
import { survivalCurve } from "./curve.js";
import { explain, far } from "./verdict.js";

const NORMS = { l2: "L2", linf: "L∞" };

/** Build the lab inside `root`. Returns {lab, snapshot}: the answers for `root.lab`, and what there is to tell a notebook. */
export function plane(root, spec, tell) {
  const nets = {}, pieces = {};
  for (const [name, { net, pieces: packed }] of Object.entries(spec.nets)) {
    nets[name] = compile(net);
    pieces[name] = packed ? decode(packed, "float64") : null;
  }
  const bounds = [-Infinity, Infinity], state = { ...spec.settings }, view = planeView(spec), curve = spec.points.x.length ? survivalCurve() : null;
  const told = readout(), ruler = lengths(), mapWork = worker(), curveWork = worker();
  let found, exact, label, shown = 0, timer = 0, drawn = null;

  const labelOf = (point) => {
    if (!spec.points.x.length) return spec.focus;
    const gaps = spec.points.x.map((x) => far("l2", x, point));
    return spec.points.y[gaps.indexOf(Math.min(...gaps))];
  };
  const options = () => ({ ...state, bounds, start: state.random ? "random" : null });

  function update() {
    label = labelOf(state.point);
    found = pgd(nets[state.net], state.point, label, options());
    found.path = found.path.map((p) => Array.from(p));
    exact = pieces[state.net] ? exactRadius(pieces[state.net], state.point, state.norm) : { radius: null, foot: null };
    if (drawn !== state.net) {
      drawn = state.net;
      mapWork(view.map(nets[state.net], pieces[state.net]));
    }
    if (curve) curveWork(curve.run(nets[state.net], pieces[state.net], spec.points, { ...state, bounds }, spec.ranges.eps[1]));
    pause();
    show(found.path.length - 1);
  }

  function show(step) {
    shown = step;
    controls.step.input.max = Math.max(1, found.path.length - 1);
    controls.step.set(step);
    view.attack({ ...state, exact, found, shown, label, focus: spec.focus });
    const verdict = explain({ ...state, label }, found, exact.radius, spec.classes), reach = state.steps * state.stepSize;
    const moved = far(state.norm, found.path[step], state.point);
    told.say(h("b", { class: verdict.broken ? "broken" : "held" }, verdict.head), `${verdict.why} True class: ${spec.classes[label]}.`);
    const rows = [["allowed, eps", state.eps, "allowed"], ["steps × size", reach, "budget"], ["moved", moved, verdict.broken ? "broken" : "held"]];
    if (exact.radius !== null) rows.push(["to the boundary", exact.radius, "exact"]);
    ruler.draw(rows, 1.5 * Math.max(state.eps, Number.isFinite(exact.radius) ? exact.radius ?? 0 : 0, moved) || 1);
    tell();
  }

  const set = (change) => {
    Object.assign(state, change);
    for (const [key, control] of Object.entries(controls)) if (key in state) control.set(state[key]);
    for (const { one, wants } of presets) one.setAttribute("aria-pressed", Object.keys(wants).every((key) => String(wants[key]) === String(state[key])));
    update();
  };
  const pause = () => {
    clearInterval(timer);
    timer = 0;
    controls.play.textContent = "▶ Play";
  };
  const play = () => {
    if (timer) return pause();
    show(shown >= found.path.length - 1 ? 0 : shown);
    controls.play.textContent = "❚❚ Pause";
    timer = setInterval(() => (shown < found.path.length - 1 ? show(shown + 1) : pause()), Math.max(60, 1600 / found.path.length));
  };
  const controls = makeControls(spec, state, set, play, (step) => { pause(); show(step); });
  const presets = Object.entries(spec.presets).map(([name, change]) => {
    const { seed, ...wants } = { ...spec.settings, ...change };
    return { wants, one: button(name, () => set(wants)) };
  });
  root.replaceChildren(...layout(spec, view, controls, told, ruler, curve, presets, set, state));
  listen(view, spec.box, state, set);
  update();
  return {
    lab: {
      ...questions(nets, bounds, { logOddsSlope, pgd }),
      /** The exact distance of x to the boundary of a network; null where none is known. */
      radius: (net, x, norm = "l2") => (pieces[net] ? exactRadius(pieces[net], x, norm).radius : null),
      settings: () => ({ ...state }), set,
    },
    snapshot: () => ({
      point: Array.from(state.point), eps: state.eps, radius: Number.isFinite(exact.radius) ? exact.radius : null,
      result: { net: state.net, label, read: argmax(nets[state.net].logits(found.x)), x: Array.from(found.x), broken: found.read.some((c) => c !== label) },
    }),
    set,
  };
}

function makeControls(spec, state, set, play, show) {
  const names = Object.keys(spec.nets), range = (key, label) => slider({ label, range: spec.ranges[key], value: state[key], onInput: (v) => set({ [key]: v }) });
  const net = { label: "Network", options: names.map((name) => [name, name]), value: state.net, onChange: (v) => set({ net: v }) };
  const losses = { "log-odds": "log-odds", "cross-entropy": "cross-entropy", "cross-entropy x1000": "cross-entropy, logits × 1000" };
  return {
    net: names.length > 3 ? menu(net) : choice(net),
    norm: choice({ label: "Norm", options: spec.norms.map((n) => [n, NORMS[n]]), value: state.norm, onChange: (v) => set({ norm: v }) }),
    eps: range("eps", "Radius allowed, eps"), steps: range("steps", "Number of steps"), stepSize: range("stepSize", "Size of a step"),
    loss: menu({ label: "Loss", options: Object.keys(LOSSES).map((l) => [l, losses[l]]), value: state.loss, onChange: (v) => set({ loss: v }) }),
    wrongWay: choice({ label: "Sign", options: [[false, "right"], [true, "wrong"]], value: state.wrongWay, onChange: (v) => set({ wrongWay: v }) }),
    random: tick({ label: "Random start", value: state.random, onChange: (v) => set({ random: v, ...(v ? { seed: state.seed + 1 } : {}) }) }),
    play: button("▶ Play", play, { class: "lab-play" }),
    step: slider({ label: "Step shown", range: [0, state.steps, 1], value: state.steps, onInput: show }),
  };
}

function layout(spec, view, controls, told, ruler, curve, presets, set, state) {
  const visit = (by) => () => {
    const { x } = spec.points, gaps = x.map((p) => far("l2", p, state.point)), here = gaps.indexOf(Math.min(...gaps));
    set({ point: x[(here + by + x.length) % x.length] });
  };
  const steps = spec.points.x.length ? h("div", { class: "lab-row" }, button("◀ point", visit(-1)), button("point ▶", visit(1))) : null;
  const chart = curve && h("div", { class: "lab-chart" },
    h("p", {}, h("b", {}, `How many of these ${spec.points.x.length} points survive? `), h("span", { class: "lab-key found" }, "this attack"),
      ...(Object.values(spec.nets).some((n) => n.pieces) ? [h("span", { class: "lab-key true" }, "the truth")] : []), h("span", { class: "lab-key budget" }, "steps × size")), curve.root);
  const head = presets.length ? h("div", { class: "lab-row lab-presets", role: "group", "aria-label": "Presets" }, h("span", {}, "Try"), ...presets.map(({ one }) => one)) : null;
  const one = Object.keys(spec.nets).length === 1, pick = [one ? null : controls.net.root, spec.norms.length > 1 ? controls.norm.root : null];
  return [
    ...(head ? [head] : []),
    h("div", { class: "lab-plane" },
      h("div", {}, view.root, h("div", { class: "lab-row lab-player" }, controls.play, controls.step.root), ...(steps ? [steps] : []), ruler.root,
        h("p", { class: "lab-hint" }, "Click or drag on the map, or use its arrow keys. ", legend(spec))),
      h("div", { class: "lab-panel" }, told.root, ...pick.filter(Boolean), controls.eps.root, controls.steps.root, controls.stepSize.root,
        controls.loss.root, h("div", { class: "lab-row" }, controls.wrongWay.root, controls.random.root), ...(chart ? [chart] : []))),
  ];
}

const legend = ({ nets }) => h("span", {}, h("span", { class: "lab-key ball" }, "ball of eps"),
  ...(Object.values(nets).some((n) => n.pieces) ? [h("span", { class: "lab-key exact" }, "exact radius: no attack ends inside")] : []));

/** Pointer and arrow keys on the map. */
function listen(view, [left, right, bottom, top], state, set) {
  let held = false;
  const go = (event) => set({ point: view.place(event) });
  view.focus.addEventListener("pointerdown", (event) => {
    held = true;
    view.focus.setPointerCapture(event.pointerId);
    go(event);
  });
  view.focus.addEventListener("pointermove", (event) => held && go(event));
  for (const end of ["pointerup", "pointercancel"]) view.focus.addEventListener(end, () => { held = false; });
  const keys = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  view.focus.addEventListener("keydown", (event) => {
    const move = keys[event.key], size = Math.max(right - left, top - bottom) / (event.shiftKey ? 500 : 60);
    if (!move) return;
    event.preventDefault();
    const [x, y] = state.point;
    set({ point: [Math.min(right, Math.max(left, x + move[0] * size)), Math.min(top, Math.max(bottom, y + move[1] * size))] });
  });
}
