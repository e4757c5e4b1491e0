// The digits lab: one digit, chosen or drawn, before up to four networks side by side.

import { button, choice, h, listed, menu, picture, questions, readout, slider, tidy, worker } from "./ui.js";
import { compile, unpack } from "./engine.js";
import { logOddsSlope, pgd } from "./attack.js";
import { drawingPad } from "./draw.js";
import { judge, panel } from "./panel.js";
import { game } from "./game.js";

const HINT =
  "In the change and the gradient, orange adds ink and purple takes it away. The bars are the log-odds of each class, cut at ±12; the ring " +
  "is before, the bar after. Nearest digit: the class of the training digit most like the changed one, a reader without a network.";

/** Build the lab inside `root`. Returns {lab, snapshot, set}, as the plane does. */
export function digits(root, spec, tell) {
  const { classes, bounds } = spec;
  const nets = Object.fromEntries(Object.entries(spec.nets).map(([name, net]) => [name, compile(net)]));
  const side = Math.sqrt(spec.shape.reduce((a, b) => a * b, 1));
  const images = unpack(spec.digits, side * side);
  const reader = spec.reader && nearest(unpack(spec.reader, side * side));
  const state = { ...spec.settings, seed: 1, x: images[0].x, label: images[0].label };
  const panels = Object.keys(nets).map((name) => panel(name, side, classes));
  const told = readout();
  const work = worker();
  let found = {};

  function* look() {
    found = {};
    for (const [i, name] of Object.keys(nets).entries()) {
      found[name] = judge(nets[name], state, bounds);
      panels[i].draw(found[name], state, reader);
      yield;
    }
    report();
    tell();
  }
  function report() {
    const kind = state.view === "random" ? "shaken" : "fooled";
    const wrong = Object.keys(nets).filter((name) => found[name][kind] !== state.label);
    const count = wrong.length ? `${listed(wrong)} ${wrong.length > 1 ? "are" : "is"} wrong` : "every network is right";
    const words = { attack: "Attacked", random: "With random noise" }[state.view];
    const away =
      state.target !== null && state.target === state.label
        ? " The target is the digit itself, so the attack takes any other class."
        : "";
    told.say(`${words} at eps ${tidy(state.eps)}: `, h("b", { class: wrong.length ? "broken" : "held" }, count), `.${away}`);
  }
  const update = () => work(look());
  const set = (change) => {
    if (change.norm && change.norm !== state.norm) {
      const range = spec.ranges[change.norm];
      Object.assign(controls.eps.input, { min: range[0], max: range[1], step: range[2] });
      change = { eps: spec.eps[change.norm], ...change };
    }
    if (change.point) change = { ...change, x: Float64Array.from(change.point), point: undefined };
    Object.assign(state, change);
    for (const [key, control] of Object.entries(controls)) if (key in state) control.set(state[key]);
    source.mark();
    update();
  };
  const controls = makeControls(spec, state, set);
  const source = chooser(images, side, classes, state, set, reader, controls.label);
  const rules = () => ({ norm: state.norm, steps: state.steps, bounds, most: spec.ranges[state.norm][1] });
  const deal = (x, label) => set({ x, label, eps: 0, target: null, view: "attack" });
  const decided = (eps) => set({ eps: stepUp(eps, spec.ranges[state.norm]), target: null, view: "attack" });
  const contest = Object.keys(nets).length > 1 ? game(nets, images, classes, deal, decided, rules) : null;
  root.replaceChildren(
    source.root,
    h("div", { class: "lab-controls" }, controls.norm.root, controls.eps.root, controls.target.root, controls.view.root),
    told.root,
    h("div", { class: panels.length > 1 ? "lab-nets" : "lab-nets lab-alone", style: `--nets:${panels.length}` }, ...panels.map((one) => one.root)),
    h("p", { class: "lab-hint" }, HINT),
    ...(contest ? [contest.root] : []),
  );
  update();
  return {
    lab: { ...questions(nets, bounds, { logOddsSlope, pgd }), settings: () => ({ ...state }), set, nearest: reader },
    snapshot: () => snapshot(state, found, nets),
    set,
  };
}

/** What a notebook can read: the image, eps, and what each network reads after the attack. */
function snapshot(state, found, nets) {
  const read = (name) => (found[name] ? { clean: found[name].read, attacked: found[name].fooled, length: found[name].long } : null);
  return {
    point: Array.from(state.x),
    eps: state.eps,
    radius: null,
    result: { label: state.label, norm: state.norm, ...Object.fromEntries(Object.keys(nets).map((name) => [name, read(name)])) },
  };
}

/** The first mark of a slider that is not below eps. */
const stepUp = (eps, [low, high, step]) => Math.min(high, Number((low + Math.ceil((eps - low) / step - 1e-9) * step).toFixed(6)));

/** A reader that knows nothing of networks: the class of the nearest training digit, in L2. */
function nearest(images) {
  return (x) => {
    let best = Infinity;
    let label = 0;
    for (const image of images) {
      let sum = 0;
      for (let i = 0; i < x.length && sum < best; i++) sum += (x[i] - image.x[i]) ** 2;
      if (sum < best) [best, label] = [sum, image.label];
    }
    return label;
  };
}

function makeControls({ norms, ranges, classes }, state, set) {
  const names = classes.map((name, c) => [c, name]);
  return {
    norm: choice({
      label: "Norm",
      options: norms.map((n) => [n, n === "l2" ? "L2" : "L∞"]),
      value: state.norm,
      onChange: (norm) => set({ norm }),
    }),
    eps: slider({ label: "Radius allowed, eps", range: ranges[state.norm], value: state.eps, onInput: (eps) => set({ eps }) }),
    target: menu({
      label: "Turn it into",
      options: [[null, "any other class"], ...names],
      value: state.target,
      onChange: (target) => set({ target }),
    }),
    view: choice({
      label: "Show",
      options: [
        ["attack", "attack"],
        ["random", "noise, equally long"],
      ],
      value: state.view,
      onChange: (view) => set({ view }),
    }),
    label: menu({ label: "It is a", options: names, value: state.label, onChange: (label) => set({ label }) }),
  };
}

/** The strip of test digits, and the pad to draw one: {root, mark}. */
function chooser(images, side, classes, state, set, reader, label) {
  const thumbs = images.map((image, i) => {
    const shown = picture(side, `a ${classes[image.label]}`);
    shown.draw(image.x);
    shown.root.setAttribute("aria-hidden", "true");
    const one = button("", () => set({ x: image.x, label: image.label }), {
      "aria-label": `${classes[image.label]}, digit ${i + 1} of ${images.length}`,
    });
    one.append(shown.root);
    return one;
  });
  const seen = picture(side, "your digit as the networks see it");
  seen.draw(new Float64Array(side * side));
  const pad = drawingPad((x) => {
    seen.draw(x);
    set({ x, ...(reader ? { label: reader(x) } : {}) });
  });
  const drawing = h(
    "details",
    {},
    h("summary", {}, "Or draw one"),
    h(
      "div",
      { class: "lab-row lab-paper" },
      pad.root,
      h("div", { class: "lab-seen" }, h("div", { class: "lab-figure" }, seen.root, "what the networks see")),
      h(
        "div",
        {},
        label.root,
        h(
          "p",
          { class: "lab-hint" },
          "Mouse, finger or keys. Your digit is centred and scaled, as the data were. ",
          reader ? "Its class is what the nearest training digit says, until you say otherwise." : "Say what it is.",
        ),
      ),
    ),
  );
  const mark = () => thumbs.forEach((one, i) => one.setAttribute("aria-pressed", String(images[i].x === state.x)));
  mark();
  return {
    root: h("div", {}, h("div", { class: "lab-strip", role: "group", "aria-label": "Test digits" }, ...thumbs), drawing),
    mark,
  };
}
