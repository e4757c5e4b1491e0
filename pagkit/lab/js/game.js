// Who falls first? A digit is drawn, the reader names the network that will give way at the smallest eps, then each is measured.

import { button, h, listed, readout, tidy, worker } from "./ui.js";
import { argmax, smallestEps } from "./attack.js";

/**
 * {root}. `nets` name -> network; `deal(x, label)` is called with the digit of a round, `show(eps)` with the eps at which it was decided;
 * `rules()` gives norm, steps, bounds and most, the end of the slider.
 */
export function game(nets, digits, classes, deal, show, rules) {
  const names = Object.keys(nets);
  const told = readout();
  const work = worker();
  const table = h("div", { class: "lab-lengths-holder" });
  let rounds = 0;
  let right = 0;
  let current = null;
  let order = [];
  const answers = h("div", { class: "lab-row", role: "group", "aria-label": "Which network falls first?" });
  const guesses = names.map((name) => button(name, () => answer(name), { disabled: true }));
  answers.append(...guesses);
  const next = button("Deal a digit", start, { class: "lab-play" });
  const allow = (on) =>
    guesses.forEach((one) => {
      one.disabled = !on;
    });

  function start() {
    const fair = digits.filter(({ x, label }) => names.every((name) => argmax(nets[name].logits(x)) === label));
    if (!order.length)
      order = fair
        .map((digit, i) => ({ digit, key: (i * 7919 + 13 * rounds) % 101 }))
        .sort((a, b) => a.key - b.key)
        .map(({ digit }) => digit);
    current = order.pop();
    if (!current) return told.say("There is no digit here that every network reads.");
    deal(current.x, current.label);
    allow(true);
    table.replaceChildren();
    told.say(`A ${classes[current.label]}. The gradients above are your only hint: which network falls at the smallest eps?`);
    guesses[0].focus({ preventScroll: true });
  }
  function answer(guess) {
    allow(false);
    told.say("Measuring: for each network, the smallest eps at which the attack gets through …");
    work(measure(guess, current, rules()));
  }
  function* measure(guess, { x, label }, { norm, steps, bounds, most }) {
    const found = [];
    for (const name of names) {
      const eps = yield* smallestEps(nets[name], x, label, most, { norm, steps, bounds });
      found.push({ name, eps: eps ?? Infinity });
    }
    found.sort((a, b) => a.eps - b.eps);
    const first = found[0].eps;
    const tied = found.filter(({ eps }) => eps === first).map(({ name }) => name);
    table.replaceChildren(ranking(found, guess, most));
    show(Math.min(first, most));
    if (Number.isFinite(first)) {
      const won = tied.includes(guess);
      rounds += 1;
      right += won;
      const said = `${listed(tied)} ${tied.length > 1 ? "fall" : "falls"} first, at eps ${tidy(first)}. Score: ${right} of ${rounds}.`;
      told.say(h("b", { class: won ? "held" : "broken" }, won ? "Right. " : "No. "), said);
    } else {
      const end = `This attack broke none of them, not even at eps ${tidy(most)}, where the slider ends. `;
      told.say(h("b", { class: "held" }, "A draw. "), end, `Nobody could have known, and the round does not count. Score: ${right} of ${rounds}.`);
    }
    next.textContent = "Deal another";
    next.focus({ preventScroll: true });
  }
  const root = h(
    "div",
    { class: "lab-game" },
    h("b", { class: "lab-name" }, "Who falls first?"),
    h("div", { class: "lab-row" }, next, answers),
    told.root,
    table,
  );
  told.say("You name the network, then all are measured.");
  return { root };
}

/** The networks in the order of their fall, with the eps of each. */
function ranking(found, guess, most) {
  const row = ({ name, eps }) => {
    const width = `width:${100 * Math.min(1, eps / most)}%`;
    const bar = h("i", { class: name === guess ? "guess" : "budget", style: width });
    return [h("dt", {}, name), h("dd", {}, bar, h("b", {}, Number.isFinite(eps) ? tidy(eps) : `not by ${tidy(most)}`))];
  };
  return h("dl", { class: "lab-lengths" }, ...found.flatMap(row));
}
