"""The library keeps its order: imports run one way, rooms stay small, and the maps name what is there."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import time
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import pagkit
from tests.helpers import ROOT

HOUSE = ROOT / "pagkit"
FILES = sorted(HOUSE.rglob("*.py"))
WINGS = sorted(path.parent for path in HOUSE.glob("*/__init__.py") if path.parent.name != "recipes")
ORDER = re.findall(r"^- ``(\w+)``", pagkit.__doc__, flags=re.M)  # the one place where it stands: the top of pagkit/__init__.py
LIGHT = ("--version", "--help", "recipes", "recipes digits-pag-nn", "run nope", "run digits-standard --set epochs=x", "fly")


def name(path: Path) -> str:
    """``attacks.pgd`` of pagkit/attacks/pgd.py, ``attacks`` of pagkit/attacks/__init__.py."""
    parts = path.relative_to(HOUSE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name(path) for path in FILES}


def imports(path: Path) -> set[str]:
    """The modules of the library that a file imports, wherever in it: at the top, in a function, for types."""
    here, found = (path.parent.relative_to(HOUSE).parts), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("pagkit.") for alias in node.names if alias.name.startswith("pagkit.")}
        elif isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == "pagkit"):
            base = here[: len(here) + 1 - node.level] if node.level else ()
            base = ".".join([*base, *([node.module.removeprefix("pagkit").lstrip(".")] if node.module else [])]).strip(".")
            for alias in node.names:
                inside = f"{base}.{alias.name}".strip(".")
                found.add(inside if inside in NAMES else base)
    return found - {""}


def wing(module: str) -> str:
    return "recipe" if module.startswith("recipes") else module.split(".")[0]


@pytest.mark.parametrize("path", [p for p in FILES if name(p) not in ("", "__main__")], ids=name)
def test_imports_run_down_the_list(path: Path) -> None:
    own = wing(name(path))
    up = sorted(module for module in imports(path) if wing(module) != own and ORDER.index(wing(module)) < ORDER.index(own))
    assert not up, f"{path.name} imports what stands above it in pagkit/__init__.py: {', '.join(up)}"


def test_no_room_of_a_wing_goes_round_in_a_circle() -> None:
    rooms = [path for path in FILES if path.name != "__init__.py"]
    within = {name(path): {m for m in imports(path) if wing(m) == wing(name(path)) and m != wing(m)} for path in rooms}
    tuple(TopologicalSorter(within).static_order())  # raises CycleError


def test_the_list_names_every_room() -> None:
    found = {path.stem for path in HOUSE.glob("[a-z]*.py")} | {path.name for path in WINGS}
    assert sorted(ORDER) == sorted(found)


@pytest.mark.parametrize("folder", WINGS, ids=lambda folder: folder.name)
def test_a_wing_opens_on_its_map(folder: Path) -> None:
    tree = ast.parse((folder / "__init__.py").read_text())
    kinds = {type(node) for node in tree.body[1:]}
    assert kinds <= {ast.ImportFrom, ast.Assign}, "an __init__.py hands on names and does nothing"
    named = re.findall(r"^- ``(\w+)``", ast.get_docstring(tree), flags=re.M)
    assert sorted(named) == sorted(path.stem for path in folder.glob("[a-z]*.py"))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_rooms_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 250
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)]
    assert not [f.name for f in functions if f.end_lineno - f.lineno >= 80]


@pytest.mark.parametrize("call", LIGHT)
def test_the_command_line_answers_before_anything_heavy_is_imported(call: str, tmp_path: Path) -> None:
    code = f"""import sys
from pagkit import cli
try:
    cli.main({call.split()})
except SystemExit:
    pass
assert not {{"torch", "numpy", "matplotlib", "diffusers"}} & set(sys.modules)"""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    assert time.perf_counter() - started < 5, "0.2 s on a calm machine"


def test_a_wheel_holds_every_wing_and_recipe(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77")
    for part in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / part, tmp_path)
    shutil.copytree(HOUSE, tmp_path / "pagkit", ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", "dist", "."]
    subprocess.run(build, check=True, cwd=tmp_path, capture_output=True)
    (wheel,) = (tmp_path / "dist").iterdir()
    away = tmp_path / "away"
    shutil.unpack_archive(wheel, away / "site", "zip")
    inside = {path.relative_to(away / "site") for path in (away / "site" / "pagkit").rglob("*.*")}
    assert {path.relative_to(ROOT) for path in HOUSE.rglob("*.*") if "__pycache__" not in path.parts} == inside

    def pagkit_there(*arguments: str) -> str:
        command = [sys.executable, "-c", "import pagkit.cli as c, sys; print(c.__file__); sys.exit(c.main(sys.argv[1:]))", *arguments]
        alone = {"PYTHONPATH": str(away / "site"), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=away, capture_output=True, text=True, env=alone)
        assert done.returncode == 0 and str(away) in done.stdout.splitlines()[0], done.stderr
        return done.stdout

    assert "digits-pag-sbg" in pagkit_there("recipes")
    quick = ["epochs=1", "metrics={exact-l2-15: {}}", "checklist={}", "data={train_per_class: 300, test_per_class: 30}"]
    assert "exact-l2-15" in pagkit_there("run", "three-modes-standard", *(word for part in quick for word in ("--set", part)))
