// The loops in which a convolution spends its time. Plain JavaScript has no vector instructions, so what counts is to load each
// number once and use it four times: sixteen sums at a time, over rows that lie one after the other in memory.

/** sums[r, c] = sum over d of a[r, d] b[c, d]: two matrices of `depth` columns, row by row, into one of `rows` x `columns`. */
export function products(a, b, sums, rows, columns, depth) {
  let r = 0;
  for (; r + 3 < rows; r += 4) {
    const a0 = r * depth;
    const a1 = a0 + depth;
    const a2 = a1 + depth;
    const a3 = a2 + depth;
    let c = 0;
    for (; c + 3 < columns; c += 4) {
      const b0 = c * depth;
      const b1 = b0 + depth;
      const b2 = b1 + depth;
      const b3 = b2 + depth;
      let [s00, s01, s02, s03, s10, s11, s12, s13] = [0, 0, 0, 0, 0, 0, 0, 0];
      let [s20, s21, s22, s23, s30, s31, s32, s33] = [0, 0, 0, 0, 0, 0, 0, 0];
      for (let d = 0; d < depth; d++) {
        const w0 = b[b0 + d];
        const w1 = b[b1 + d];
        const w2 = b[b2 + d];
        const w3 = b[b3 + d];
        let v = a[a0 + d];
        s00 += v * w0;
        s01 += v * w1;
        s02 += v * w2;
        s03 += v * w3;
        v = a[a1 + d];
        s10 += v * w0;
        s11 += v * w1;
        s12 += v * w2;
        s13 += v * w3;
        v = a[a2 + d];
        s20 += v * w0;
        s21 += v * w1;
        s22 += v * w2;
        s23 += v * w3;
        v = a[a3 + d];
        s30 += v * w0;
        s31 += v * w1;
        s32 += v * w2;
        s33 += v * w3;
      }
      for (const [k, s0, s1, s2, s3] of [
        [0, s00, s01, s02, s03],
        [1, s10, s11, s12, s13],
        [2, s20, s21, s22, s23],
        [3, s30, s31, s32, s33],
      ]) {
        const at = (r + k) * columns + c;
        sums[at] = s0;
        sums[at + 1] = s1;
        sums[at + 2] = s2;
        sums[at + 3] = s3;
      }
    }
    for (; c < columns; c++) for (let k = 0; k < 4; k++) sums[(r + k) * columns + c] = product(a, b, (r + k) * depth, c * depth, depth);
  }
  for (; r < rows; r++) for (let c = 0; c < columns; c++) sums[r * columns + c] = product(a, b, r * depth, c * depth, depth);
}

function product(a, b, i, j, depth) {
  let sum = 0;
  for (let d = 0; d < depth; d++) sum += a[i + d] * b[j + d];
  return sum;
}

/** A matrix of `rows` x `columns` with its rows as columns. */
export function turned(values, rows, columns, into = new values.constructor(values.length)) {
  for (let r = 0, k = 0; r < rows; r++) for (let c = 0; c < columns; c++, k++) into[c * rows + r] = values[k];
  return into;
}

/**
 * Where a square kernel meets an image: {rows, columns, gather, scatter}. `rows` x `columns` is the size of what comes out.
 * gather(x, patches): one row for each pixel of the output, what the kernel sees there, channel by channel; outside the image, zeros
 * that `patches` holds already. scatter(sums, x): the way back, from one row for each number of the kernel; adds to x.
 */
export function windows([channels, height, width], { kernel, stride, padding }) {
  const count = (side) => Math.floor((side + 2 * padding - kernel) / stride) + 1;
  const [rows, columns] = [count(height), count(width)];
  const [area, input, output] = [kernel * kernel, height * width, count(height) * count(width)];
  const spans = sweep(height, width, rows, columns, { kernel, stride, padding });
  const gather = (x, patches) => {
    const wide = channels * area;
    for (let i = 0; i < channels; i++) {
      for (let t = 0; t < spans.length; t += 4) {
        let to = spans[t + 1] * wide + i * area + spans[t];
        let from = i * input + spans[t + 2];
        for (let n = spans[t + 3]; n > 0; n--, to += wide, from += stride) patches[to] = x[from];
      }
    }
  };
  const scatter = (sums, x) => {
    for (let i = 0; i < channels; i++) {
      for (let t = 0; t < spans.length; t += 4) {
        let from = (i * area + spans[t]) * output + spans[t + 1];
        let to = i * input + spans[t + 2];
        for (let n = spans[t + 3]; n > 0; n--, from++, to += stride) x[to] += sums[from];
      }
    }
  };
  return { rows, columns, gather, scatter };
}

/** For each tap of the kernel and each row: tap, first output, first input, how many; only what lies inside the image. */
function sweep(height, width, rows, columns, { kernel, stride, padding }) {
  const span = (k, side, count) => [
    Math.max(0, Math.ceil((padding - k) / stride)),
    Math.min(count, Math.floor((side - 1 + padding - k) / stride) + 1),
  ];
  const taps = [];
  for (let ky = 0; ky < kernel; ky++) {
    for (let kx = 0; kx < kernel; kx++) {
      const [left, right] = span(kx, width, columns);
      const [top, bottom] = span(ky, height, rows);
      for (let y = top; y < bottom; y++) {
        const from = (y * stride + ky - padding) * width + left * stride + kx - padding;
        if (right > left) taps.push(ky * kernel + kx, y * columns + left, from, right - left);
      }
    }
  }
  return Int32Array.from(taps);
}
