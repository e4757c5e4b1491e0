// The photograph lab: one picture of many colours, changed step by step until a network takes it for something else.

import { button, choice, h, listed, menu, picture, questions, readout, slider, tick, tidy } from "./ui.js";
import { compile, unpack } from "./engine.js";
import { logOddsSlope, pgd } from "./attack.js";
import { walker } from "./walker.js";
import { probabilities, stage } from "./photoview.js";
import { journal } from "./photolog.js";
import { fetched, gate, once } from "./photoload.js";

const PACE = 45; // milliseconds that a step is shown at least
const calmly = () => globalThis.matchMedia?.("(prefers-reduced-motion: reduce)").matches ?? false;

/** Build the lab inside `root`. Returns {lab, snapshot, set}, as the plane does. Networks with a `src` are fetched on a click. */
export function photo(root, spec, tell) {
  const images = unpack(spec.photos, spec.shape.reduce((a, b) => a * b, 1));
  const state = { ...spec.settings, x: images[spec.settings.photo].x, label: images[spec.settings.photo].label };
  const packed = {};
  let live = null;
  const compiled = {};
  const nets = {};
  for (const name of Object.keys(spec.nets))
    Object.defineProperty(nets, name, { get: () => (compiled[name] ??= compile(packed[name])), enumerable: true });
  const begin = () => {
    live = attacked(root, spec, state, images, packed, tell);
    tell();
  };
  const far = Object.entries(spec.nets).filter(([, net]) => net.src);
  const load = once(async (say) => {
    for (const [i, [name, { src, key }]] of far.entries()) {
      say(`${i + 1} of ${far.length} …`);
      packed[name] = await fetched(src, key);
    }
    begin();
  });
  for (const [name, net] of Object.entries(spec.nets)) if (!net.src) packed[name] = net;
  const answers = questions(nets, spec.bounds, { logOddsSlope, pgd });
  /** A plain answer once the networks are here; before that a promise of it, and asking fetches them. */
  const ask = (name) => [name, (...given) => (live ? answers[name](...given) : load(() => {}).then(() => answers[name](...given)))];
  const set = (change) => (live ? live.set(change) : Object.assign(state, resolved(change, images)));
  if (far.length) gate(root, far, load);
  else begin();
  return {
    lab: {
      nets: Object.keys(spec.nets),
      ...Object.fromEntries(["logits", "gradient", "attack"].map(ask)),
      load: () => load(() => {}),
      settings: () => ({ ...state, ...live?.seen() }),
      set,
    },
    snapshot: () => live?.snapshot() ?? { point: Array.from(state.x), eps: state.eps, radius: null, result: {} },
    set,
  };
}

/** A change of the settings, with the pixels and the class of a photograph that it names, or the pixels of a `point`. */
function resolved({ point, ...change }, images) {
  if (point) return { ...change, x: Float64Array.from(point), photo: null };
  return Number.isInteger(change.photo) && !change.x ? { ...images[change.photo], ...change } : change;
}

/** The lab itself, once the networks are here. */
function attacked(root, spec, state, images, packed, tell) {
  const { classes, bounds } = spec;
  const names = Object.keys(packed);
  const side = spec.shape[1];
  const view = stage(names, classes, side, { play: toggle, show: scrub, choose: (net) => set({ net }) });
  const told = readout();
  const log = journal(side, (kept) => set(kept));
  let paths = {}; // network -> what the attack found at each step
  let fresh = {};
  let [job, quiet, busy, again] = [0, false, false, false];
  let [shown, playing, timer] = [0, false, 0];
  const goal = () => (state.target === state.label ? null : state.target);
  const path = () => paths[state.net] ?? [];
  const whole = () => Boolean(path().at(-1)?.others);

  const work = walker((found) => {
    if (found.job !== job) return;
    if (found.error) return told.say(h("b", { class: "broken" }, found.error));
    const { net } = found;
    const last = Boolean(found.others);
    (fresh[net] ??= []).push(found);
    if (!quiet || last) paths[net] = fresh[net];
    if (last) busy = false;
    if (net === state.net) quiet ? last && end() : follow();
    else if (last) view.card(net, paths[net], state);
    if (last && again) run(true);
  });
  for (const name of names) work.load(name, packed[name]);

  /** Start anew. Quietly, while a slider moves: the old picture stays until the new attack has ended, and that one may end first. */
  function run(quietly) {
    if (quietly && busy) {
      again = true;
      return;
    }
    [quiet, busy, again] = [quietly, true, false];
    job += 1;
    fresh = {};
    if (!quietly) {
      paths = {};
      shown = 0;
      view.wait(state.x);
      told.say(`Attacking ${state.net} …`);
    }
    const { norm, eps, steps, x, label } = state;
    const order = [state.net, ...names.filter((name) => name !== state.net)];
    work.start({ job, nets: order, x, label, options: { norm, eps, steps, bounds, target: goal() } });
  }
  /** Show the steps as they come, none shorter than PACE. */
  function follow() {
    if (!playing && shown === 0) play();
    view.length(path().length - 1, whole());
  }
  function play() {
    playing = true;
    clearTimeout(timer);
    if (calmly()) return whole() ? end() : void (timer = setTimeout(play, PACE));
    const tick = () => {
      if (shown < path().length - 1) shown += 1;
      if (whole() && shown === path().length - 1) return end();
      draw();
      timer = setTimeout(tick, PACE);
    };
    draw();
    timer = setTimeout(tick, PACE);
  }
  function end() {
    playing = false;
    clearTimeout(timer);
    shown = Math.max(0, path().length - 1);
    draw();
    report();
    tell();
  }
  function toggle() {
    if (playing) {
      playing = false;
      clearTimeout(timer);
      return draw();
    }
    if (shown >= path().length - 1) shown = 0;
    play();
  }
  function scrub(step) {
    playing = false;
    clearTimeout(timer);
    shown = Math.min(step, path().length - 1);
    draw();
  }
  function draw() {
    if (!path().length) return;
    view.draw({ state, goal: goal(), path: path(), shown, playing, whole: whole() });
    view.card(state.net, path(), state);
  }
  function report() {
    const [first, last] = [path()[0], path().at(-1)];
    const sure = (place) => `${classes[place.read]} (${percent(place)})`;
    const own = classes[state.label];
    const hit = path().findIndex(({ read }) => read !== state.label);
    const away = state.target === state.label ? ` The target is what it is, so the attack takes any other class.` : "";
    const parts =
      last.read === state.label
        ? [h("b", { class: "held" }, `Still ${sure(last)}. `), `${state.net} was not turned by this attack.${away}`]
        : first.read !== state.label
          ? [h("b", { class: "broken" }, `${own} → ${sure(last)}. `), `${state.net} misread it from the start.${away}`]
          : [h("b", { class: "broken" }, `${own} → ${sure(last)}. `), `${state.net} gave way at step ${hit}.${away}`];
    told.say(...parts, ` ${witnesses(last, classes, state.label)}`);
    if (last.read !== state.label) log.add({ state, last, before: own, after: sure(last), hit });
  }
  const percent = ({ logits, read }) => `${tidy(100 * probabilities(logits)[read])} %`;

  function set(change) {
    if (change.norm && change.norm !== state.norm) {
      const range = spec.ranges[change.norm];
      Object.assign(controls.eps.input, { min: range[0], max: range[1], step: range[2] });
      change = { eps: spec.eps[change.norm], ...change };
    }
    change = resolved(change, images);
    const only = (...keys) => Object.keys(change).every((key) => keys.includes(key));
    Object.assign(state, change);
    for (const [key, control] of Object.entries(controls)) if (key in state) control.set(state[key]);
    mark();
    view.choose(state.net);
    if (only("net") && whole()) {
      shown = 0;
      play();
    } else run(only("eps", "steps"));
  }
  const controls = makeControls(spec, state, set);
  const thumbs = images.map(({ x, label }, i) => {
    const shown = picture(side, "", 3);
    shown.draw(x);
    shown.root.setAttribute("aria-hidden", "true");
    const one = button("", () => set({ photo: i }), { "aria-label": `${classes[label]}, photograph ${i + 1} of ${images.length}` });
    one.append(shown.root);
    return one;
  });
  const mark = () => thumbs.forEach((one, i) => one.setAttribute("aria-pressed", String(state.photo === i)));
  const smooth = tick({ label: "Smooth", value: false, onChange: (on) => root.toggleAttribute("data-smooth", on) });
  view.row.append(smooth.root);
  root.replaceChildren(
    h("div", { class: "lab-strip" }, ...thumbs),
    h("div", { class: "lab-controls" }, controls.target.root, controls.norm.root, controls.eps.root, controls.steps.root),
    view.root,
    told.root,
    view.cards,
    log.root,
  );
  mark();
  view.choose(state.net);
  run(false);
  const seen = () => ({ shown, playing, where: work.where(), took: path().map(({ took }) => took), done: whole() && !playing });
  const snapshot = () => {
    const last = path().at(-1);
    const { net, label } = state;
    const result = whole() ? { net, label, read: last.read, broken: last.read !== label, x: Array.from(last.point) } : {};
    return { point: Array.from(state.x), eps: state.eps, radius: null, result };
  };
  return { set, seen, snapshot };
}

/** Which other networks see in the last point what the attacked one sees. */
function witnesses({ others, read }, classes, label) {
  const names = Object.keys(others);
  const yes = names.filter((name) => others[name] === read);
  const no = names.filter((name) => others[name] !== read);
  if (!names.length || read === label) return "";
  const rest = no.map((name) => `${name} reads ${classes[others[name]]}`);
  const said = yes.length ? [`${listed(yes)} ${yes.length > 1 ? "see" : "sees"} a ${classes[read]} in this picture, too`] : [];
  return `${[...said, ...(rest.length ? [listed(rest)] : [])].join("; ")}.`;
}

function makeControls({ norms, ranges, classes }, state, set) {
  const named = classes.map((name, c) => [c, name]);
  return {
    target: menu({
      label: "Turn it into",
      options: [[null, "any other class"], ...named],
      value: state.target,
      onChange: (target) => set({ target }),
    }),
    norm: choice({
      label: "Norm",
      options: norms.map((n) => [n, n === "l2" ? "L2" : "L∞"]),
      value: state.norm,
      onChange: (norm) => set({ norm }),
    }),
    eps: slider({ label: "Radius allowed, eps", range: ranges[state.norm], value: state.eps, onInput: (eps) => set({ eps }) }),
    steps: slider({ label: "Steps", range: ranges.steps, value: state.steps, onInput: (steps) => set({ steps }) }),
  };
}
