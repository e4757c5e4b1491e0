"""Shared by all tests: small tasks, one digits CNN trained once a session, one browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pagkit import data, models, training
from pagkit.data import Task

torch.set_num_threads(1)
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"


@pytest.fixture(scope="session")
def digits() -> Task:
    return data.load("digits")


@pytest.fixture(scope="session")
def toy() -> Task:
    return data.load("three-modes", train_per_class=300, test_per_class=60)


@pytest.fixture(scope="session")
def digits_cnn(digits: Task) -> nn.Module:
    """The book's standard digits classifier, after a third of its epochs."""
    recipe = training.Recipe.load("digits-standard", epochs=20)
    model = models.build(recipe.model, digits, seed=0, **recipe.model_options)
    training.fit(model, digits, recipe, progress=False)
    return model


@pytest.fixture
def linear() -> nn.Module:
    """Two classes on the plane, z_1 - z_0 = 2 (3 x1 + 4 x2 - 5): the boundary is |3 x1 + 4 x2 - 5| / 5 away."""
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[-3.0, -4.0], [3.0, 4.0]]))
        layer.bias.copy_(torch.tensor([5.0, -5.0]))
    return layer


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium; playwright can be started only once in a process."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: nothing is tried in a browser")
    with playwright.sync_playwright() as started:
        program = next(filter(None, map(shutil.which, CHROMIUM)), started.chromium.executable_path)
        if not Path(program).exists():
            pytest.skip("no Chromium: apt-get install chromium, or playwright install chromium")
        with started.chromium.launch(executable_path=program, args=FLAGS.split()) as chromium:
            yield chromium
