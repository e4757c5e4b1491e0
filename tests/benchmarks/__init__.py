"""How fast the library is, beside the plain way to compute the same: ``make bench``. pytest collects nothing here.

- ``compare``: both sides must give the same; then they are timed in turn
- ``steps``: training steps
- ``others``: attacks, directions, scores
- ``tried``: other ways to take a PAG step, apart from the rest
"""
