"""Write the book's answer, with its figures, into README.md and book/index.md, between the marks that stand there.

python scripts/answer.py            after a result was added; a test holds both pages to it
"""

from __future__ import annotations

from pathlib import Path

from pagkit import results
from pagkit.data.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
PAGES = {ROOT / "README.md": False, ROOT / "book" / "index.md": True}  # whether it is built, so that a number can say where it comes from
START, END = "<!-- answer: made by scripts/answer.py from book/results -->", "<!-- end of the answer -->"
HALF, ONE = "autoattack-l2-0.5", "autoattack-l2-1"
STANDARD, NOISE, MORE_NOISE = "digits-standard", "digits-noise", "digits-noise+noise=0.4"
SLOPED, SCORED, HARDENED = (f"cifar10-evening-{name}" for name in ("slope", "pag-sbg", "adversarial"))  # photographs
ONE_IMAGE = "digits-pag-oi"
OTHERS = "digits-pag-sbg-control"
TO_MEAN = "digits-pag-control+weight=0.1+target_options.change=mean_image"
STEEP, LOUD, FAR_PGD = "cifar10-laptop-slope+slope=1", "cifar10-laptop-pag-sbg+weight=1", "pgd-l2-1"  # on a fifth of the photographs
TOY, NOISY_TOY, ALIGNED_TOY = (f"three-modes-scaled-{name}" for name in ("standard", "noise", "pag-nn+weight=1"))
WIDE, TOY_SEEDS = "exact-l2-20", (20, 39)
SCORES, MORE_SCORES, ATTACKED = "digits-pag-sbg", "digits-pag-sbg+weight=4", "digits-adversarial-l2+eps=1"


def answer(*, roles: bool = False) -> str:
    """The answer in five lines of Markdown; with ``roles`` each number says where it comes from, see book/_ext/measured.py."""
    runs = results.load_all(ROOT / "book" / "results")

    def shown(value: results.Estimate | results.Figure, asked: str) -> str:
        return f"{{measured}}`{value} <{asked}>`" if roles else str(value)

    def held(recipe: str, metric: str) -> str:
        return shown(results.mean(runs, recipe, metric), f"{recipe} {metric}")

    def over(base: str, other: str, metric: str, seeds: tuple[int, int] | None = None) -> str:
        among = runs if seeds is None else [r for r in runs if seeds[0] <= r.seed <= seeds[1]]
        asked = f"{base} {other} {metric}" + (f" seeds={seeds[0]}-{seeds[1]}" if seeds else "")
        return shown(results.difference(among, base, other, metric), asked)

    single = {run.recipe: run for run in runs if run.seed == 1}
    photos = [single[recipe] for recipe in (SLOPED, SCORED, HARDENED)]
    clean = [100 * run.metrics["clean"].rate for run in photos]

    def once(recipe: str, metric: str = HALF) -> str:
        return shown(results.count(single[recipe], metric), f"{recipe} {metric} seed=1")

    def lead(base: str, other: str, metric: str) -> str:
        return shown(results.difference(photos, base, other, metric, at_least=1), f"{base} {other} {metric} seed=1")

    lines = (
        f"**As a theorem, no.** There are classifiers with perfectly aligned gradients and any robustness, down to none (chapter 6). Nor "
        f"does every training bring it. Train the gradients of a digits network towards the mean of all digits, which names no class, and "
        f"they are better aligned than those of standard training by three of our four measures, though not by that of the scores. Under "
        f"AutoAttack at L2 0.5 this network keeps {held(TO_MEAN, HALF)} %, standard training {held(STANDARD, HALF)} % (chapter 10).",
        f"**As a training, it works, with good directions.** On digits those of a diffusion model, its *scores*, leave "
        f"{held(SCORES, HALF)} %, without one attack in training. With one image of each class to aim at, the gain over standard training "
        f"is {over(STANDARD, ONE_IMAGE, HALF)} points, which settles nothing.",
        f"**Plain noise does as much there.** With Gaussian noise on the inputs, and no direction, it is {held(NOISE, HALF)} %: scores "
        f"over noise {over(NOISE, SCORES, HALF)} points. On a two-dimensional example, whose robustness is computed exactly, noise adds "
        f"{over(TOY, NOISY_TOY, WIDE, TOY_SEEDS)} points to standard training and alignment {over(TOY, ALIGNED_TOY, WIDE, TOY_SEEDS)}: "
        f"alignment over noise {over(NOISY_TOY, ALIGNED_TOY, WIDE, TOY_SEEDS)} (chapter 9).",
        f"**Farther out, on digits, the scores hold more.** At L2 1 they leave {held(MORE_SCORES, ONE)} %: over noise "
        f"{over(MORE_NOISE, MORE_SCORES, ONE)} points, over adversarial training {over(ATTACKED, MORE_SCORES, ONE)}. The direction has to "
        f"be the digit's own. With a smaller weight they are {over(OTHERS, SCORES, ONE)} over another digit's scores in their place.",
        f"**On photographs a penalty on the gradient's length does as well as directions, or better.** Small networks that read "
        f"{min(clean):.0f} to {max(clean):.0f} % of clean photographs keep, under AutoAttack at L2 0.5, {once(SLOPED)} % with the penalty, "
        f"{once(SCORED)} % with scores and {once(HARDENED)} % with adversarial training. At L2 1 scores over the penalty are "
        f"{lead(SLOPED, SCORED, ONE)} points. That is one network each. On a fifth of the photographs, with three seeds and a weight of 1 "
        f"in both, it is {over(STEEP, LOUD, FAR_PGD)} under PGD and {over(STEEP, LOUD, 'clean')} in clean photographs (chapter 11).",
    )
    return "\n".join(f"{i}. {line}" for i, line in enumerate(lines, 1))


def filled(page: str, *, roles: bool = False) -> str:
    """The page with the answer between its marks; ``roles`` as for :func:`answer`.

    Raises:
        ValueError: the marks are not there.
    """
    head, start, rest = page.partition(START)
    _, end, tail = rest.partition(END)
    if not start or not end:
        raise ValueError(f"the page has no {START if not start else END}; expected both marks, each once")
    return f"{head}{START}\n\n{answer(roles=roles)}\n\n{END}{tail}"


def main() -> None:
    for path, roles in PAGES.items():
        write_atomically(path, filled(path.read_text(), roles=roles).encode())
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
