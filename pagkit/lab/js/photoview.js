// What the photograph lab shows: the changed picture, large; what it was, the change and the gradient; how sure the network is; and
// the same attack on every network.

import { button, h, picture, slider, tidy } from "./ui.js";
import { argmax, distance } from "./attack.js";

/** The softmax of the logits. */
export function probabilities(logits) {
  const top = Math.max(...logits);
  const powers = Array.from(logits, (z) => Math.exp(z - top));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((p) => p / sum);
}

/** One row a class: {root, draw(before, after, label, goal)}, probabilities before as a mark and after as a bar. */
function bars(classes) {
  const rows = classes.map((name) => {
    const [bar, mark, value] = [h("i"), h("s"), h("b")];
    return { bar, mark, value, name: h("span", {}, name), track: h("div", {}, bar, mark) };
  });
  const root = h("div", { class: "lab-odds-list", role: "img" }, ...rows.flatMap(({ name, track, value }) => [name, track, value]));
  const draw = (before, after, label, goal) => {
    const top = argmax(after);
    rows.forEach(({ bar, mark, value, name }, c) => {
      bar.style.width = `${100 * after[c]}%`;
      bar.className = c === label ? "own" : c === top || c === goal ? "up" : "";
      mark.style.left = `${100 * before[c]}%`;
      value.textContent = `${Math.round(100 * after[c])} %`;
      name.className = c === top ? "top" : "";
    });
    root.setAttribute("aria-label", `Probabilities: ${classes.map((name, c) => `${name} ${Math.round(100 * after[c])} %`).join(", ")}`);
  };
  return { root, draw };
}

/** {root, row, cards, draw, card, wait, choose, length}; `row` is the player's. `on` is told what a reader does: play(), show(step), choose(network). */
export function stage(names, classes, side, on) {
  const large = picture(side, "the changed photograph", 3);
  const small = ["the photograph", "the change", "the gradient"].map((label) => picture(side, label, 3));
  const captions = small.map(() => h("span"));
  const head = h("p", { class: "lab-head" });
  const odds = bars(classes);
  const start = button("Play", on.play, { class: "lab-play" });
  const place = slider({ label: "Step shown", range: [0, 1, 1], value: 0, onInput: on.show });
  const figure = (shown, i) => h("div", { class: "lab-figure" }, shown.root, captions[i]);
  const row = h("div", { class: "lab-row lab-player" }, start, place.root);
  const root = h(
    "div",
    { class: "lab-stage" },
    h("div", { class: "lab-big" }, large.root, row),
    h("div", { class: "lab-side" }, head, odds.root, h("div", { class: "lab-smalls" }, ...small.map(figure))),
  );
  const panels = Object.fromEntries(
    names.map((name) => {
      const shown = picture(side, "", 3);
      shown.root.setAttribute("aria-hidden", "true");
      const verdict = h("span", { class: "lab-verdict" }, "…");
      const one = button("", () => on.choose(name));
      const others = h("span", { class: "lab-other" });
      one.append(shown.root, h("b", { class: "lab-name" }, name), verdict, others);
      return [name, { shown, verdict, others, one }];
    }),
  );
  const style = `--nets:${names.length};--narrow:${names.length === 4 ? 2 : names.length}`;
  const cards = h("div", { class: "lab-cards", style, role: "group", "aria-label": "The same attack on each network" });
  cards.append(...names.map((name) => panels[name].one));

  const length = (steps, whole) => {
    place.input.max = Math.max(1, steps);
    root.toggleAttribute("data-whole", whole);
  };
  function draw({ state: { x, label, steps }, goal, path, shown, playing, whole }) {
    const here = path[shown];
    const after = probabilities(here.logits);
    const delta = here.point.map((v, i) => v - x[i]);
    const slope = here.gradient ?? path[shown - 1]?.gradient ?? new Float64Array(x.length);
    const most = (v) => v.reduce((top, a) => Math.max(top, Math.abs(a)), 0);
    const [times, way] = [0.5 / Math.max(most(delta), 0.02), goal === null ? `away from ${classes[label]}` : `towards ${classes[goal]}`];
    const read = `${classes[here.read]}, ${tidy(100 * after[here.read])} %`;
    large.draw(here.point, { text: `the photograph of a ${classes[label]} after ${shown} steps, read as ${read}` });
    small[0].draw(x, { text: `the photograph: ${classes[label]}` });
    small[1].draw(delta, { limit: 0.5 / times, text: `the change, length ${tidy(distance(here.point, x))}` });
    small[2].draw(slope, { limit: most(slope) || 1, text: `the gradient ${way}` });
    captions[0].textContent = `photograph: ${classes[label]}`;
    captions[1].textContent = `change, length ${tidy(distance(here.point, x))}${times > 1.5 ? `, shown × ${tidy(times)}` : ""}`;
    captions[2].textContent = `gradient ${way}`;
    head.className = `lab-head ${here.read === label ? "held" : "broken"}`;
    head.replaceChildren(`step ${shown} of ${Math.max(path.length - 1, whole ? 0 : steps)}: reads `, h("b", {}, read));
    odds.draw(probabilities(path[0].logits), after, label, goal);
    length(path.length - 1, whole);
    place.set(shown);
    start.textContent = playing ? "Pause" : "Play";
  }
  function card(name, path, { label }) {
    const { shown, verdict, others } = panels[name];
    const last = path.at(-1);
    const sure = tidy(Math.round(100 * probabilities(last.logits)[last.read]));
    shown.draw(last.point);
    verdict.className = `lab-verdict ${last.read === label ? "held" : "broken"}`;
    const [agree, all] = last.others ? [Object.values(last.others).filter((read) => read === last.read).length, names.length - 1] : [0, 0];
    others.textContent = all && last.read !== label ? `as ${agree} of ${all} others do` : "";
    verdict.textContent = last.others ? `${last.read === label ? "✓" : "✗"} ${classes[last.read]}, ${sure} %` : "…";
  }
  const wait = (x) =>
    names.forEach((name) => {
      panels[name].shown.draw(x);
      Object.assign(panels[name].verdict, { textContent: "…", className: "lab-verdict" });
      panels[name].others.textContent = "";
    });
  const choose = (net) => names.forEach((name) => panels[name].one.setAttribute("aria-pressed", String(name === net)));
  return { root, row, cards, draw, card, wait, choose, length };
}
