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
FIELD = "digits-pag-sbg-control+target_options.change=smooth_field"
OTHERS = "digits-pag-sbg-control"
TO_MEAN = "digits-pag-control+weight=0.1+target_options.change=mean_image"
NOISED, PGD, FAR_PGD = "cifar10-laptop-noise", "pgd-l2-0.5", "pgd-l2-1"
NEAR, BARE = "cifar10-laptop-pag-nn", "cifar10-laptop-standard"
MEAN = f"{NEAR}+target=control+target_options.change=mean_image"
FEW_SLOPED, FEW_SCORED = "cifar10-laptop-slope", "cifar10-laptop-pag-sbg+weight=0.3"  # on a fifth of the photographs
STEEP, LOUD = f"{FEW_SLOPED}+slope=1", "cifar10-laptop-pag-sbg+weight=1"
TOY, NOISY_TOY, ALIGNED_TOY, SGD_TOY = (f"three-modes-scaled-{name}" for name in ("standard", "noise", "pag-nn", "sgd"))
ALIGNED_SGD_TOY = f"{ALIGNED_TOY}+optimizer=sgd+lr=0.1+weight_decay=0.001"
WIDE, TOY_SEEDS = "exact-l2-20", (20, 29)
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
        f"**As a theorem, no**, and not in every training. There are classifiers with perfectly aligned gradients and any radius "
        f"(chapter 6). And gradients can be trained without robustness: a digits network that is trained towards the mean of all digits, "
        f"one way for every class, comes nearer than standard training to class means, neighbours and one image. Under AutoAttack at "
        f"L2 0.5 it keeps {held(TO_MEAN, HALF)} %, standard training {held(STANDARD, HALF)} % (chapter 10).",
        f"**As a training, it works.** On digits, directions from a diffusion model (*scores*) raise the figure of standard training to "
        f"{held(SCORES, HALF)} %, without one attack in training. A random field for each class in their place leaves "
        f"{held(FIELD, HALF)} %.",
        f"**At a small radius no direction is needed for it.** On digits plain noise on the inputs leaves {held(NOISE, HALF)} %: scores "
        f"over noise {over(NOISE, SCORES, HALF)} points. On the toy, where robustness is exact, alignment adds "
        f"{over(TOY, ALIGNED_TOY, WIDE, TOY_SEEDS)} near the widest margin, noise {over(TOY, NOISY_TOY, WIDE, TOY_SEEDS)}, and another "
        f"optimizer alone {over(TOY, SGD_TOY, WIDE, TOY_SEEDS)}; to that, alignment adds "
        f"{over(SGD_TOY, ALIGNED_SGD_TOY, WIDE, TOY_SEEDS)} (chapter 9).",
        f"**Farther out, on digits, the direction counts.** At L2 1 scores leave {held(MORE_SCORES, ONE)} %: over noise "
        f"{over(MORE_NOISE, MORE_SCORES, ONE)} points, over adversarial training {over(ATTACKED, MORE_SCORES, ONE)}. With less weight, "
        f"where about as many clean digits are read, they are {over(OTHERS, SCORES, ONE)} over another digit's scores in their place.",
        f"**On photographs the length of the gradient counts, and a direction was not needed.** Small networks that read "
        f"{min(clean):.0f} to {max(clean):.0f} % of clean photographs keep, under AutoAttack at L2 0.5, {once(SLOPED)} % with a penalty "
        f"on the length of the loss's gradient, {once(SCORED)} % with scores and {once(HARDENED)} % with adversarial training. At L2 1 "
        f"scores over the penalty are {lead(SLOPED, SCORED, ONE)}, one network each. With three seeds, on a fifth of the photographs and "
        f"under PGD, it is {over(FEW_SLOPED, FEW_SCORED, FAR_PGD)}; with more of both {over(STEEP, LOUD, FAR_PGD)}, at "
        f"{over(STEEP, LOUD, 'clean')} clean. Noise is behind both. And the way to the mean of all photographs, which names no class, does "
        f"about as well at L2 0.5 as that to the nearest one of each class: {over(NEAR, MEAN, PGD)} (chapter 11).",
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
