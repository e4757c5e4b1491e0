"""What the labs' tests share: small networks, and node, skipped with a reason where it is missing."""

import json
import shutil
import subprocess
from collections.abc import Callable

import pytest
import torch

from pagkit import data, models
from pagkit.lab.script import code


@pytest.fixture(scope="session")
def toy() -> data.Task:
    return data.load("three-modes", train_per_class=60, test_per_class=60)


@pytest.fixture(scope="session")
def digits() -> data.Task:
    return data.load("digits")


@pytest.fixture(scope="session")
def steep() -> Callable[[torch.nn.Module], torch.nn.Module]:
    """Untrained networks are flat; this makes them decide, so that attacks have something to do."""

    def make(model: torch.nn.Module) -> torch.nn.Module:
        with torch.no_grad():
            list(model.modules())[-1].weight.mul_(30)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def nets(digits, steep) -> dict[str, torch.nn.Module]:
    """One untrained network of each kind that a page runs."""
    return {
        "mlp gelu": steep(models.build("mlp", digits, hidden=[24, 24], activation="gelu")),
        "cnn silu": steep(models.build("cnn", digits, width=6, seed=1)),
        "resnet relu": steep(models.build("resnet-small", digits, widths=[8, 8], activation="relu", seed=2)),
    }


@pytest.fixture(scope="session")
def node(tmp_path_factory) -> Callable[[str, object], object]:
    """Run a script that sees every exported name and ``input``, and returns what it calls ``answer``."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed: what the labs compute is not compared with PyTorch")
    folder = tmp_path_factory.mktemp("node")
    (folder / "labs.mjs").write_text(code(), encoding="utf-8")

    def run(script: str, given: object) -> object:
        (folder / "input.json").write_text(json.dumps(given))
        head = "import * as labs from './labs.mjs'; import fs from 'node:fs'; const input = JSON.parse(fs.readFileSync('input.json'));\n"
        (folder / "run.mjs").write_text(
            f"{head}{script}\nconsole.log(JSON.stringify(answer, (_, v) => ArrayBuffer.isView(v) ? [...v] : v));"
        )
        done = subprocess.run(["node", "run.mjs"], cwd=folder, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
