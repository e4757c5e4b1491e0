"""Where a number comes from: its data by content, the device that was used, and no commit of another project."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from pagkit.results import provenance
from tests.helpers import make_task

made = sys.modules["pagkit.results.provenance"]
SPENT = {"train_seconds": 0.0, "train_cpu_seconds": 0.0, "evaluate_seconds": 0.0}


def test_data_of_one_name_and_size_are_told_apart() -> None:
    x, y = torch.arange(12.0).view(6, 2), torch.tensor([0, 1] * 3)
    one, again, other = (provenance(make_task(x + k, y, 2), device="cpu", **SPENT) for k in (0, 0, 1))
    assert one["data"] == other["data"] and one["data_digest"] == again["data_digest"] != other["data_digest"]
    assert [len(digest) for digest in one["data_digest"].values()] == [12, 12]
    assert made._digest(make_task(x, y, 2).test) != made._digest(make_task(x, 1 - y, 2).test), "labels count"


def test_a_gpu_is_named_where_it_was_used(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"A GPU, {device}")
    task = make_task(torch.zeros(1, 2), torch.zeros(1).long(), 1)
    near, far = (provenance(task, device=device, **SPENT) for device in ("cpu", torch.device("cuda:1")))
    assert "GPU" not in near["hardware"] and far["hardware"].endswith(" cores, A GPU, cuda:1")
    assert (near["device"], far["device"]) == ("cpu", "cuda")


def test_a_package_inside_another_project_has_no_commit_of_it(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True, capture_output=True)

    room = tmp_path / "site" / "pagkit" / "results"
    room.mkdir(parents=True)
    (file := room / "provenance.py").write_text("")
    assert made._commit(file) == "unknown", "no repository"
    git("init")
    git("commit", "--allow-empty", "-m", "theirs")
    assert made._commit(file) == "unknown", "not of this project"
    git("add", ".")
    git("commit", "-m", "ours")
    assert len(commit := made._commit(file)) == 12
    file.write_text("changed")
    assert made._commit(file) == f"{commit}+"


def test_brain_floats_have_a_digest_too() -> None:
    x, y = torch.arange(12.0).view(6, 2).bfloat16(), torch.tensor([0, 1] * 3)
    one, again, other, plain = (made._digest(make_task(inputs, y, 2).test) for inputs in (x, x.clone(), x + 1, x.float()))
    assert one == again and len({one, other, plain}) == 3
    assert made._digest(make_task(x.float(), y, 2).test) == "18c0ebef153a", "as in the stored results"
