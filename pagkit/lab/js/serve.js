// Attacks on request, one step at a time, for whoever asks by messages: a worker's scope, or an object that plays one.

import { argmax, walk } from "./attack.js";
import { compile } from "./engine.js";

/**
 * Answer the messages of `scope`. It is sent {load: name, packed} for each network and then {job, nets, x, label, options}: an attack on each of them,
 * in turn. It answers {job, net, step, point, logits, gradient, read, took, others} for each point as it comes; `took` is in milliseconds.
 * The last point has no gradient, but `others`: what each other network reads there. Or {job, error}. A new job ends the old one.
 */
export function serve(scope) {
  const nets = {};
  let current = null;
  const go = (job, steps) => {
    if (job !== current) return;
    try {
      const { done, value } = steps.next();
      if (done) return;
      scope.postMessage({ job, ...value });
      setTimeout(() => go(job, steps));
    } catch (error) {
      scope.postMessage({ job, error: error.message });
    }
  };
  function* attacks({ nets: names, x, label, options }) {
    for (const net of names) {
      let step = 0;
      let from = performance.now();
      for (const { point, logits, gradient = null } of walk(nets[net], x, label, options)) {
        const took = performance.now() - from;
        const rest = gradient ? null : Object.keys(nets).filter((name) => name !== net);
        const others = rest && Object.fromEntries(rest.map((name) => [name, argmax(nets[name].logits(point))]));
        yield { net, step: step++, point, logits, gradient, read: argmax(logits), took, others };
        from = performance.now();
      }
    }
  }
  scope.onmessage = ({ data }) => {
    if (data.load) nets[data.load] = compile(data.packed);
    else go((current = data.job), attacks(data));
  };
}
