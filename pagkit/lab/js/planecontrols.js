// What a reader sets in the plane lab, and where it stands.

import { button, choice, h, menu, slider, tick } from "./ui.js";
import { LOSSES } from "./attack.js";
import { far } from "./verdict.js";

const NORMS = { l2: "L2", linf: "L∞" };

/** Every control of the plane, by the name of the setting that it changes. */
export function makeControls(spec, state, set) {
  const names = Object.keys(spec.nets);
  const range = (key, label) => slider({ label, range: spec.ranges[key], value: state[key], onInput: (v) => set({ [key]: v }) });
  const net = { label: "Network", options: names.map((name) => [name, name]), value: state.net, onChange: (v) => set({ net: v }) };
  const losses = {
    "log-odds": "log-odds",
    "cross-entropy": "cross-entropy",
    "cross-entropy x1000": "cross-entropy, logits × 1000",
  };
  return {
    net: names.length > 3 ? menu(net) : choice(net),
    norm: choice({
      label: "Norm",
      options: spec.norms.map((n) => [n, NORMS[n]]),
      value: state.norm,
      onChange: (v) => set({ norm: v }),
    }),
    eps: range("eps", "Radius allowed, eps"),
    steps: range("steps", "Number of steps"),
    stepSize: range("stepSize", "Size of a step"),
    loss: menu({
      label: "Loss",
      options: Object.keys(LOSSES).map((l) => [l, losses[l]]),
      value: state.loss,
      onChange: (v) => set({ loss: v }),
    }),
    target: menu({
      label: "Towards",
      options: [[null, "any other class"], ...spec.classes.map((name, c) => [c, name])],
      value: state.target,
      onChange: (v) => set({ target: v }),
    }),
    wrongWay: choice({
      label: "Sign",
      options: [
        [false, "right"],
        [true, "wrong"],
      ],
      value: state.wrongWay,
      onChange: (v) => set({ wrongWay: v }),
    }),
    random: tick({
      label: "Random start",
      value: state.random,
      onChange: (v) => set({ random: v, ...(v ? { seed: state.seed + 1 } : {}) }),
    }),
  };
}

/** Walks through the steps of a path: {root, at, stop}. `show(step)` is called when another one is to be seen. */
export function makePlayer(show) {
  let timer = 0;
  let now = 0;
  let last = 1;
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    play.textContent = "▶ Play";
  };
  const play = button(
    "▶ Play",
    () => {
      if (timer) return stop();
      show(now >= last ? 0 : now);
      play.textContent = "❚❚ Pause";
      timer = setInterval(() => (now < last ? show(now + 1) : stop()), Math.max(60, 1600 / (last + 1)));
    },
    { class: "lab-play" },
  );
  const choose = (step) => {
    stop();
    show(Math.min(step, last));
  };
  const step = slider({ label: "Step shown", range: [0, 1, 1], value: 0, onInput: choose });
  const at = (shown, end) => {
    [now, last] = [shown, end];
    step.input.max = Math.max(1, end);
    step.set(shown);
  };
  return { root: h("div", { class: "lab-row lab-player" }, play, step.root), at, stop };
}

/** Where everything stands: map and player on one side, settings and curve on the other; in a small lab network and eps alone. */
export function layout(spec, view, controls, player, told, ruler, curve, presets, set, state) {
  const visit = (by) => () => {
    const { x } = spec.points;
    const gaps = x.map((p) => far("l2", p, state.point));
    const here = gaps.indexOf(Math.min(...gaps));
    set({ point: x[(here + by + x.length) % x.length] });
  };
  const steps = spec.points.x.length
    ? h("div", { class: "lab-row" }, button("◀ point", visit(-1)), button("point ▶", visit(1)))
    : null;
  const chart =
    curve &&
    h(
      "div",
      { class: "lab-chart" },
      h(
        "p",
        {},
        h("b", {}, `How many of these ${spec.points.x.length} points survive? `),
        h("span", { class: "lab-key found" }, "this attack"),
        ...(Object.values(spec.nets).some((n) => n.pieces) ? [h("span", { class: "lab-key true" }, "the truth")] : []),
        h("span", { class: "lab-key budget" }, "steps × size"),
      ),
      curve.root,
    );
  const head = presets.length
    ? h(
        "div",
        { class: "lab-row lab-presets", role: "group", "aria-label": "Presets" },
        h("span", {}, "Try"),
        ...presets.map(({ one }) => one),
      )
    : null;
  const one = Object.keys(spec.nets).length === 1;
  const pick = [one ? null : controls.net.root, spec.norms.length > 1 ? controls.norm.root : null];
  const every = [controls.steps, controls.stepSize, controls.loss, ...(spec.classes.length > 2 ? [controls.target] : [])];
  const rest = [...every.map((one) => one.root), h("div", { class: "lab-row" }, controls.wrongWay.root, controls.random.root), chart];
  return [
    ...(head ? [head] : []),
    h(
      "div",
      { class: "lab-plane" },
      h(
        "div",
        {},
        view.root,
        player.root,
        ...(spec.small ? [] : [told.root, steps].filter(Boolean)),
        h("p", { class: "lab-hint" }, "Click or drag on the map, or use its arrow keys. ", legend(spec)),
      ),
      h(
        "div",
        { class: "lab-panel" },
        ruler.root,
        ...pick.filter(Boolean),
        controls.eps.root,
        ...(spec.small ? [told.root, steps] : rest).filter(Boolean),
      ),
    ),
  ];
}

const legend = ({ nets }) =>
  h(
    "span",
    {},
    h("span", { class: "lab-key ball" }, "ball of eps"),
    ...(Object.values(nets).some((n) => n.pieces)
      ? [h("span", { class: "lab-key exact" }, "exact radius: no attack ends inside")]
      : []),
  );

/** Pointer and arrow keys on the map. A finger chooses when it is lifted, so that it can also scroll past. */
export function listen(view, [left, right, bottom, top], state, set) {
  let held = false;
  const go = (event) => set({ point: view.place(event) });
  const finger = (event) => event.pointerType === "touch";
  view.focus.addEventListener("pointerdown", (event) => {
    held = true;
    if (finger(event)) return;
    view.focus.setPointerCapture(event.pointerId);
    go(event);
  });
  view.focus.addEventListener("pointermove", (event) => held && !finger(event) && go(event));
  view.focus.addEventListener("pointerup", (event) => {
    if (held && finger(event)) go(event);
    held = false;
  });
  view.focus.addEventListener("pointercancel", () => {
    held = false;
  });
  const keys = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  view.focus.addEventListener("keydown", (event) => {
    const move = keys[event.key];
    const size = Math.max(right - left, top - bottom) / (event.shiftKey ? 500 : 60);
    if (!move) return;
    event.preventDefault();
    const [x, y] = state.point;
    set({ point: [Math.min(right, Math.max(left, x + move[0] * size)), Math.min(top, Math.max(bottom, y + move[1] * size))] });
  });
}
