"""What is brought home: at most 8 files of at most 16 MiB, 64 MiB together, with plain names; and how they are put together again.

``results.zip`` holds the state, the log, a result file a network, the panels of the picture and samples of the diffusion model,
``picture.png`` the picture, and each ``NAME.1of2.safetensors`` a part of the weights of a network. Every stage brings the weights that
no stage has brought before, as many as there is room for.
"""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from pagkit import models
from pagkit.data.files import write_atomically
from pagkit.experiment import RESULT, WEIGHTS

from . import diffusion, picture, plan
from . import state as states
from .state import State

FILES, PART, ALL = 8, 15 * 2**20, 62 * 2**20  # how many, bytes of one, bytes together: a little less than the limits
ZIP, LOG = "results.zip", "log.txt"


def pack(out: Path, back: Path, stage: str, state: State) -> list[str]:
    """Write ``back`` anew; gives the names of the networks whose weights have no room in it."""
    back.mkdir(parents=True, exist_ok=True)
    kept: dict[str, bytes] = {ZIP: zipped(out)}
    if (out / picture.FILE).is_file():
        kept[picture.FILE] = (out / picture.FILE).read_bytes()
    left, fresh = [], {}
    for name in plan.ORDER:
        if name not in state.done or state.home.get(name, stage) != stage:
            continue
        parts = {path.name: path.read_bytes() for path in back.glob(f"{name}.?of?.safetensors") if name in state.home}
        parts = parts or shares(*models.load_weights(out / name / WEIGHTS), name)
        size = sum(map(len, [*kept.values(), *parts.values()]))
        if len(kept) + len(parts) > FILES or size > ALL:
            left.append(name)
        else:
            kept |= parts
            fresh[name] = stage
    state.home = {name: where for name, where in state.home.items() if where != stage} | fresh
    for path in back.iterdir():
        if path.name not in kept and path.suffix in (".zip", ".png", ".safetensors"):
            path.unlink()
    for name, content in kept.items():
        if not name.endswith(".safetensors") or not (back / name).is_file():
            write_atomically(back / name, content)
    return left


def zipped(out: Path) -> bytes:
    """State, log and result files of ``out``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        more = (out / picture.PANELS, out / "ddpm" / diffusion.SAMPLES)
        for path in [out / states.FILE, out / LOG, *more, *sorted(out.glob(f"*/{RESULT}"))]:
            if path.is_file():
                archive.write(path, path.relative_to(out))
    return buffer.getvalue()


def shares(state: Mapping[str, Tensor], about: dict[str, str], name: str) -> dict[str, bytes]:
    """The weights as the contents of one or more safetensors files, each of at most ``PART`` bytes where its tensors allow it."""
    groups: list[dict[str, Tensor]] = [{}]
    filled = 0
    for key, value in state.items():
        if filled and filled + value.nbytes > PART:
            groups.append({})
            filled = 0
        groups[-1][key] = value
        filled += value.nbytes
    return {f"{name}.{i}of{len(groups)}.safetensors": models.weights.to_bytes(group, about) for i, group in enumerate(groups, 1)}


def join(folders: list[Path], out: Path) -> list[str]:
    """Lay out in ``out`` what some stages brought, the last one last, so that results can be read and the next stage can go on.

    Networks whose weights were not brought count as not done; gives the names of those that are whole.

    Raises:
        FileNotFoundError: a folder without results.zip.
    """
    parts: dict[str, dict[str, Path]] = {}
    for folder in folders:
        if not (folder / ZIP).is_file():
            raise FileNotFoundError(f"no {ZIP} in {folder}; expected the files that a stage brought home")
        with zipfile.ZipFile(folder / ZIP) as archive:
            archive.extractall(out)
        for path in folder.glob("*.safetensors"):
            name, part, _ = path.name.rsplit(".", 2)  # such as 1of2
            parts.setdefault(name, {})[part] = path
        if (folder / picture.FILE).is_file():
            shutil.copy(folder / picture.FILE, out)
    state, whole = states.load(out), []
    for name, found in parts.items():
        if len(found) == int(next(iter(found))[-1]):
            loaded = [models.load_weights(path) for path in found.values()]
            models.save_weights(out / name / WEIGHTS, {k: v for tensors, _ in loaded for k, v in tensors.items()}, loaded[0][1])
            whole.append(name)
    here = {path.parent.name for path in out.glob(f"*/{WEIGHTS}")}
    for job in (job for jobs in plan.STAGES.values() for job in jobs):
        if job.does in ("train", "ddpm", "scores") and job.name not in here:
            state.done.pop(job.name, None)
    state.save(out)
    return whole
