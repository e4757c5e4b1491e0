// What happened, in words: broken or not, and if not, whose fault that is.

import { tidy } from "./ui.js";

/** Length of a - b in the norm. */
export function far(norm, a, b) {
  const [u, v] = [Math.abs(a[0] - b[0]), Math.abs(a[1] - b[1])];
  return norm === "l2" ? Math.hypot(u, v) : Math.max(u, v);
}

/**
 * A short verdict and a sentence that explains it: {broken, head, why}.
 * @param found what pgd returned; `radius` the exact distance to the boundary, null where none is known.
 */
export function explain({ point, label, norm, eps, steps, stepSize, wrongWay, loss }, found, radius, classes) {
  const reach = steps * stepSize;
  const first = found.read.findIndex((c) => c !== label);
  const moved = far(norm, found.x, point);
  if (first === 0 && far(norm, found.path[0], point) === 0) {
    return {
      broken: true,
      head: "Wrong from the start. ",
      why: `No attack is needed: this point is read as ${classes[found.read[0]]}.`,
    };
  }
  if (first >= 0) {
    const short = radius !== null ? ` The boundary was ${tidy(radius)} away.` : "";
    return {
      broken: true,
      head: first ? `Broken at step ${first}. ` : "Broken by the random start. ",
      why: `Read as ${classes[found.read[first]]}.${short}`,
    };
  }
  const held = (why) => ({ broken: false, head: "Not broken. ", why });
  if (eps === 0) return held("An eps of 0 allows nothing.");
  if (radius !== null && radius > eps) return held(`And nothing within eps could: the boundary is ${tidy(radius)} away.`);
  const could = radius === null ? "" : ` The boundary is ${tidy(radius)} away, well inside eps.`;
  const near = radius === null ? "" : ` The boundary is ${tidy(radius)} away.`;
  if (moved === 0 && loss !== "log-odds")
    return held(`It never moved: the loss has saturated and its gradient is exactly zero.${could}`);
  if (wrongWay) return held(`The sign is wrong: each step makes the network surer of itself.${near}`);
  if (reach < (radius ?? eps))
    return held(`All steps together are ${tidy(reach)} long: too short a walk, not a strong network.${near}`);
  return held(
    radius === null
      ? "This attack did not find a way. That proves nothing."
      : `The attack missed it: the boundary is ${tidy(radius)} away, and eps is ${tidy(eps)}. Try other steps, or a random start.`,
  );
}
