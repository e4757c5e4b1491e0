"""The command line: ``pagkit run RECIPE`` trains, evaluates and writes result.json."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from . import __version__, data, evaluation, models, results, training


def run(recipe: training.Recipe, *, out: str | Path, folder: str | Path | None = None, progress: bool = True) -> results.Result:
    """Train and evaluate ``recipe``, then write ``out``/model.safetensors and ``out``/result.json.

    Args:
        recipe: with ``recipe.seed`` set.
        out: a folder; made if missing.
        folder: take the images of this folder (train/<class>/, test/<class>/) in place of the recipe's data.
        progress: show bars.

    Raises:
        ValueError, FileNotFoundError: bad recipe or data; found before any training.
        pagkit.training.TrainingDiverged: a loss that is not finite.
    """
    for metric in recipe.metrics:
        evaluation.parse_metric(metric)
    name = recipe.task if folder is None else f"folder:{folder}"
    options = {"seed": recipe.seed, **recipe.data} if folder is None else {}
    task = data.load(name, **options)
    model = models.build(recipe.model, task, seed=recipe.seed, **recipe.model_options)
    Path(out).mkdir(parents=True, exist_ok=True)
    history = training.fit(model, task, recipe, progress=progress)
    started = time.perf_counter()
    metrics = {"clean": {}, **recipe.metrics}
    scores = {m: evaluation.measure(model, task, m, progress=progress, **how) for m, how in metrics.items()}
    where = results.provenance(task, train_seconds=history.seconds, evaluate_seconds=time.perf_counter() - started)
    result = results.Result(recipe.name, task.name, recipe.seed, scores, where)
    results.save_weights(Path(out) / "model.safetensors", model.state_dict())
    results.save(Path(out) / "result.json", result)
    return result


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
    recipe = training.Recipe.load(args.recipe, seed=args.seed)
    out = Path(args.out or Path("runs") / f"{recipe.name}-seed{args.seed}")
    result = run(recipe, out=out, folder=args.data, progress=sys.stderr.isatty())
    print(f"{result.recipe}, seed {result.seed}, on {result.provenance['data']}")
    width = max(map(len, result.metrics))
    for metric, score in result.metrics.items():
        print(f"  {metric:<{width}}  {score}")
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
    command.add_argument("--data", metavar="PATH", help="use the images of this folder: train/<class>/ and test/<class>/")
    command.add_argument("--out", metavar="DIR", help="where to write (default runs/RECIPE-seedN)")
    command.set_defaults(call=_run)
    command = commands.add_parser("recipes", help="list the recipes that come with pagkit")
    command.set_defaults(call=_recipes)
    return parser


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"seed is {text!r}; expected a whole number >= 0")
    return int(text)
