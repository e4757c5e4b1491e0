// One network's column in the digits lab: the changed image, the change, the gradient, and what it reads before and after.

import { h, picture, s, tidy } from "./ui.js";
import { argmax, distance, logOdds, logOddsSlope, pgd, randomDirection, randomFrom } from "./attack.js";

/** All that one network says about a state of the lab. */
export function judge(net, { x, label, norm, eps, target, steps, seed }, bounds) {
  const goal = target === label ? null : target;
  const attacked = pgd(net, x, label, { norm, eps, steps, bounds, target: goal }).x;
  const long = distance(attacked, x);
  const noisy = noise(x, long, bounds, seed);
  const gradient = net.pull(x, (z) => logOddsSlope(z, goal ?? label).map((v) => (goal === null ? -v : v)))[1];
  const odds = (z) => Array.from(z, (_, c) => logOdds(z, c));
  const [clean, after, random] = [x, attacked, noisy].map((image) => odds(net.logits(image)));
  return {
    attacked,
    noisy,
    gradient,
    long,
    clean,
    after,
    random,
    read: argmax(clean),
    fooled: argmax(after),
    shaken: argmax(random),
    goal,
  };
}

/** x plus noise in a random direction, as long, after clipping to the bounds, as `long` (or as long as it can be). */
function noise(x, long, [low, high], seed) {
  const direction = randomDirection(x.length, randomFrom(seed));
  const at = (size) => x.map((v, i) => Math.min(high, Math.max(low, v + size * direction[i])));
  let [short, far] = [0, 4 * long + 1e-9];
  for (let k = 0; k < 40; k++) {
    const middle = (short + far) / 2;
    if (distance(at(middle), x) < long) short = middle;
    else far = middle;
  }
  return at(far);
}

/** {root, draw}: `draw(found, state, reader)` shows what `judge` found; `reader(x)` is the nearest-neighbour reader's class. */
export function panel(name, side, classes) {
  const image = picture(side, "the changed digit");
  const change = picture(side, "the change");
  const slope = picture(side, "the gradient");
  const verdict = h("p", { class: "lab-verdict" });
  const other = h("p", { class: "lab-other" });
  const bars = s("svg", { viewBox: "0 0 150 152", role: "img", class: "lab-odds" });
  const captions = [h("span"), h("span"), h("span")];
  const figure = (shown, caption) => h("div", { class: "lab-figure" }, shown.root, caption);
  const root = h(
    "div",
    { class: "lab-net", role: "group", "aria-label": name },
    h("b", { class: "lab-name" }, name),
    figure(image, captions[0]),
    verdict,
    other,
    figure(change, captions[1]),
    figure(slope, captions[2]),
    bars,
  );
  for (const { root: canvas } of [change, slope]) canvas.classList.add("lab-signed");

  function draw(found, { x, label, view }, reader) {
    const random = view === "random";
    const shown = random ? found.noisy : found.attacked;
    const read = random ? found.shaken : found.fooled;
    const odds = random ? found.random : found.after;
    const delta = shown.map((v, i) => v - x[i]);
    const wrong = read !== label;
    const most = (v) => v.reduce((top, a) => Math.max(top, Math.abs(a)), 0) || 1;
    image.draw(shown, { text: `the digit after ${random ? "random noise" : "the attack"}, read as ${classes[read]}` });
    change.draw(delta, { limit: Math.max(most(delta), 0.05), text: `the change, length ${tidy(found.long)}` });
    slope.draw(found.gradient, {
      limit: most(found.gradient),
      text: `gradient ${found.goal === null ? `away from ${classes[label]}` : `towards ${classes[found.goal]}`}`,
    });
    captions[0].textContent = random ? "with random noise" : "after the attack";
    captions[1].textContent = `change, length ${tidy(found.long)}`;
    captions[2].textContent =
      found.goal === null ? `gradient away from ${classes[label]}` : `gradient towards ${classes[found.goal]}`;
    verdict.className = `lab-verdict ${wrong ? "broken" : "held"}`;
    verdict.textContent = wrong ? `✗ reads ${classes[read]}, not ${classes[label]}` : `✓ reads ${classes[read]}`;
    const rest = random ? `under attack: ${classes[found.fooled]}` : `random noise: ${classes[found.shaken]}`;
    other.replaceChildren(rest, ...(reader ? [h("br"), `nearest digit: ${classes[reader(shown)]}`] : []));
    drawOdds(bars, found.clean, odds, classes, label);
  }
  return { root, draw };
}

/** Diverging bars, log-odds from -12 to 12 (what is beyond is cut there), one a class. */
function drawOdds(root, before, after, classes, label) {
  const middle = 82;
  const x = (odds) => middle + 62 * Math.max(-1, Math.min(1, odds / 12));
  const parts = [s("line", { x1: middle, x2: middle, y1: 0, y2: 150, class: "lab-grid" })];
  classes.forEach((name, c) => {
    const y = 8 + 15 * c;
    const to = x(after[c]);
    parts.push(s("text", { x: 4, y: y + 4, class: c === label ? "own" : "" }, name));
    parts.push(
      s("rect", {
        x: Math.min(middle, to),
        width: Math.abs(to - middle),
        y: y - 4,
        height: 8,
        class: after[c] > 0 ? "up" : "down",
      }),
    );
    parts.push(s("circle", { cx: x(before[c]), cy: y, r: 3 }));
  });
  root.replaceChildren(...parts);
  root.setAttribute("aria-label", `Log-odds after: ${classes.map((name, c) => `${name}: ${tidy(after[c])}`).join(", ")}`);
}
