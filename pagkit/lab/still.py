"""What a lab shows where its script does not run: a still picture, drawn with the same networks."""

from __future__ import annotations

import base64
import html
import struct
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .. import attacks, exact
from ..attacks import Threat
from ..data import Split, Task

NOTE = "This is a lab: with JavaScript you can attack the networks right here."


def plane(model: nn.Module, points: Split, box: tuple[float, float, float, float], start: tuple[float, float], focus: int) -> str:
    """An SVG: who wins where, the data, a start, and where it is known the exact boundary with the start's exact radius as a circle."""
    left, right, bottom, top = box
    scale = 300 / max(right - left, top - bottom)

    def at(x: float, y: float) -> tuple[str, str]:
        return f"{(x - left) * scale:.1f}", f"{(top - y) * scale:.1f}"

    wide, high = (right - left) * scale, (top - bottom) * scale
    shade = base64.b64encode(_map(model, box, focus, round(wide / 3), round(high / 3))).decode()
    parts = [f'<image width="{wide:.0f}" height="{high:.0f}" preserveAspectRatio="none" href="data:image/png;base64,{shade}"/>']
    try:
        lines, radius = exact.boundary(model, box), exact.radius(model, torch.tensor([start])).item()
    except ValueError:
        lines, radius = torch.zeros(0, 2, 2), None
    for (x1, y1), (x2, y2) in lines.tolist():
        (a, b), (c, d) = at(x1, y1), at(x2, y2)
        parts.append(f'<path d="M{a} {b}L{c} {d}" stroke="#1f2328" fill="none"/>')
    for (x, y), label in zip(points.x.tolist(), points.y.tolist(), strict=True):
        cx, cy = at(x, y)
        parts.append(f'<circle cx="{cx}" cy="{cy}" r="2.5" fill="{"#0072b2" if label == focus else "#d55e00"}"/>')
    cx, cy = at(*start)
    if radius is not None:
        parts.append(f'<circle cx="{cx}" cy="{cy}" r="{radius * scale:.1f}" stroke="#0b7a4f" stroke-width="2" fill="none"/>')
    parts.append(f'<circle cx="{cx}" cy="{cy}" r="4" fill="#1f2328"/>')
    known = "" if radius is None else f" The circle is the exact radius of one start, {radius:.1f}: no attack ends inside it."
    picture = f'<svg viewBox="0 0 {wide:.0f} {high:.0f}" width="{wide:.0f}" height="{high:.0f}" role="img" aria-label="The plane">'
    return f"{picture}{''.join(parts)}</svg><p>{NOTE}{known}</p>"


def digits(models: Mapping[str, nn.Module], task: Task, digit: Split, norm: str, eps: float, steps: int) -> str:
    """A row of pictures: one digit, and how each network's attack changes it."""
    threat = Threat(norm, eps, task.bounds)
    was = task.classes[int(digit.y)]
    cells = [f"<figure>{_image(digit.x[0, 0], task.bounds)}<figcaption>a {html.escape(was)}</figcaption></figure>"]
    for name, model in models.items():
        x_adv = attacks.pgd(model, digit.x, digit.y, threat, steps=steps, random_start=False, keep="last")
        with torch.no_grad():
            read = task.classes[int(model(x_adv).argmax(1))]
        caption = f"{html.escape(name)}: after the attack it reads {html.escape(read)}"
        cells.append(f"<figure>{_image(x_adv[0, 0], task.bounds)}<figcaption>{caption}</figcaption></figure>")
    return f'<div class="lab-figures">{"".join(cells)}</div><p>{NOTE}</p>'


def photo(was: str, x: Tensor, frames: Mapping[str, Tensor], reads: Mapping[str, str], how: str) -> str:
    """A photograph (C, H, W) of a ``was``, and what each network's attack made of it, pixels from 0 to 1; ``how`` tells the attack."""
    captions = [f"the photograph: {was}", *(f"{name}: after the attack it reads {reads[name]}" for name in frames)]
    figures = "".join(
        f"<figure>{_picture((picture * 255).round().to(torch.uint8), 220)}<figcaption>{html.escape(caption)}</figcaption></figure>"
        for picture, caption in zip((x, *frames.values()), captions, strict=True)
    )
    return f'<div class="lab-figures lab-photos">{figures}</div><p>The attack: {html.escape(how)}.</p><p class="lab-note">{NOTE}</p>'


def _image(x: Tensor, bounds: tuple[float, float]) -> str:
    """A grey image (H, W), in sixteen steps: finer ones would differ from processor to processor."""
    return _picture(sixteen((x - bounds[0]) / (bounds[1] - bounds[0]))[None], 112)


def sixteen(x: Tensor) -> Tensor:
    """Numbers in [0, 1] as bytes of sixteen values."""
    return ((x * 15).round().clamp(0, 15) * 17).to(torch.uint8)


def _picture(x: Tensor, side: int) -> str:
    """Bytes (C, H, W), grey or in colours, as an <img> that holds its PNG."""
    data = base64.b64encode(_png(x)).decode()
    return f'<img alt="" width="{side}" height="{side}" src="data:image/png;base64,{data}">'


def _map(model: nn.Module, box: tuple[float, float, float, float], focus: int, columns: int, rows: int) -> bytes:
    """A PNG of two pale greys: the class ``focus``, where its log-odds are positive, is the lighter one."""
    left, right, bottom, top = box
    x1 = left + (torch.arange(columns) + 0.5) / columns * (right - left)
    x2 = top - (torch.arange(rows) + 0.5) / rows * (top - bottom)
    points = torch.stack(torch.meshgrid(x1, x2, indexing="xy"), dim=-1).view(-1, 2)
    with torch.no_grad():
        odds = attacks.log_odds(model(points), torch.full((len(points),), focus))
    return _png(torch.where(odds > 0, 235, 190).view(1, rows, columns).to(torch.uint8))


def _png(x: Tensor) -> bytes:
    """A PNG of bytes (C, H, W), grey or in colours. Stored without compression, so that every machine writes the same bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    channels, height, width = x.shape
    rows = b"".join(b"\0" + bytes(row) for row in x.permute(1, 2, 0).flatten(1).tolist())
    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 0)) + chunk(b"IEND", b"")
