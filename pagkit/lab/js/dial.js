// The dial: frames that were stored, under one or two sliders, and curves on which the present place is marked.

import { choice, h, s } from "./ui.js";
import { decode } from "./engine.js";

const WIDTH = 340;
const HEIGHT = 128;
const LEFT = 30;
const RIGHT = 10;
const TOP = 8;
const BOTTOM = 32;
const UP = [224, 116, 8];
const DOWN = [128, 100, 200];

/** Build the dial inside `root`. Returns {lab, snapshot, set}, as every lab does; `lab` has frame, values, says and set. */
export function dial(root, spec, tell) {
  const names = Object.keys(spec.dials);
  const dials = names.map((name) => ({ name, ...spec.dials[name] }));
  const place = [...spec.start];
  const frame = () => place.reduce((at, i, k) => at * dials[k].values.length + i, 0);
  const pictures = spec.pictures.map(panel);
  const curve = Object.keys(spec.curves).length ? chart(dials, spec.curves) : null;
  const told = h("p", { class: "lab-readout" });
  const where = () => dials.map((one, k) => `${one.name}${one.words ? ":" : " ="} ${one.texts[place[k]]}`).join(", ");
  const show = () => {
    for (const one of pictures) one.draw(frame(), where());
    if (curve) curve.draw(place);
    controls.forEach((control, k) => control.set(place[k], spec.says[frame()]));
    told.replaceChildren(h("b", {}, where()), `. ${spec.says[frame()]}`);
  };
  const turn = (k, i) => {
    // a slider says the sentence as its value; after a button nothing would
    told.setAttribute("aria-live", dials[k].words ? "polite" : "off");
    place[k] = Math.max(0, Math.min(dials[k].values.length - 1, Math.round(i)));
    show();
    tell();
  };
  const controls = dials.map((one, k) => (one.words ? buttons : slider)(one, place[k], (i) => turn(k, i)));
  const set = ({ point, at }) => {
    const wanted = at ?? point?.map((value, k) => nearest(dials[k].values, value));
    wanted?.forEach((i, k) => turn(k, i));
  };
  root.replaceChildren(
    h("div", { class: "lab-frames" }, ...pictures.map((one) => one.root)),
    h("div", { class: "lab-turn" }, ...controls.map((control) => control.root)),
    told,
    ...(curve ? [curve.root] : []),
  );
  show();
  const values = () => dials.map((one, k) => (one.words ? one.texts : one.values)[place[k]]);
  const state = () => ({ frame: frame(), values: values(), says: spec.says[frame()] });
  const lab = { nets: [], pixels: (i) => pictures[i].pixels(frame()), set };
  for (const key of ["frame", "values", "says"]) Object.defineProperty(lab, key, { get: () => state()[key], enumerable: true });
  return { lab, snapshot: () => ({ point: dials.map((one, k) => one.values[place[k]]), eps: null, radius: null, result: state() }), set };
}

const nearest = (values, wanted) => values.reduce((best, v, i) => (Math.abs(v - wanted) < Math.abs(values[best] - wanted) ? i : best), 0);

/** A picture and its name: {root, draw(frame, where), pixels(frame)}. */
function panel({ name, signed, width, height, frames }) {
  const bytes = decode(frames, "uint8");
  const canvas = h("canvas", { class: `lab-picture${signed ? " lab-signed" : ""}`, width, height, role: "img", style: `aspect-ratio:${width}/${height}` });
  const pen = canvas.getContext("2d");
  const pixels = (frame) => bytes.subarray(frame * width * height, (frame + 1) * width * height);
  const draw = (frame, where) => {
    const image = pen.createImageData(width, height);
    pixels(frame).forEach((byte, i) => image.data.set(signed ? colour((byte - 128) / 127) : [byte, byte, byte, 255], 4 * i));
    pen.putImageData(image, 0, 0);
    canvas.setAttribute("aria-label", `${name}, ${where}`);
  };
  return { root: h("div", { class: "lab-figure" }, canvas, name), draw, pixels: (frame) => Array.from(pixels(frame)) };
}

const colour = (share) => [...(share > 0 ? UP : DOWN), Math.round(255 * Math.abs(share) ** 0.65)];

/** A slider over places: {root, set}. What a screen reader says is the value and what is seen there. */
function slider({ name, texts }, value, onTurn) {
  const shown = h("b", { "aria-hidden": "true" });
  const input = h("input", { type: "range", min: 0, max: texts.length - 1, step: 1, value, oninput: () => onTurn(Number(input.value)) });
  const set = (i, says) => {
    input.value = i;
    shown.textContent = texts[i];
    input.setAttribute("aria-valuetext", `${texts[i]}. ${says}`);
  };
  return { root: h("label", { class: "lab-slider" }, h("span", {}, name), shown, input), set };
}

function buttons({ name, texts }, value, onTurn) {
  const options = texts.map((text, i) => [String(i), text]);
  const { root, set } = choice({ label: name, options, value: String(value), onChange: (i) => onTurn(Number(i)) });
  return { root, set: (i) => set(String(i)) };
}

/** One or two lines over the places of the first dial, and a mark at the present one: {root, draw(place)}. */
function chart([first, second], curves) {
  const names = Object.keys(curves);
  const all = names.flatMap((name) => curves[name]);
  const low = Math.min(0, ...all);
  const high = Math.max(1, ...all);
  const last = first.values.length - 1;
  const x = (i) => LEFT + ((WIDTH - LEFT - RIGHT) * i) / last;
  const y = (v) => HEIGHT - BOTTOM - ((HEIGHT - TOP - BOTTOM) * (v - low)) / (high - low);
  const at = (name, i, j) => curves[name][second ? i * second.values.length + j : i];
  const text = (content, more) => s("text", more, content);
  const write = (v) => String(Number(v.toFixed(2)));
  const grid = [low, (low + high) / 2, high].flatMap((v) => [
    s("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(v), y2: y(v), class: "lab-grid" }),
    text(write(v), { x: LEFT - 4, y: y(v) + 4, "text-anchor": "end" }),
  ]);
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => Math.round(share * last));
  grid.push(
    ...ticks.map((i) => text(first.texts[i], { x: x(i), y: HEIGHT - BOTTOM + 13, "text-anchor": i === last ? "end" : i ? "middle" : "start" })),
    text(first.name, { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 4, "text-anchor": "middle" }),
  );
  const svg = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "lab-curve", role: "img" });
  const keys = h("div", {}, ...names.map((name, k) => h("span", { class: `lab-key lab-line${k}` }, name)));
  const draw = ([i, j]) => {
    const lines = names.map((name, k) => {
      const points = first.values.map((_, n) => `${x(n).toFixed(1)},${y(at(name, n, j)).toFixed(1)}`);
      return s("polyline", { points: points.join(" "), class: `lab-line${k}` });
    });
    const marks = names.map((name, k) => s("circle", { cx: x(i), cy: y(at(name, i, j)), r: 4, class: `lab-line${k}` }));
    svg.replaceChildren(...grid, s("line", { x1: x(i), x2: x(i), y1: TOP, y2: HEIGHT - BOTTOM, class: "lab-mark" }), ...lines, ...marks);
    const here = names.map((name) => `${name} ${write(at(name, i, j))}`).join(", ");
    svg.setAttribute("aria-label", `Curves over ${first.name}; at ${first.texts[i]}: ${here}.`);
  };
  return { root: h("div", { class: "lab-curves" }, keys, svg), draw };
}
