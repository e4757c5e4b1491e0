// How the networks of the photograph lab come into the page: on a click, from files beside it.

import { button, h, readout } from "./ui.js";

/** The still picture with a button that fetches the networks and says first how much that is. */
export function gate(root, far, load) {
  const bytes = far.reduce((sum, [, net]) => sum + net.bytes, 0);
  const told = readout();
  told.root.hidden = true;
  const say = (...parts) => {
    told.root.hidden = false;
    told.say(...parts);
  };
  const start = button(
    `Attack one yourself: load ${far.length > 1 ? `the ${far.length} networks` : "the network"} (${(bytes / 1e6).toFixed(1)} MB)`,
    () => {
      start.disabled = true;
      load((text) => say(`Loading ${text}`)).catch((error) => {
        start.disabled = false;
        say(`${error.message} In a live notebook, .widget() brings the networks along.`);
      });
    },
    { class: "lab-play" },
  );
  const still = root.querySelector(".lab-still");
  root.replaceChildren(...(still ? [still] : []), h("div", { class: "lab-row lab-gate" }, start, told.root));
}

/** What the file at `src` says under `key`. A classic script, which a page from a file may load too. */
export function fetched(src, key) {
  const known = () => globalThis.pagkitNets?.[key];
  return new Promise((done, fail) => {
    if (known()) return done(known());
    const script = h("script", { src });
    script.onload = () => (known() ? done(known()) : fail(new Error(`${src} holds another network.`)));
    script.onerror = () => fail(new Error(`${src} could not be loaded.`));
    document.head.append(script);
  });
}

/** A function that does its work once; after a failure it may be tried again. */
export function once(work) {
  let promise = null;
  return (...given) => {
    promise ??= work(...given);
    promise.catch(() => {
      promise = null;
    });
    return promise;
  };
}
