// Where a page or a notebook comes in: build the lab that an element asks for.

import { plane } from "./plane.js";
import { digits } from "./digits.js";
import { dial } from "./dial.js";
import { photo } from "./photo.js";

const KINDS = { plane, digits, dial, photo };

/** JupyterLab would take keys for its cells (arrows move between them, dd deletes one); an element with this mark keeps its keys. */
const ownKeys = ({ target }) => {
  target.dataset.lmSuppressShortcuts = "true";
};

/** Build a lab inside `root`; says "lab-change" when a reader changes something. */
function build(root, kind, spec) {
  let ready = null;
  const tell = () => ready && root.dispatchEvent(new CustomEvent("lab-change", { detail: ready.snapshot() }));
  root.classList.add("pagkit-lab");
  root.dataset.lab = kind;
  root.addEventListener("focusin", ownKeys);
  ready = KINDS[kind](root, spec, tell);
  root.lab = ready.lab;
  root.dataset.ready = "true";
  return ready;
}

const AHEAD = "300px"; // a lab is built this far before it comes into view
const waiting = new WeakSet();

/** Build every lab of the page once it comes near the reader's view; until then its still picture stands there. */
export function mount() {
  const start = (root) => build(root, root.dataset.lab, JSON.parse(root.querySelector("script[type='application/json']").textContent));
  const seen = (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      watch.unobserve(target);
      start(target);
    }
  };
  const watch = "IntersectionObserver" in globalThis ? new IntersectionObserver(seen, { rootMargin: AHEAD }) : null;
  for (const root of document.querySelectorAll("[data-lab]:not([data-ready])")) {
    if (waiting.has(root) || !KINDS[root.dataset.lab] || !root.querySelector("script[type='application/json']")) continue;
    waiting.add(root);
    if (watch) watch.observe(root);
    else start(root);
  }
}

/** For anywidget: the same lab, and its point, eps, radius and result as traits of the Python object. */
export function render({ model, el }) {
  const root = el.appendChild(document.createElement("div"));
  const ready = build(root, model.get("kind"), model.get("spec"));
  const send = ({ detail }) => {
    for (const [name, value] of Object.entries(detail)) model.set(name, value);
    model.save_changes();
  };
  root.addEventListener("lab-change", send);
  send({ detail: ready.snapshot() });
  const take = () => {
    const now = ready.snapshot();
    const change = {};
    for (const name of ["point", "eps"])
      if (JSON.stringify(model.get(name)) !== JSON.stringify(now[name])) change[name] = model.get(name);
    if (Object.keys(change).length) ready.set(change);
  };
  model.on("change:point change:eps", take);
  return () => model.off("change:point change:eps", take);
}
