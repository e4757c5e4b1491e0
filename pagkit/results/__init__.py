"""Results: one file a run, and the tables made of them.

- ``schema``: what a result file holds, how it is written and read
- ``provenance``: where a number comes from
- ``examples``: which test examples results were measured on, and which can stand together
- ``origin``: a number that says where it comes from, on a page
- ``published``: figures of others, to set ours beside
- ``compared``: means and paired differences over seeds, with their intervals
- ``leaderboard``: the tables of the page with every result
"""

from ..evaluation import Table
from .compared import Estimate, Signed, column, difference, mean, percents
from .examples import same_run
from .origin import Figure, count, figure
from .provenance import data_digest, provenance
from .published import Published, load_published
from .schema import Result, joined, load, load_all, save, summary

__all__ = [
    "Estimate",
    "Figure",
    "Published",
    "Result",
    "Signed",
    "Table",
    "column",
    "count",
    "data_digest",
    "difference",
    "figure",
    "joined",
    "load",
    "load_all",
    "load_published",
    "mean",
    "percents",
    "provenance",
    "same_run",
    "save",
    "summary",
]
