// A pad to draw a digit on. Ink lands on 32 x 32 dots. As the digits of the data set once were, it is centred and scaled to fill the
// square, and then a pixel of the 8 x 8 image is the share of its 4 x 4 dots with ink.

import { button, h } from "./ui.js";

const DOTS = 32;
const SIDE = 8;
const BLOCK = DOTS / SIDE;
const BRUSH = 2.1;

/** {root, focus}: `onDraw(x)` is called with 64 numbers in [0, 1] whenever the ink changes. */
export function drawingPad(onDraw) {
  const ink = new Uint8Array(DOTS * DOTS);
  const cursor = [13.5, 7.5];
  let rubbing = false;
  let last = null;
  const label = "Drawing pad. Arrow keys move the pen, Space inks a spot, Shift with an arrow draws, Backspace rubs out.";
  const canvas = h("canvas", {
    width: DOTS * 6,
    height: DOTS * 6,
    class: "lab-pad",
    tabindex: 0,
    role: "application",
    "aria-label": label,
  });

  const show = () => {
    const pen = canvas.getContext("2d");
    const dot = canvas.width / DOTS;
    pen.fillStyle = "black";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.fillStyle = "white";
    ink.forEach((inked, i) => inked && pen.fillRect((i % DOTS) * dot, Math.floor(i / DOTS) * dot, dot, dot));
    if (canvas.matches(":focus-visible")) {
      pen.strokeStyle = "#e8a317";
      pen.lineWidth = 3;
      pen.beginPath();
      pen.arc((cursor[0] + 0.5) * dot, (cursor[1] + 0.5) * dot, BRUSH * dot, 0, 7);
      pen.stroke();
    }
  };
  const done = () => {
    show();
    onDraw(shrink(ink));
  };
  const place = (event) => {
    const frame = canvas.getBoundingClientRect();
    return [((event.clientX - frame.left) / frame.width) * DOTS - 0.5, ((event.clientY - frame.top) / frame.height) * DOTS - 0.5];
  };
  const to = (event) => {
    const at = place(event);
    stroke(ink, last ?? at, at, rubbing ? 0 : 1);
    last = at;
    [cursor[0], cursor[1]] = at;
    done();
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    to(event);
  });
  canvas.addEventListener("pointermove", (event) => last && to(event));
  for (const end of ["pointerup", "pointercancel"])
    canvas.addEventListener(end, () => {
      last = null;
    });
  for (const change of ["focus", "blur"]) canvas.addEventListener(change, show);
  const keys = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    const move = keys[event.key];
    const before = [...cursor];
    if (!move && event.key !== " " && event.key !== "Backspace") return;
    event.preventDefault();
    if (move)
      move.forEach((by, axis) => {
        cursor[axis] = Math.min(DOTS - 1, Math.max(0, cursor[axis] + 2 * by));
      });
    if (move && !event.shiftKey) return show();
    stroke(ink, before, cursor, event.key === "Backspace" ? 0 : 1);
    done();
  });
  const rubber = button("Rubber", () => rubber.setAttribute("aria-pressed", String((rubbing = !rubbing))), {
    "aria-pressed": "false",
  });
  const clear = button("Clear", () => {
    ink.fill(0);
    done();
  });
  show();
  return { root: h("div", { class: "lab-drawing" }, canvas, h("div", { class: "lab-row" }, rubber, clear)), focus: canvas };
}

/** Set every dot within the brush of the line from one point to another. */
function stroke(ink, from, to, value) {
  const steps = Math.max(1, Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1])));
  for (let k = 0; k <= steps; k++) {
    const x = from[0] + ((to[0] - from[0]) * k) / steps;
    const y = from[1] + ((to[1] - from[1]) * k) / steps;
    for (let i = 0; i < ink.length; i++) {
      if (Math.hypot((i % DOTS) - x, Math.floor(i / DOTS) - y) <= BRUSH) ink[i] = value;
    }
  }
}

/** The 8 x 8 image of the ink, moved to the middle and made to fill the square (but no more than twice as large). */
function shrink(ink) {
  const x = new Float64Array(SIDE * SIDE);
  const rows = [];
  const columns = [];
  ink.forEach((inked, i) => inked && (rows.push(Math.floor(i / DOTS)), columns.push(i % DOTS)));
  if (!rows.length) return x;
  const span = (values) => [Math.min(...values), Math.max(...values) + 1];
  const [top, bottom] = span(rows);
  const [left, right] = span(columns);
  const scale = Math.max(bottom - top, right - left, DOTS / 2) / DOTS;
  const at = (k, low, high) => Math.floor((low + high) / 2 + (k + 0.5 - DOTS / 2) * scale);
  for (let i = 0; i < ink.length; i++) {
    const row = at(Math.floor(i / DOTS), top, bottom);
    const column = at(i % DOTS, left, right);
    const inside = row >= 0 && row < DOTS && column >= 0 && column < DOTS;
    if (inside && ink[row * DOTS + column])
      x[Math.floor(i / DOTS / BLOCK) * SIDE + Math.floor((i % DOTS) / BLOCK)] += 1 / BLOCK ** 2;
  }
  return x;
}
