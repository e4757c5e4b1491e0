"""Verdicts: APGD, AutoAttack where its package is there, on so many of the photographs as time allows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pagkit import evaluation
from pagkit.data import Split
from pagkit.evaluation import Score

from . import plan, times
from .plan import Job

if TYPE_CHECKING:
    from .jobs import Work

INSTEAD: dict[str, Any] = {"steps": 40, "restarts": 3, "likeliest": 4}  # of PGD, where pyautoattack is missing: not as strong


def missing() -> str:
    """Why there is no AutoAttack; empty: there is."""
    try:
        import pyautoattack  # noqa: F401
    except ImportError as error:
        return f"needs the package pyautoattack, which --wheels takes from a folder ({error})"
    return ""


def attack(job: Job, work: Work, deadline: float) -> str:
    """A network under one attack, chunk by chunk, each kept in its result; it goes on where it was stopped."""
    from .jobs import LeftOut

    metric, options = job.metric, {}
    if why := missing():
        if metric.startswith("autoattack"):
            raise LeftOut(why)
        metric = metric.replace("apgd", "pgd", 1)
        options = {**INSTEAD, **({"steps": work.scale.steps, "restarts": 1, "likeliest": 1} if work.rehearsal else {})}
    elif work.rehearsal and metric.startswith("autoattack"):
        options = {"queries": 5}
    model, photographs = work.network(job.of), work.photographs
    score = work.result(job.of).metrics.get(metric)
    correct, total = (score.correct, score.total) if score else (0, 0)
    needed = plan.cost(replace(job, metric=metric), work.state, work.scale, len(work.task.train))
    while total < len(photographs):
        if needed > deadline - work.clock.now():
            raise LeftOut(f"{total} of {len(photographs)} photographs so far: the next chunk needs {needed:.0f} s")
        end, started = min(total + work.scale.chunk, len(photographs)), work.clock.now()
        part = Split(photographs.x[total:end], photographs.y[total:end])
        with times.arithmetic("float32"):
            found = evaluation.measure(model, replace(work.task, test=part), metric, progress=False, batch_size=len(part), **options)
        correct, total = correct + found.correct, end
        kept = work.result(job.of)
        spent = round(kept.provenance["evaluate_seconds"] + work.clock.now() - started, 2)
        origin = {**kept.provenance, "evaluate_seconds": spent}
        work.result(job.of, metrics={**kept.metrics, metric: Score(correct, total)}, provenance=origin)
    work.state.held[f"{metric} {job.of}"] = correct / total
    return f"{metric} {Score(correct, total)}"
