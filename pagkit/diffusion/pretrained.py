"""Diffusion models by recipe: trained once for a data set, then kept."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import nullcontext
from pathlib import Path

import torch

from ..data import Task
from ..data.files import alone, writable
from ..exact import BETAS, STEPS
from ..recipe import SETTING, Recipe, recipe_names
from ..training import processes
from .ddpm import DDPM, build, train

RUN = "model.safetensors"  # in the folder of a run, see pagkit.experiment


def find(source: str | Path, task: Task, *, device: torch.device | str = "cpu", progress: bool = True) -> DDPM:
    """A diffusion model from a file or a folder, or by recipe: trained once for a data set, then kept.

    A recipe's model is kept as safetensors in the folder that the environment variable PAGKIT_CACHE names, by default
    ``~/.cache/pagkit``, under a name made of the recipe, the training data, their bounds and the versions of torch and diffusers. Its
    training has checkpoints beside that file while it lasts: one that was stopped is taken up where it stood.

    Args:
        source: a ``.safetensors`` file that :meth:`pagkit.diffusion.DDPM.save` wrote, a folder of diffusers or of a run, see
            :func:`load_folder`, or the name of a recipe of method ``"ddpm"``. A folder that has a recipe's name, as that of a run
            may, is given with its path: ``./digits-ddpm``.
        task: what the recipe's model is trained on; a file's model is checked by whoever uses it.
        device: where it is trained, and put.
        progress: show a bar while training.

    Raises:
        FileNotFoundError, ValueError: no such file or recipe, and all errors of :meth:`pagkit.diffusion.DDPM.load` and
            :func:`pagkit.diffusion.build`.
    """
    if str(source).endswith(".safetensors"):
        return DDPM.load(source).to(device)
    if is_stored(source):
        return load_folder(source, task).to(device)
    recipe = Recipe.load(source)
    path = _place(recipe, task)
    if not path.is_file():
        with alone(path) if processes.count() == 1 else nullcontext():
            if not path.is_file():  # nobody made it meanwhile
                ddpm, folder = build(recipe, task).to(device), path.with_suffix(".training")
                train(ddpm, task, recipe, run_dir=folder, resume=True, progress=progress)
                if processes.rank() == 0:
                    ddpm.save(path)
                    shutil.rmtree(folder)
        processes.wait()
    return DDPM.load(path).to(device)


def is_stored(source: str | Path) -> bool:
    """Whether a diffusion model is one in a file or a folder, and not a recipe's."""
    if str(source).endswith(".safetensors"):
        return True
    return Path(source).is_dir() and SETTING.split(str(source))[0] not in recipe_names()


def check_cache(source: str | Path, task: Task) -> DDPM | None:
    """Refuse now, not after a training, a recipe's model that :func:`find` could not keep or read; ``source`` and ``task`` as there.

    Returns:
        A recipe's model that has been kept; None where it would be trained, and for one that is stored elsewhere.

    Raises:
        PermissionError: a recipe's model would have to be trained, and the folder for it cannot be written.
        ValueError: unknown recipe; the file that was kept is not whole.
    """
    if is_stored(source):
        return None
    if not (path := _place(Recipe.load(source), task)).is_file():
        writable(cache(), "the environment variable PAGKIT_CACHE names another folder")
        return None
    try:
        return DDPM.load(path)
    except ValueError as error:
        raise ValueError(f"{error}; delete it, and it is trained anew") from error


def _place(recipe: Recipe, task: Task) -> Path:
    """The file of a recipe's model."""
    import diffusers  # here, because it takes a second

    settings = [recipe.epochs, recipe.batch_size, recipe.lr, recipe.flip, recipe.seed, recipe.model_options]
    settings += [recipe.accumulate, recipe.precision]  # these round otherwise
    settings += [task.shape, task.bounds, len(task.classes)]
    digest = hashlib.sha256(json.dumps([*settings, torch.__version__, diffusers.__version__], sort_keys=True).encode())
    for tensor in (task.train.x, task.train.y):
        digest.update(tensor.contiguous().numpy().data)
    return cache() / f"{recipe.name}-{digest.hexdigest()[:12]}.safetensors"


def cache() -> Path:
    """The folder that the environment variable PAGKIT_CACHE names, by default ``~/.cache/pagkit``."""
    return Path(os.environ.get("PAGKIT_CACHE") or "~/.cache/pagkit").expanduser()


def load_folder(folder: str | Path, task: Task) -> DDPM:
    """A U-Net that diffusers wrote with ``save_pretrained``: the folder of the model, or of a pipeline that holds it as ``unet``. Or the
    model that ``pagkit train`` left in a folder, as model.safetensors; whoever uses that checks that it fits.

    It must guess noise, for the classes of ``task`` and one label more, the last, that stands for any class; its images must have the
    shape of the task's, with [-1, 1] for the bounds. Where its scheduler lies beside it, that must have the noise levels of
    :mod:`pagkit.exact`. Nothing is fetched from a network.

    Raises:
        FileNotFoundError: no U-Net there.
        ValueError: one that does not fit, or files that cannot be read.
    """
    folder = Path(folder)
    if (folder / RUN).is_file():
        return DDPM.load(folder / RUN)
    from diffusers import DDPMScheduler, UNet2DModel

    place = folder / "unet" if (folder / "unet").is_dir() else folder
    if not (place / "config.json").is_file():
        raise FileNotFoundError(f"no config.json in {place}; expected a folder that save_pretrained of a diffusers UNet2DModel wrote")
    try:
        unet = UNet2DModel.from_pretrained(place, local_files_only=True, low_cpu_mem_usage=False)
        schedulers = [at for at in (folder / "scheduler", folder) if (at / "scheduler_config.json").is_file()]
        scheduler = DDPMScheduler.from_pretrained(schedulers[0], local_files_only=True) if schedulers else None
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"{place} does not hold a UNet2DModel of diffusers: {error}") from error
    config, labels = unet.config, len(task.classes) + 1
    sides = (config.sample_size,) * 2 if isinstance(config.sample_size, int) else config.sample_size
    for what, found, expected in (
        ("labels", config.num_class_embeds, labels),
        ("image channels", (config.in_channels, config.out_channels), (task.shape[0],) * 2),
        ("image sides", tuple(sides or task.shape[1:]), tuple(task.shape[1:])),
        ("predicts", scheduler.config.prediction_type if scheduler else "epsilon", "epsilon"),
    ):
        if found != expected:
            raise ValueError(f"the diffusion model in {folder} does not fit {task.name}: {what} {found}; expected {expected}")
    betas = BETAS.float() if scheduler is None else scheduler.betas
    if len(betas) != STEPS or not torch.allclose(betas, BETAS.float(), atol=1e-6):
        found = f"{len(betas)} betas from {betas[0]:.4g} to {betas[-1]:.4g}"
        raise ValueError(f"the diffusion model in {folder} has {found}; expected {STEPS} from {BETAS[0]:.4g} to {BETAS[-1]:.4g}")
    return DDPM.around(unet, task.shape, len(task.classes), task.bounds)
