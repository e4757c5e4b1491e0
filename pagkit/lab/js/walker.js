// Attacks off the main thread: a worker made of this very script. Where a page may have none, the same code runs between two frames.

/* global WORKER */ // kernels, engine, attack and serve as the text of a worker: pagkit/lab/script.py writes it in front of this module

import { serve } from "./serve.js";

/** {load, start, where}: `load(name, packed)`; `start(job)` answers to `listen`, see `serve`. `where()` is "worker" or "page". */
export function walker(listen) {
  const loaded = [];
  let asked = null;
  let heard = false;
  let where = "worker";
  let send = null;
  const here = () => {
    const scope = { postMessage: (data) => setTimeout(() => listen(data)) };
    serve(scope);
    where = "page";
    send = (data) => scope.onmessage({ data });
    for (const message of [...loaded, ...(asked ? [asked] : [])]) send(message);
  };
  try {
    const address = URL.createObjectURL(new Blob([WORKER], { type: "text/javascript" }));
    const worker = new Worker(address);
    worker.onmessage = ({ data }) => {
      heard = true;
      listen(data);
    };
    worker.onerror = (event) => {
      if (heard) return;
      event.preventDefault();
      here();
    };
    send = (data) => worker.postMessage(data);
  } catch {
    here();
  }
  return {
    load(name, packed) {
      loaded.push({ load: name, packed });
      send(loaded.at(-1));
    },
    start: (job) => send((asked = job)),
    where: () => where,
  };
}
