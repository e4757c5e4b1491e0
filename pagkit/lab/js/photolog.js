// Where it went: the attacks that turned a photograph, newest first. Each can be looked at again, and saved as a picture.

import { button, h, picture, tidy } from "./ui.js";

const KEPT = 8;
const NORMS = { l2: "L2", linf: "L∞" };

/** {root, add}. `again(state)` is called with the settings of a line that a reader comes back to. */
export function journal(side, again) {
  const list = h("ol", { class: "lab-log" });
  const lines = [];
  const root = h("div", { hidden: true }, h("b", { class: "lab-name" }, "Where it went"), list);
  /** `after` says what the network reads, at `last`, of what was `before`; `hit` is the step at which it first was wrong. */
  function add({ state, last, before, after, hit }) {
    const { net, norm, eps, steps, target, photo, label, x } = state;
    const key = [photo, net, norm, target].join();
    const pictures = [picture(side, before, 3), picture(side, after, 3)];
    pictures[0].draw(x);
    pictures[1].draw(last.point);
    const how = `${net}, ${NORMS[norm]} ${tidy(eps)}, step ${hit} of ${steps}`;
    const kept = { net, norm, eps, steps, target, x, label, photo };
    const said = `${before} → ${after}`;
    const line = h(
      "li",
      {},
      ...pictures.map(({ root: canvas }) => canvas),
      h("div", {}, h("b", {}, said), h("span", {}, how)),
      h("div", { class: "lab-row" }, button("Again", () => again(kept)), button("Save", () => save(pictures, said, how))),
    );
    const old = lines.findIndex((one) => one.key === key);
    if (old >= 0) lines.splice(old, 1);
    lines.unshift({ key, line });
    lines.length = Math.min(lines.length, KEPT);
    list.replaceChildren(...lines.map((one) => one.line));
    root.hidden = false;
  }
  return { root, add };
}

/** Before and after as one picture, with a line below that says how. */
function save(pictures, said, how) {
  const [size, gap, foot] = [416, 16, 76];
  const canvas = h("canvas", { width: 2 * size + 3 * gap, height: size + 2 * gap + foot });
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#ffffff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.imageSmoothingEnabled = false;
  pictures.forEach(({ root }, i) => pen.drawImage(root, gap + i * (size + gap), gap, size, size));
  pen.fillStyle = "#1f2328";
  pen.font = "bold 26px system-ui, sans-serif";
  pen.fillText(said, gap, size + 2 * gap + 26);
  pen.font = "18px system-ui, sans-serif";
  pen.fillText(how, gap, size + 2 * gap + 58);
  h("a", { href: canvas.toDataURL("image/png"), download: `${said.replace(/\W+/g, "-").replace(/-$/, "")}.png` }).click();
}
