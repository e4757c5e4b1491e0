// What the labs share: elements, labelled controls, bars, pictures, and work cut into slices that leave the page alive.

const SVG = "http://www.w3.org/2000/svg";
const fill = (element, attributes, children) => {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== false && value !== undefined && value !== null) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
};

/** An HTML element; an attribute that starts with "on" is a listener. */
export const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
/** An SVG element. */
export const s = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** A number as a reader wants it: three figures, no trailing zeros. */
export function tidy(value) {
  if (!Number.isFinite(value)) return "∞";
  const places = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : Math.abs(value) >= 1 ? 2 : 3;
  return String(Number(value.toFixed(places))).replace("-", "−");
}

/** Names as a sentence has them; where one holds a comma, semicolons stand between. */
export function listed(names) {
  const between = names.some((name) => name.includes(",")) ? "; " : ", ";
  return names.length > 1 ? `${names.slice(0, -1).join(between)}${between === "; " ? "; " : " "}and ${names.at(-1)}` : names[0];
}

/** A labelled slider: {root, set}. `range` is [lowest, highest, step]. */
export function slider({ label, range: [min, max, step], value, onInput }) {
  const shown = h("b", { "aria-hidden": "true" }, tidy(value)); // not <output>, which the label would take for its control
  const input = h("input", { type: "range", min, max, step, value, oninput: () => show(Number(input.value), true) });
  const show = (number, tell) => {
    shown.textContent = tidy(number);
    input.value = number;
    if (tell) onInput(number);
  };
  return {
    root: h("label", { class: "lab-slider" }, h("span", {}, label), shown, input),
    set: (number) => show(number, false),
    input,
  };
}

let groups = 0;

/** One of a few, as radio buttons: {root, set}. `options` are [value, text]. */
export function choice({ label, options, value, onChange }) {
  const name = `lab-choice-${groups++}`;
  const inputs = options.map(([key]) => h("input", { type: "radio", name, value: key, onchange: () => onChange(key) }));
  const set = (key) =>
    options.forEach(([other], i) => {
      inputs[i].checked = other === key;
    });
  set(value);
  const labels = options.map(([, text], i) => h("label", {}, inputs[i], h("span", {}, text)));
  return { root: h("fieldset", { class: "lab-choice" }, h("legend", {}, label), h("div", {}, ...labels)), set };
}

/** One of many, as a menu: {root, set}. */
export function menu({ label, options, value, onChange }) {
  const select = h(
    "select",
    { onchange: () => onChange(options[select.selectedIndex][0]) },
    ...options.map(([, text]) => h("option", {}, text)),
  );
  const set = (key) => {
    select.selectedIndex = options.findIndex(([other]) => other === key);
  };
  set(value);
  return { root: h("label", { class: "lab-menu" }, h("span", {}, label), select), set };
}

/** A box to tick: {root, set}. */
export function tick({ label, value, onChange }) {
  const input = h("input", { type: "checkbox", onchange: () => onChange(input.checked) });
  input.checked = value;
  return {
    root: h("label", { class: "lab-tick" }, input, h("span", {}, label)),
    set: (on) => {
      input.checked = on;
    },
  };
}

export const button = (text, onclick, attributes = {}) => h("button", { type: "button", onclick, ...attributes }, text);

/** Text that a screen reader speaks when it changes, once the reader pauses: {root, say(...parts)}. A part is text or an element. */
export function readout() {
  const root = h("p", { class: "lab-readout", role: "status", "aria-live": "polite" });
  let last = "";
  let timer = 0;
  const say = (...parts) => {
    const text = parts.map((part) => part.textContent ?? part).join("");
    if (text === last) return;
    last = text;
    clearTimeout(timer);
    timer = setTimeout(() => root.replaceChildren(...parts), 60);
  };
  return { root, say };
}

/** Lengths on one scale: {root, draw}. A row is [label, value, class]; what is longer than `most` runs off the end. */
export function lengths() {
  const root = h("dl", { class: "lab-lengths" });
  const draw = (rows, most) =>
    root.replaceChildren(
      ...rows.flatMap(([label, value, kind]) => [
        h("dt", {}, label),
        h(
          "dd",
          {},
          h("i", { class: `${kind}${value > most ? " over" : ""}`, style: `width:${Math.min(1, value / most) * 100}%` }),
          h("b", {}, tidy(value)),
        ),
      ]),
    );
  return { root, draw };
}

/**
 * A square picture of an image: {root, draw}. Grey or, with three channels, colours, in [0, 1]. With `limit` a signed one: grey as orange
 * up, purple down, nothing at zero; colours around the middle grey.
 */
export function picture(side, label, channels = 1) {
  const root = h("canvas", { class: "lab-picture", width: side, height: side, role: "img", "aria-label": label });
  const pen = root.getContext("2d");
  const draw = (x, { limit = null, text = label } = {}) => {
    const image = pen.createImageData(side, side);
    const byte = (v) => Math.round(255 * Math.min(1, Math.max(0, v)));
    const colour = (i) => [0, 1, 2].map((c) => byte(limit === null ? x[c * side * side + i] : 0.5 + (0.5 * x[c * side * side + i]) / limit));
    for (let i = 0; i < side * side; i++) {
      const grey = () => (limit === null ? Array(3).fill(byte(x[i])) : signed(x[i] / limit));
      image.data.set(channels === 3 ? [...colour(i), 255] : [...grey(), 255].slice(0, 4), 4 * i);
    }
    pen.putImageData(image, 0, 0);
    root.setAttribute("aria-label", text);
  };
  return { root, draw };
}

function signed(share) {
  const strength = Math.min(1, Math.abs(share)) ** 0.65 || 0;
  return [...(share > 0 ? [224, 116, 8] : [128, 100, 200]), Math.round(255 * strength)];
}

/** Runs one generator at a time in slices of `milliseconds`; a new one replaces the old. */
export function worker(milliseconds = 10) {
  let current = 0;
  return (job) => {
    const mine = ++current;
    const slice = () => {
      const until = performance.now() + milliseconds;
      do {
        if (mine !== current || job.next().done) return;
      } while (performance.now() < until);
      setTimeout(slice);
    };
    slice();
  };
}

/** What every lab answers when a test or a reader's console asks `element.lab`. `nets` is name -> compiled network. */
export function questions(nets, bounds, { logOddsSlope, pgd }) {
  const named = (net) => {
    if (!nets[net]) throw new RangeError(`no network ${net}; there are ${Object.keys(nets).join(", ")}`);
    return nets[net];
  };
  return {
    nets: Object.keys(nets),
    /** The logits of x, a flat list of numbers. */
    logits: (net, x) => Array.from(named(net).logits(x)),
    /** The gradient of the log-odds of `label` with respect to x. */
    gradient: (net, x, label) => Array.from(named(net).pull(x, (z) => logOddsSlope(z, label))[1]),
    /** PGD from x of class `label`, see attack.js: the last point and all points. */
    attack(net, x, label, options) {
      const found = pgd(named(net), x, label, { bounds, ...options });
      return { x: Array.from(found.x), path: found.path.map((point) => Array.from(point)) };
    },
  };
}
