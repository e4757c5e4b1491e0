// A pad to draw a digit on. Ink lands on 32 x 32 dots, and a pixel of the 8 x 8 image is the share of its 4 x 4 dots with ink:
// the way in which the digits of the data set were once made from paper.

import { button, h } from "./ui.js";

const DOTS = 32, SIDE = 8, BLOCK = DOTS / SIDE, BRUSH = 2.1;

/** {root, focus}: `onDraw(x)` is called with 64 numbers in [0, 1] whenever the ink changes. */
export function drawingPad(onDraw) {
  const ink = new Uint8Array(DOTS * DOTS), cursor = [13.5, 7.5];
  let rubbing = false, last = null;
  const label = "Drawing pad. Arrow keys move the pen, Space inks a spot, Shift with an arrow draws, Backspace rubs out.";
  const canvas = h("canvas", { width: DOTS * 6, height: DOTS * 6, class: "lab-pad", tabindex: 0, role: "application", "aria-label": label });

  const stamp = ([x, y], value) => {
    for (let i = 0; i < ink.length; i++) {
      if (Math.hypot(i % DOTS - x, Math.floor(i / DOTS) - y) <= BRUSH) ink[i] = value;
    }
  };
  const stroke = (from, to, value) => {
    const steps = Math.max(1, Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1])));
    for (let k = 0; k <= steps; k++) stamp([from[0] + (to[0] - from[0]) * k / steps, from[1] + (to[1] - from[1]) * k / steps], value);
  };
  const image = () => {
    const x = new Float64Array(SIDE * SIDE);
    ink.forEach((dot, i) => { x[Math.floor(i / DOTS / BLOCK) * SIDE + Math.floor(i % DOTS / BLOCK)] += dot / BLOCK ** 2; });
    return x;
  };
  const show = () => {
    const pen = canvas.getContext("2d"), side = canvas.width / SIDE, dot = canvas.width / DOTS;
    image().forEach((v, i) => {
      pen.fillStyle = `rgb(${[v, v, v].map((g) => Math.round(255 * g)).join(",")})`;
      pen.fillRect(i % SIDE * side, Math.floor(i / SIDE) * side, side, side);
    });
    if (document.activeElement === canvas) {
      pen.strokeStyle = "#e8a317";
      pen.lineWidth = 3;
      pen.beginPath();
      pen.arc((cursor[0] + 0.5) * dot, (cursor[1] + 0.5) * dot, BRUSH * dot, 0, 7);
      pen.stroke();
    }
  };
  const done = () => {
    show();
    onDraw(image());
  };
  const place = (event) => {
    const frame = canvas.getBoundingClientRect();
    return [(event.clientX - frame.left) / frame.width * DOTS - 0.5, (event.clientY - frame.top) / frame.height * DOTS - 0.5];
  };
  const to = (event) => {
    const at = place(event);
    stroke(last ?? at, at, rubbing ? 0 : 1);
    last = at;
    done();
  };
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); to(event); });
  canvas.addEventListener("pointermove", (event) => last && to(event));
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { last = null; });
  for (const change of ["focus", "blur"]) canvas.addEventListener(change, show);
  const keys = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    const move = keys[event.key], before = [...cursor];
    if (!move && event.key !== " " && event.key !== "Backspace") return;
    event.preventDefault();
    if (move) move.forEach((by, axis) => { cursor[axis] = Math.min(DOTS - 1, Math.max(0, cursor[axis] + 2 * by)); });
    if (move && !event.shiftKey) return show();
    stroke(before, cursor, event.key === "Backspace" ? 0 : 1);
    done();
  });
  const rubber = button("Rubber", () => rubber.setAttribute("aria-pressed", String(rubbing = !rubbing)), { "aria-pressed": "false" });
  const clear = button("Clear", () => { ink.fill(0); done(); });
  show();
  return { root: h("div", { class: "lab-drawing" }, canvas, h("div", { class: "lab-row" }, rubber, clear)), focus: canvas };
}
