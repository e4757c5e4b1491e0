"""The dial: frames that were computed once, under one or two sliders."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..data.defaults import plain_defaults
from .export import encode
from .page import Lab, make

MOST = 150_000  # bytes of one dial in a page
UP, DOWN = (224, 116, 8), (128, 100, 200)  # the colours of a signed picture, as in js/ui.js
NOTE = "This is one setting of a dial: with JavaScript you can turn it."


@plain_defaults()
def dial(
    pictures: Mapping[str, Tensor],
    dials: Mapping[str, Sequence[float | str]],
    *,
    says: Sequence[str] | Sequence[Sequence[str]],
    signed: Collection[str] = (),
    curves: Mapping[str, Tensor] | None = None,
    start: Sequence[int] | None = None,
    name: str | None = None,
) -> Lab:
    """Pictures that change as a reader turns one or two dials: nothing is computed in the page, every frame is stored in it.

    Args:
        pictures: name -> frames (n, H, W), or (n, k, H, W) where there are two dials of n and k places. Grey values in [0, 1].
        dials: name -> its places. Numbers make a slider that stops at each; words make a row of buttons.
        says: a sentence for each frame, n of them or n lists of k: what is to be seen there. It stands under the pictures, and a screen
            reader speaks it with the value.
        signed: names of pictures with a sign instead, of any size: orange up, purple down, each frame scaled to its own largest entry.
        curves: name -> values (n) or (n, k), one or two lines over the first dial, on which the present place is marked.
        start: the place to begin at, an index for each dial; default: the middle of a slider, the first button.
        name: ends the HTML id; without one the id follows from the content.

    Raises:
        ValueError: no picture, not one or two dials, a dial with fewer than two places or with numbers and words, frames, sentences or
            curves that do not fit the dials, values or places that are not finite, values outside [0, 1], an unknown signed picture, a
            start that is not there, and more than 150,000 bytes in all.
    """
    if len(dials) not in (1, 2):
        raise ValueError(f"there are {len(dials)} dials; expected one or two")
    if few := [key for key, places in dials.items() if len(places) < 2]:
        raise ValueError(f"the dial {few[0]!r} has {len(dials[few[0]])} places; expected at least two")
    for key, places in dials.items():
        _check_places(key, places)
    if not pictures:
        raise ValueError("pictures is empty; expected at least one")
    if unknown := sorted(set(signed) - set(pictures)):
        raise ValueError(f"unknown signed picture {unknown[0]!r}; expected some of {', '.join(pictures)}")
    counts = tuple(len(places) for places in dials.values())
    if start is None:
        start = [0 if _words(places) else len(places) // 2 for places in dials.values()]
    if len(start) != len(counts) or not all(0 <= i < n for i, n in zip(start, counts, strict=True)):
        raise ValueError(f"start is {list(start)}; expected an index for each dial, below {counts}")
    panels = [_panel(key, frames, counts, key in signed) for key, frames in pictures.items()]
    sentences = _sentences(says, counts)
    spec = {
        "dials": {key: _places(places) for key, places in dials.items()},
        "start": [int(i) for i in start],
        "pictures": panels,
        "says": sentences,
        "curves": {key: _curve(key, values, counts) for key, values in (curves or {}).items()},
    }
    if len(spec["curves"]) > 2:
        raise ValueError(f"there are {len(spec['curves'])} curves; expected at most two")
    frame = start[0] if len(counts) == 1 else start[0] * counts[1] + start[1]
    made = make("dial", spec, _still(pictures, signed, counts, frame, _where(dials, start), sentences[frame]), name)
    if (size := len(made.html(script=False))) > MOST:
        raise ValueError(f"the dial weighs {size} bytes; expected at most {MOST}: store fewer or smaller frames")
    return made


def _check_places(key: str, places: Sequence[float | str]) -> None:
    if len({isinstance(place, str) for place in places}) > 1:
        raise ValueError(f"the dial {key!r} has the places {list(places)}; expected numbers alone, or words alone")
    if odd := [place for place in places if not isinstance(place, str) and not math.isfinite(place)]:
        raise ValueError(f"the dial {key!r} has the place {odd[0]}; expected finite numbers")


def _words(places: Sequence[float | str]) -> bool:
    return isinstance(places[0], str)


def _places(places: Sequence[float | str]) -> dict[str, Any]:
    """What a place is worth, and how it is written: a word counts by its position."""
    if _words(places):
        return {"values": list(range(len(places))), "texts": [str(place) for place in places], "words": True}
    return {"values": [float(f"{place:.6g}") for place in places], "texts": [_written(float(place)) for place in places], "words": False}


def _written(place: float) -> str:
    """Three digits, or six where three would need a power of ten to say a large number: 1234, not 1.23e+03."""
    text = f"{place:.3g}"
    return f"{place:.6g}" if "e+" in text else text


def _where(dials: Mapping[str, Sequence[float | str]], start: Sequence[int]) -> str:
    """``"t = 150, digit: 4"``."""
    words = [(key, _words(places), _places(places)["texts"][i]) for (key, places), i in zip(dials.items(), start, strict=True)]
    return ", ".join(f"{key}: {text}" if word else f"{key} = {text}" for key, word, text in words)


def _panel(key: str, frames: Tensor, counts: tuple[int, ...], signed: bool) -> dict[str, object]:
    """A picture's frames, one byte a pixel: 0 to 255 for grey, 128 + 127 times the share of the largest entry where signed."""
    frames = frames.detach().cpu().float()
    if frames.ndim != len(counts) + 2 or tuple(frames.shape[:-2]) != counts:
        shape = ", ".join([*map(str, counts), "H", "W"])
        raise ValueError(f"the frames of {key!r} have shape {tuple(frames.shape)}; expected ({shape})")
    if not frames.isfinite().all():
        raise ValueError(f"a frame of {key!r} is not finite")
    if not signed and not (0 <= frames.min() and frames.max() <= 1):
        raise ValueError(f"{key!r} ranges over [{frames.min():g}, {frames.max():g}]; expected values in [0, 1], or its name in signed")
    height, width = frames.shape[-2:]
    flat = frames.reshape(-1, height, width)
    data = 128 + 127 * _shares(flat) if signed else 255 * flat
    return {"name": key, "signed": signed, "width": width, "height": height, "frames": encode(data.round(), "uint8")}


def _shares(frames: Tensor) -> Tensor:
    """Each frame (N, H, W) over its own largest entry; nothing stays nothing."""
    largest = frames.abs().amax((1, 2), keepdim=True)
    return frames / torch.where(largest > 1e-12, largest, math.inf)


def _sentences(says: Sequence[str] | Sequence[Sequence[str]], counts: tuple[int, ...]) -> list[str]:
    rows = [[row] for row in says] if len(counts) == 1 else [list(row) for row in says]
    lengths = {len(row) for row in rows}
    if len(rows) != counts[0] or lengths != {counts[1] if len(counts) == 2 else 1}:
        shape = f"{counts[0]} sentences" if len(counts) == 1 else f"{counts[0]} lists of {counts[1]} sentences"
        raise ValueError(f"says has {len(rows)} entries of {sorted(lengths)}; expected {shape}")
    return [str(sentence) for row in rows for sentence in row]


def _curve(key: str, values: Tensor, counts: tuple[int, ...]) -> list[float]:
    values = torch.as_tensor(values).double()
    if tuple(values.shape) not in (counts, counts[:1]):
        raise ValueError(f"the curve {key!r} has shape {tuple(values.shape)}; expected {counts} or {counts[:1]}")
    if not values.isfinite().all():
        raise ValueError(f"the curve {key!r} is not finite")
    if values.ndim < len(counts):
        values = values[:, None].expand(counts)
    most = values.abs().max().item()
    places = max(4, 3 - math.floor(math.log10(most))) if most > 0 else 4  # a curve of small numbers does not become a line of zeros
    return [round(value, places) for value in values.flatten().tolist()]


def _still(pictures: Mapping[str, Tensor], signed: Collection[str], counts: tuple[int, ...], frame: int, where: str, sentence: str) -> str:
    """What readers without JavaScript see: one setting, in pictures and words."""
    cells = []
    for key, frames in pictures.items():
        shown = frames.detach().cpu().float().flatten(0, len(counts) - 1)[frame]
        data = base64.b64encode(_png(shown, key in signed)).decode()
        picture = f'<img alt="{html.escape(key)}" width="112" height="112" src="data:image/png;base64,{data}">'
        cells.append(f"<figure>{picture}<figcaption>{html.escape(key)}</figcaption></figure>")
    words = f"{html.escape(where)}. {html.escape(sentence)} {NOTE}"
    return f'<div class="lab-figures">{"".join(cells)}</div><p>{words}</p>'


def _png(picture: Tensor, signed: bool) -> bytes:
    """A PNG of (H, W): grey, or orange and purple on nothing."""
    if signed:
        share = _shares(picture[None])[0]
        colour = torch.where(share[..., None] > 0, torch.tensor(UP), torch.tensor(DOWN))
        pixels = torch.cat([colour, (255 * share.abs() ** 0.65).round()[..., None].long()], dim=-1)
    else:
        pixels = (255 * picture).round()
    file = io.BytesIO()
    Image.fromarray(pixels.to(torch.uint8).numpy()).save(file, "PNG", compress_level=0)
    return file.getvalue()
