"""The command line: ``pagkit run RECIPE`` trains, evaluates and writes result.json."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from . import __version__, experiment, training


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 done, 1 the run failed, 2 the call was wrong."""
    args = _parser().parse_args(argv)
    try:
        return int(args.call(args))
    except (ValueError, TypeError, FileNotFoundError, PermissionError) as error:
        print(f"pagkit: {error}", file=sys.stderr)
        return 2
    except (training.TrainingDiverged, OSError) as error:
        print(f"pagkit: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("pagkit: stopped; nothing was written", file=sys.stderr)
        return 130


def _run(args: argparse.Namespace) -> int:
    recipe = training.Recipe.load("+".join([args.recipe, *args.set]), seed=args.seed)
    out = Path(args.out or Path("runs") / f"{recipe.name}-seed{args.seed}")
    result = experiment.run(recipe, out=out, folder=args.data, progress=sys.stderr.isatty())
    print(f"{result.recipe}, seed {result.seed}, on {result.provenance['data']}")
    figures = {**result.metrics, **{f"alignment with {name}": f"{cosine:.3f}" for name, cosine in result.alignment.items()}}
    for name, figure in figures.items():
        print(f"  {name:<{max(map(len, figures))}}  {figure}")
    if result.checklist is not None:
        print(result.checklist)
    print(f"trained in {result.provenance['train_seconds']} s; wrote {out / 'result.json'} and model.safetensors beside it")
    return 0


def _recipes(args: argparse.Namespace) -> int:
    names = training.recipe_names()
    for name in names:
        print(f"{name:<{max(map(len, names))}}  {training.Recipe.load(name).description}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pagkit", description="Run the experiments of the book.")
    parser.add_argument("--version", action="version", version=f"pagkit {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("run", help="train and evaluate one recipe, write result.json")
    command.add_argument("recipe", metavar="RECIPE", help="a name (see `pagkit recipes`) or a .yaml file")
    command.add_argument("--seed", type=_seed, default=0, help="of data, weights and batches (default 0)")
    command.add_argument("--set", metavar="KEY=VALUE", type=_setting, action="append", default=[], help="change a key of the recipe")
    command.add_argument("--data", metavar="PATH", help="use the images of this folder: train/<class>/ and test/<class>/")
    command.add_argument("--out", metavar="DIR", help="where to write (default runs/RECIPE-seedN)")
    command.set_defaults(call=_run)
    command = commands.add_parser("recipes", help="list the recipes that come with pagkit")
    command.set_defaults(call=_recipes)
    return parser


def _setting(text: str) -> str:
    if not re.match(r"[\w.]+=", text):
        raise argparse.ArgumentTypeError(f"setting is {text!r}; expected KEY=VALUE, such as weight=0.1")
    return text


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"seed is {text!r}; expected a whole number >= 0")
    return int(text)
