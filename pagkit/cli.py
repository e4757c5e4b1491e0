"""The command line: ``pagkit run RECIPE`` trains, evaluates and writes result.json; ``pagkit --help`` tells the rest.

Heavy libraries are imported once a call has been understood, so that help and a mistyped call are answered at once.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__, streams
from .recipe import KEYS, SETTING, Recipe, recipe_names

if TYPE_CHECKING:
    from .results import Result

EXAMPLES = """examples:
  pagkit recipes                                       what there is to run
  pagkit run digits-pag-nn --seed 1                    train and evaluate in one go
  pagkit train digits-pag-nn --run runs/long           train with checkpoints; Ctrl-C stops it
  pagkit train digits-pag-nn --run runs/long --resume  go on where it stopped
  pagkit evaluate runs/long                            measure what was trained, or measure more of it
  pagkit leaderboard runs                              a table of all that was measured
"""
WRONG = (ValueError, TypeError, ImportError, FileNotFoundError, FileExistsError, NotADirectoryError, PermissionError)  # a wrong call


@streams.settled()
def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 done, 1 the run failed, 2 the call was wrong, 130 stopped by Ctrl-C."""
    args = _parser().parse_args(argv := sys.argv[1:] if argv is None else list(argv))
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: _say(f"warning: {message}")
            status = int(args.call(args))
            sys.stdout.flush()
            return status
    except BrokenPipeError:  # who read has enough, as `head` does
        return 0
    except (ValueError, TypeError, ImportError, FloatingPointError, OSError) as error:
        _say(error)
        _say_notes(error)
        return 2 if isinstance(error, WRONG) else 1
    except KeyboardInterrupt as stop:
        if kept := sorted(Path(args.run).glob("checkpoint-[0-9]*.pt")) if args.call is _train else []:  # no import: it may be stopped
            again = shlex.join(["pagkit", *argv, *([] if args.resume else ["--resume"])])
            _say(f"stopped; {kept[-1]} is kept, and this command goes on from it:\n  {again}")
        elif not _say_notes(stop, "stopped; "):
            _say("stopped; no result was written")
        return 130


def _run(args: argparse.Namespace) -> int:
    recipe = _recipe(args)
    from . import experiment

    out = Path(args.out or Path("runs") / f"{recipe.name}-seed{recipe.seed}".replace("/", "_"))
    result = experiment.run(recipe, out=out, folder=args.data, device=args.device, progress=sys.stderr.isatty())
    _show(result)
    _print(f"trained in {result.provenance['train_seconds']} s; wrote {out / 'result.json'} and model.safetensors beside it")
    return 0


def _train(args: argparse.Namespace) -> int:
    recipe, bar = _recipe(args), sys.stderr.isatty()
    from . import experiment

    how = {"folder": args.data, "resume": args.resume, "device": args.device, "log": args.log}
    origin = experiment.train(recipe, run=args.run, **how, tell=None if bar else streams.tell, progress=bar)
    _print(f"trained in {origin['train_seconds']} s on {origin['data']}; wrote {Path(args.run) / experiment.WEIGHTS}")
    _print(f"measure it with: {shlex.join(['pagkit', 'evaluate', args.run])}")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from . import experiment

    if args.checklist[1:]:
        raise ValueError(f"--checklist is given {len(args.checklist)} times; expected one threat a call")
    how = {"metrics": args.metric, "checklist": (args.checklist or [None])[0], "settings": args.set, "batch_size": args.batch_size}
    _show(experiment.evaluate(args.run, **how, device=args.device, progress=sys.stderr.isatty()))
    _print(f"wrote {Path(args.run) / experiment.result_name(args.set)}")
    return 0


def _leaderboard(args: argparse.Namespace) -> int:
    from . import results
    from .results import leaderboard

    folder = args.folder or next((name for name in ("book/results", "runs") if Path(name).is_dir()), "runs")
    found = results.load_all(folder)
    if not found:
        raise ValueError(f"no result.json below {folder}; `pagkit run` and `pagkit evaluate` write them")
    published = results.load_published(path) if (path := Path(folder) / "published.yaml").is_file() else ()
    print(*leaderboard.boards(found, published), leaderboard.CELL, sep="\n\n")
    return 0


def _recipes(args: argparse.Namespace) -> int:
    if args.name is not None:
        return _explain(Recipe.load(args.name))
    names = recipe_names()
    for name in names:
        print(f"{name:<{max(map(len, names))}}  {Recipe.load(name).description}")
    return 0


def _explain(recipe: Recipe) -> int:
    """What a recipe says, key by key, each with its meaning and range; then the keys that it leaves at their defaults."""
    said = [name for name, key in KEYS.items() if getattr(recipe, name) != key.default and name not in ("name", "description")]
    rows = []
    for name in said:
        inside = [part for part in recipe.mappings() if part[0].split(".")[0] == name]
        rows += [] if inside else [(name, getattr(recipe, name), KEYS[name])]
        for where, options, known in inside:
            rows += [(f"{where}.{option}", value, known[option]) for option, value in options.items()] or [(where, options, KEYS[name])]
    print(f"{recipe.name}: {recipe.description}")
    for name, value, key in rows:
        print(f"\n{name}: {value}\n    {key.means} ({key.expected})")
    left = [f"{name}: {key.default}" for name, key in KEYS.items() if name not in (*said, *recipe.unread(), "name", "description")]
    print("\nnot said, and so", ", ".join(left))
    return 0


def _recipe(args: argparse.Namespace) -> Recipe:
    return Recipe.load(args.recipe, *args.set, **({} if args.seed is None else {"seed": args.seed}))


def _show(result: Result) -> None:
    _print(f"{result.recipe}, seed {result.seed}, on {result.provenance['data']}")
    figures = {**result.metrics, **{f"alignment with {name}": f"{cosine:.3f}" for name, cosine in result.alignment.items()}}
    for name, figure in figures.items():
        _print(f"  {name:<{max(map(len, figures))}}  {figure}")
    for checklist in result.checklists:
        _print(checklist)


def _print(message: object) -> None:
    """For process 0 only: the others have the same to say."""
    from .training import processes

    if processes.rank() == 0:
        print(message)


def _say(message: object) -> None:
    if isinstance(message, OSError) and message.strerror:
        message = f"{message.filename}: {message.strerror}" if message.filename else message.strerror
    streams.tell(f"pagkit: {message}")


def _say_notes(error: BaseException, before: str = "") -> bool:
    """What the library has noted on an error, and whether that was something."""
    for note in (notes := getattr(error, "__notes__", [])):
        _say(f"{before}{note}")
    return bool(notes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pagkit",
        description="Run the experiments of the book. `pagkit COMMAND --help` tells more of each command.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pagkit {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, call: object, text: str, more: str = "") -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}. {more}")
        command.set_defaults(call=call)
        return command

    command = add("run", _run, "train and evaluate one recipe, write result.json")
    _add_recipe(command)
    command.add_argument("--out", metavar="DIR", help="where to write (default runs/RECIPE-seedN)")
    more = "DIR gets recipe.yaml first, a checkpoint at the end of each epoch and every two minutes within one, model.safetensors last."
    command = add("train", _train, "train one recipe with checkpoints; can be stopped and resumed", more)
    _add_recipe(command)
    command.add_argument("--run", metavar="DIR", required=True, help="where to write; a folder for each training")
    command.add_argument("--resume", action="store_true", help="go on from the last checkpoint in DIR, if there is one")
    command.add_argument("--log", action="store_true", help="write losses and schedules to DIR/tensorboard, for TensorBoard")
    more = "It does what the recipe says: clean and robust accuracy, alignment, the gradient-masking checklist; and what is asked here."
    command = add("evaluate", _evaluate, "measure what `pagkit train` or `run` left in a folder, write result.json there", more)
    command.add_argument("run", metavar="DIR", type=_folder, help="the folder that was given to `pagkit train --run` or `pagkit run --out`")
    command.add_argument("--metric", metavar="NAME", action="append", default=[], help="measure this too, such as autoattack-l2-0.5")
    command.add_argument("--checklist", metavar="NORM-EPS", action="append", default=[], help="run it at this threat, such as l2-0.5")
    _add_settings(command, "measure otherwise, such as metrics.pgd-l2-0.5.steps=100")
    command.add_argument("--batch-size", metavar="N", type=_whole("batch size", 1), help="so many examples at a time")
    _add_device(command)
    more = "A cell: median over the seeds in %, its 95 % interval, lowest to highest seed. An empty one was not measured."
    command = add("leaderboard", _leaderboard, "print a table for each task, a row for each recipe", more)
    command.add_argument("folder", metavar="FOLDER", nargs="?", help="all result files below it (default book/results, else runs)")
    command = add("recipes", _recipes, "list the recipes that come with pagkit, or explain one, key by key")
    command.add_argument("name", metavar="NAME", nargs="?", help="a recipe, or a .yaml file")
    return parser


def _add_recipe(command: argparse.ArgumentParser) -> None:
    command.add_argument("recipe", metavar="RECIPE", type=_named, help="a name (see `pagkit recipes`) or a .yaml file")
    command.add_argument("--seed", type=_whole("seed", 0), help="of data, weights and batches (default: the recipe's own, else 0)")
    _add_settings(command, "change a key of the recipe")
    command.add_argument("--data", metavar="PATH", type=_folder, help="use the images of this folder: train/<class>/ and test/<class>/")
    _add_device(command)


def _add_settings(command: argparse.ArgumentParser, text: str) -> None:
    command.add_argument("--set", metavar="KEY=VALUE", type=_setting, action="append", default=[], help=text)


def _add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", help="cpu, cuda, ... (default auto: a GPU where CUDA finds one, else the CPU)")


def _setting(text: str) -> str:
    if not re.match(r"[\w.-]+=", text):
        raise argparse.ArgumentTypeError(f"setting is {text!r}; expected KEY=VALUE, such as weight=0.1")
    if re.split("[.=]", text)[0] in ("seed", "name"):
        raise argparse.ArgumentTypeError(f"setting is {text!r}; the seed is set with --seed, and the name is made of the settings")
    return text


def _named(text: str) -> str:
    """A recipe, whose name may carry settings."""
    for setting in SETTING.split(text)[1:]:
        _setting(setting)
    return text


def _folder(text: str) -> str:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"no folder {text}")
    return text


def _whole(name: str, least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{name} is {text!r}; expected a whole number >= {least}")
        return int(text)

    return number
