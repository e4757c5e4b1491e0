// FGSM and PGD, step for step those of pagkit.attacks: a threat owns start, step and projection; one loop serves both norms.

/** z_c - log sum_{j != c} exp(z_j): log p_c - log(1 - p_c), in a form that cannot saturate. */
export function logOdds(logits, label) {
  return logits[label] - logSumExp(logits.filter((_, j) => j !== label));
}

function logSumExp(values) {
  const top = Math.max(...values);
  return top + Math.log(values.reduce((sum, v) => sum + Math.exp(v - top), 0));
}

export const argmax = (values) => values.reduce((best, v, i) => (v > values[best] ? i : best), 0);

/** The L2 length of v. */
export function length(v) {
  let sum = 0;
  for (let i = 0; i < v.length; i++) sum += v[i] * v[i];
  return Math.sqrt(sum);
}

export const distance = (a, b) => length(a.map((v, i) => v - b[i]));

/** Slope of the log-odds of `label` with respect to each logit. */
export function logOddsSlope(logits, label) {
  const others = logSumExp(logits.filter((_, j) => j !== label));
  return logits.map((z, j) => (j === label ? 1 : -Math.exp(z - others)));
}

/** Slope of log p_label of the logits times `scale`, in 32-bit steps as PyTorch takes them: where p rounds to 1, it is zero. */
function logProbabilitySlope(logits, label, scale = 1) {
  const f = Math.fround;
  const z = Array.from(logits, (v) => f(f(v) * scale));
  const top = Math.max(...z);
  const total = f(Math.log(z.reduce((sum, v) => f(sum + f(Math.exp(f(v - top)))), 0)));
  return logits.map((_, j) => scale * ((j === label) - f(Math.exp(f(f(z[j] - top) - total)))));
}

/** What an attack may climb: each raises the confidence in a label, and an untargeted attack lowers it. */
export const LOSSES = {
  "log-odds": logOddsSlope,
  "cross-entropy": logProbabilitySlope,
  "cross-entropy x1000": (logits, label) => logProbabilitySlope(logits, label, 1000),
};

/** v divided by its length; zeros stay zeros, tiny vectors keep their direction. */
export function unit(v) {
  const largest = v.reduce((most, a) => Math.max(most, Math.abs(a)), 0);
  if (!largest) return v.slice();
  const w = v.map((a) => a / largest);
  const long = length(w);
  return w.map((a) => a / long);
}

/** Random numbers in [0, 1) that a seed repeats (mulberry32). */
export function randomFrom(seed) {
  let state = (seed + 0x9e3779b9) | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** A direction that favours no side, `size` numbers of length 1. */
export function randomDirection(size, random) {
  const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return unit(Float64Array.from({ length: size }, normal));
}

/** What an attacker may do: move x by at most eps in `norm` ("l2" or "linf"), inside `bounds`. As pagkit.attacks.Threat. */
export function threat(norm, eps, bounds = [0, 1]) {
  if (norm !== "l2" && norm !== "linf") throw new RangeError(`unknown norm ${norm}; expected l2 or linf`);
  if (!(eps >= 0 && eps < Infinity)) throw new RangeError(`eps is ${eps}; expected a finite number >= 0`);
  const [low, high] = bounds;
  const clip = (v) => Math.min(high, Math.max(low, v));
  const project = (z, x) => {
    const delta = z.map((v, i) => v - x[i]);
    if (norm === "linf") return x.map((v, i) => clip(v + Math.min(eps, Math.max(-eps, delta[i]))));
    const share = Math.min(1, eps / Math.max(length(delta), 1e-30));
    return x.map((v, i) => clip(v + share * delta[i]));
  };
  return {
    norm,
    eps,
    bounds,
    project,
    step(x, gradient, size) {
      const direction = norm === "linf" ? gradient.map(Math.sign) : unit(gradient);
      return x.map((v, i) => v + size * direction[i]);
    },
    randomStart(x, random) {
      if (norm === "linf")
        return project(
          x.map((v) => v + eps * (2 * random() - 1)),
          x,
        );
      const direction = randomDirection(x.length, random);
      const far = eps * random() ** (1 / x.length);
      return project(
        x.map((v, i) => v + far * direction[i]),
        x,
      );
    },
  };
}

/**
 * Projected gradient descent from x, whose class is `label`, one step each time the caller asks.
 *
 * Options: norm, eps, bounds; steps (40); stepSize (2.5 eps / steps); target: a class to reach, else any wrong one will do;
 * start: a point, "random" (with `seed`), or nothing for x itself; loss: one of LOSSES; wrongWay: turn the sign, a classic mistake.
 * Yields each point from the start on: {point, logits, gradient, raw}. `gradient` is what the attack climbs, and `raw` the step before its
 * projection; the last point has neither.
 */
export function* walk(net, x, label, options = {}) {
  const { norm = "l2", eps, bounds = [0, 1], steps = 40, target = null, start = null, seed = 0 } = options;
  const { loss = "log-odds", wrongWay = false } = options;
  const stepSize = options.stepSize ?? (2.5 * eps) / steps;
  const allowed = threat(norm, eps, bounds);
  if (!(steps >= 1)) throw new RangeError(`steps is ${steps}; expected at least 1`);
  if (!(stepSize > 0 || eps === 0)) throw new RangeError(`stepSize is ${stepSize}; expected a number > 0`);
  if (!LOSSES[loss]) throw new RangeError(`unknown loss ${loss}; expected one of ${Object.keys(LOSSES).join(", ")}`);
  x = Float64Array.from(x);
  let point = x;
  if (start === "random") point = allowed.randomStart(x, randomFrom(seed));
  else if (start) point = allowed.project(Float64Array.from(start), x);
  const goal = target ?? label;
  const sign = (target === null ? -1 : 1) * (wrongWay ? -1 : 1);
  const idle = eps === 0 || target === label;
  for (let step = 0; step < steps && !idle; step++) {
    const [logits, gradient] = net.pull(point, (z) => LOSSES[loss](z, goal).map((v) => sign * v));
    const raw = allowed.step(point, gradient, stepSize);
    yield { point, logits, gradient, raw };
    point = allowed.project(raw, x);
  }
  yield { point, logits: net.logits(point) };
}

/**
 * The whole walk.
 * @returns {{x: number[], path: number[][], raw: number[][], read: number[]}} the last point, all points from the start on, each
 *   step before its projection, and the class read at each point.
 */
export function pgd(net, x, label, options = {}) {
  const places = [...walk(net, x, label, options)];
  return {
    x: places.at(-1).point,
    path: places.map(({ point }) => point),
    raw: places.slice(0, -1).map(({ raw }) => raw),
    read: places.map(({ logits }) => argmax(logits)),
  };
}

/** One step of length eps, the fast gradient (sign) method. */
export const fgsm = (net, x, label, options) => pgd(net, x, label, { ...options, steps: 1, stepSize: options.eps, start: null });

/**
 * The smallest eps, to `tolerance` of `most`, at which this attack changes what the network reads; null for none up to `most`.
 * A longer reach does not always help an attack, so eighths of `most` are tried from below, and then halves between the last two.
 */
export function* smallestEps(net, x, label, most, options, tolerance = 1 / 256) {
  const falls = (eps) => pgd(net, x, label, { ...options, eps }).read.some((c) => c !== label);
  if (argmax(net.logits(x)) !== label) return 0;
  const part = most / 8;
  let high = part;
  for (; !falls(high); yield) if ((high += part) > most * 1.001) return null;
  for (let low = high - part; high - low > tolerance * most; yield) {
    const middle = (low + high) / 2;
    if (falls(middle)) high = middle;
    else low = middle;
  }
  return high;
}
