"""pagkit: attacks, gradient targets, the PAG objective and exact radii.

The library behind the book *Do perceptually aligned gradients imply robustness?* Each name is a word of the book, and each imports
only what stands below it:

- ``cli``: the command ``pagkit``
- ``streams``: what it writes, whoever reads it
- ``experiment``: a recipe's run, from data to result
- ``lab``: networks that run in the reader's page
- ``exercises``: a reader's answers, checked
- ``plots``: every figure of the book
- ``results``: what a run measured, on disk and in tables
- ``evaluation``: verdicts, clean and under attack
- ``diffusion``: DDPMs and their scores
- ``training``: classifiers by recipe
- ``losses``: objectives, cross-entropy plus terms
- ``targets``: which way a class lies
- ``exact``: exact boundaries and scores of the toy
- ``attacks``: FGSM, PGD, AutoAttack
- ``models``: the classifiers
- ``data``: the data sets
- ``recipe``: what an experiment may ask for, with the experiments of the book in ``recipes``
"""

__version__ = "0.1.0"
