"""Half an hour on one GPU: ResNet-18 on all of CIFAR-10, method by method, in three stages of nine minutes at most.

    python scripts/gpu_half_hour.py networks  --data PATH --out DIR    step times; standard, adversarial, slope, one image, noise
    python scripts/gpu_half_hour.py diffusion --data PATH --out DIR    a diffusion model, nearest neighbour, class mean
    python scripts/gpu_half_hour.py attacks   --data PATH --out DIR    score-based, PAG + slope; cosines, a picture, verdicts
    python scripts/gpu_half_hour.py all       --data PATH --out DIR    the three, one after the other
    python scripts/gpu_half_hour.py join BACK ... --out DIR            put together what stages brought home

PATH is a .npz of JPEG images, a folder with train/ and test/, or the one with torchvision's cifar-10-batches-py; nothing is fetched. A
stage measures before it promises: what does not fit in its time is left out, and half-hour.json in DIR says what and why. What was
stopped goes on when the stage is called again. DIR/back holds what to bring home: at most 8 files of at most 16 MiB.
"""

from __future__ import annotations

import argparse
import sys
import time
import zipfile
from functools import partial
from pathlib import Path

STARTED = time.monotonic()  # before what takes long to import
ROOT = Path(__file__).resolve().parents[1]
STAGES = ("networks", "diffusion", "attacks")
NEEDS = (
    "gpu_half_hour: this needs an NVIDIA GPU that PyTorch can use, and torch.cuda.is_available() is False here; "
    "--dry-run rehearses every stage on the CPU in a minute"
)


def main(arguments: list[str] | None = None) -> int:
    """Returns 0: done; 1: a job failed, the others were done; 2: the call was wrong, or there is no GPU."""
    args = _parser().parse_intermixed_args(arguments)
    if args.what != "join" and not args.dry_run:
        import torch

        if not torch.cuda.is_available():
            print(NEEDS, file=sys.stderr)
            return 2
    try:
        sys.path[:0] = [str(ROOT), *_unpacked(args.wheels, args.out)]
        if args.folders and args.what != "join":
            raise ValueError(f"{args.what} takes no folders, and {args.folders[0]} is given; expected options only")
        return _join(args) if args.what == "join" else _run(args)
    except (ValueError, FileNotFoundError) as error:
        print(f"gpu_half_hour: {error}", file=sys.stderr)
        return 2


def _run(args: argparse.Namespace) -> int:
    import torch
    from half_hour import attacks, diffusion, home, jobs, photographs, picture, plan, state

    if args.data is None and not args.dry_run:
        raise ValueError("no --data; expected the photographs: a .npz of JPEG images, or a folder")
    scale, device = (plan.TOY, "cpu") if args.dry_run else (plan.Scale(), "cuda")
    doing = {
        "times": jobs.measure_times, "train": jobs.train, "ddpm": diffusion.train, "scores": diffusion.directions,
        "looks": jobs.looks, "picture": picture.draw, "attack": attacks.attack,
    }  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    known, began = state.load(args.out), STARTED
    task = photographs.load(args.data) if args.data else photographs.toy()
    card = type(task)(task.name, task.classes, task.bounds, task.train.to(device), task.test)
    few, whole, left = photographs.few(task.test, scale.photographs, skip=scale.skip), True, []
    for stage in STAGES if args.what == "all" else (args.what,):
        clock = plan.Clock(60 * args.minutes, started=began)
        work = jobs.Work(args.out, task, card, few, torch.device(device), scale, clock, known, args.commit, args.dry_run)
        known.machine = torch.cuda.get_device_name() if device == "cuda" else "a rehearsal on the CPU"
        where = f"{known.machine}, torch {torch.__version__}"
        work.say(f"{stage}: {args.minutes:g} minutes on {where}; {len(task.train)} photographs to train on")
        back = args.back or args.out / "back"
        whole &= jobs.run(stage, work, doing, partial(home.pack, args.out, back, stage, known))
        left = home.pack(args.out, back, stage, known)
        known.save(args.out)
        work.say(f"{stage}: done; {back} is what to bring home" + (f", for the next stage {', '.join(left)}" if left else ""))
        home.pack(args.out, back, stage, known)
        began = time.monotonic()
    return 0 if whole else 1


def _join(args: argparse.Namespace) -> int:
    from half_hour import home

    if not args.folders:
        raise ValueError("no folder to join; expected those that stages brought home")
    print(f"{args.out}: {', '.join(home.join(args.folders, args.out)) or 'results only, no weights'}")
    return 0


def _unpacked(wheels: Path | None, out: Path) -> list[str]:
    """The packages of a folder of wheels, unpacked into ``out``/site; they come before those that are installed."""
    if wheels is None:
        return []
    if not wheels.is_dir():
        raise ValueError(f"no folder {wheels}; expected one with wheels")
    for wheel in sorted(wheels.glob("*.whl")):
        if (out / "site" / f"{'-'.join(wheel.name.split('-')[:2])}.dist-info").is_dir():
            continue
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(out / "site")
    return [str(out / "site")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("gpu_half_hour", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="all", choices=(*STAGES, "all", "join"), help="a stage (default: all)")
    parser.add_argument("folders", nargs="*", type=Path, help="for join: what stages brought home, the last one last")
    parser.add_argument("--data", type=Path, help="the photographs")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "half-hour", help="where everything is kept (default runs/half-hour)")
    parser.add_argument("--back", type=Path, help="where what is brought home is written (default OUT/back)")
    parser.add_argument("--minutes", type=float, default=9.0, help="that a stage may take (default 9)")
    parser.add_argument("--dry-run", action="store_true", help="rehearse on the CPU, everything of toy size")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels to take missing packages from, such as diffusers and pyautoattack")
    parser.add_argument("--commit", default="", help="what results name as the commit where there is no checkout")
    return parser


if __name__ == "__main__":
    sys.exit(main())
