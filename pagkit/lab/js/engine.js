// A network on one input: forward, and the gradient of any function of its logits with respect to that input.
//
// A layer is {shape, run}: `shape` of what it gives, and `run(x)` -> [y, back], where `back(slope of y)` is the slope of x.
// Arrays are flat and typed, images channel by channel, row by row.

import { products, turned, windows } from "./kernels.js";

/** The numbers behind base64 text, as `kind`: float64, float32, float16 or int8. All little-endian. */
export function decode(text, kind) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
  if (kind === "float16") return Float32Array.from(new Uint16Array(bytes.buffer), half);
  const types = { float64: Float64Array, float32: Float32Array, int8: Int8Array, uint8: Uint8Array };
  return new types[kind](bytes.buffer);
}

/** A float16 from its 16 bits. */
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
}

/** Images from bytes: x in [0, 1] is a byte over `levels`. */
export function unpack({ x, y, levels }, size) {
  const bytes = decode(x, "uint8");
  const labels = decode(y, "uint8");
  return Array.from(labels, (label, i) => ({
    x: Float64Array.from(bytes.subarray(i * size, (i + 1) * size), (v) => v / levels),
    label,
  }));
}

/** Weights as float32; int8 times the scale of its output channel. */
function weights({ dtype, data, scale }) {
  const values = decode(data, dtype);
  if (!scale) return values;
  const scales = decode(scale, "float32");
  const row = values.length / scales.length;
  return Float32Array.from(values, (value, i) => value * scales[Math.floor(i / row)]);
}

/**
 * A packed network (pagkit.lab.pack), ready to run.
 * @returns {{shape: number[], size: number, classes: number, logits: Function, pull: Function}}
 *   logits(x): the logits. pull(x, slope): [logits, gradient with respect to x], where slope(logits) gives the slope of each logit.
 */
export function compile(packed) {
  const { run } = chain(packed.layers, packed.shape);
  const size = packed.shape.reduce((a, b) => a * b, 1);
  const start = (x) => {
    if (x.length !== size) throw new RangeError(`an input has ${x.length} numbers; this network takes ${size}`);
    return run(Float64Array.from(x));
  };
  return {
    shape: packed.shape,
    size,
    classes: packed.classes,
    logits: (x) => start(x)[0],
    pull(x, slope) {
      const [logits, back] = start(x);
      return [logits, back(slope(logits))];
    },
  };
}

/** Layers one after the other. */
function chain(specs, shape) {
  const runs = [];
  for (const spec of specs) {
    const layer = LAYERS[spec.kind](spec, shape);
    runs.push(layer.run);
    shape = layer.shape;
  }
  const run = (x) => {
    const backs = runs.map((one) => {
      const [y, back] = one(x);
      x = y;
      return back;
    });
    return [x, (slope) => backs.reduceRight((s, back) => back(s), slope)];
  };
  return { shape, run };
}

const LAYERS = {
  flatten: (_, shape) => ({ shape: [shape.reduce((a, b) => a * b, 1)], run: (x) => [x, (slope) => slope] }),
  reshape: (spec) => ({ shape: spec.shape, run: (x) => [x, (slope) => slope] }),
  normalize,
  dense,
  conv,
  act,
  residual,
};

/** (x - mean) / std, one value for all or one a channel. */
function normalize(spec, shape) {
  const mean = decode(spec.mean, "float32");
  const std = decode(spec.std, "float32");
  const run = (x) => {
    const share = mean.length / x.length;
    const at = (i) => Math.floor(i * share);
    return [x.map((v, i) => (v - mean[at(i)]) / std[at(i)]), (slope) => slope.map((v, i) => v / std[at(i)])];
  };
  return { shape, run };
}

/** W x + b. */
function dense(spec) {
  const weight = weights(spec.weight);
  const bias = spec.bias && decode(spec.bias, "float32");
  const outputs = spec.outputs;
  const inputs = weight.length / outputs;
  const back = (slope) => {
    const result = new Float64Array(inputs);
    for (let o = 0, k = 0; o < outputs; o++) {
      const s = slope[o];
      for (let i = 0; i < inputs; i++, k++) result[i] += s * weight[k];
    }
    return result;
  };
  const run = (x) => {
    const y = new Float64Array(outputs);
    for (let o = 0, k = 0; o < outputs; o++) {
      let sum = bias ? bias[o] : 0;
      for (let i = 0; i < inputs; i++, k++) sum += weight[k] * x[i];
      y[o] = sum;
    }
    return [y, back];
  };
  return { shape: [outputs], run };
}

/** A convolution with a square kernel; zeros around the image. Both ways are one product of matrices. */
function conv(spec, shape) {
  const [inputs, height, width] = shape;
  const weight = weights(spec.weight);
  const bias = spec.bias && decode(spec.bias, "float32");
  const outputs = spec.outputs;
  const depth = weight.length / outputs;
  const turn = turned(weight, outputs, depth);
  const { rows, columns, gather, scatter } = windows(shape, spec);
  const pixels = rows * columns;
  const patches = new Float64Array(pixels * depth); // kept: the zeros outside the image are written once
  const slopes = new Float64Array(pixels * outputs);
  const sums = new Float64Array(pixels * depth);
  const back = (slope) => {
    const result = new Float64Array(inputs * height * width);
    products(turn, turned(slope, outputs, pixels, slopes), sums, depth, pixels, outputs);
    scatter(sums, result);
    return result;
  };
  const run = (x) => {
    const y = new Float64Array(outputs * pixels);
    gather(x, patches);
    products(weight, patches, y, outputs, pixels, depth);
    if (bias) for (let o = 0, k = 0; o < outputs; o++) for (let n = 0; n < pixels; n++, k++) y[k] += bias[o];
    return [y, back];
  };
  return { shape: [outputs, rows, columns], run };
}

/** An activation: its value, and its slope on the way back. */
function act(spec, shape) {
  const [value, slope] = ACTIVATIONS[spec.name];
  return { shape, run: (x) => [x.map(value), (s) => s.map((v, i) => v * slope(x[i]))] };
}

const sigmoid = (v) => 1 / (1 + Math.exp(-v));
const bell = (v) => Math.exp((-v * v) / 2) / Math.sqrt(2 * Math.PI);

const ACTIVATIONS = {
  relu: [(v) => (v > 0 ? v : 0), (v) => (v > 0 ? 1 : 0)],
  silu: [(v) => v * sigmoid(v), (v) => sigmoid(v) * (1 + v * (1 - sigmoid(v)))],
  gelu: [(v) => v * normal(v), (v) => normal(v) + v * bell(v)],
};

/** The share of a standard normal below v: a series near zero, a continued fraction in the tails; exact to 1e-14. */
function normal(v) {
  const a = Math.abs(v);
  let tail;
  if (a < 3) {
    let term = a;
    let sum = a;
    for (let k = 1; Math.abs(term) > 1e-17 * sum; k++) sum += term *= (a * a) / (2 * k + 1);
    tail = 0.5 - bell(a) * sum;
  } else {
    let fraction = 0;
    for (let k = 40; k > 0; k--) fraction = k / (a + fraction);
    tail = bell(a) / (a + fraction);
  }
  return v > 0 ? 1 - tail : tail;
}

/** act(skip(x) + body(x)). */
function residual(spec, shape) {
  const body = chain(spec.body, shape);
  const skip = chain(spec.skip, shape);
  const last = chain(spec.act, body.shape);
  const run = (x) => {
    const [a, backA] = body.run(x);
    const [b, backB] = skip.run(x);
    const [y, backY] = last.run(a.map((v, i) => v + b[i]));
    return [
      y,
      (slope) => {
        const s = backY(slope);
        const other = backB(s);
        return backA(s).map((v, i) => v + other[i]);
      },
    ];
  };
  return { shape: body.shape, run };
}
