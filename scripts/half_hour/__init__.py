"""Half an hour on one GPU, in stages: what ``scripts/gpu_half_hour.py`` does.

- ``plan``: the stages and their jobs, as data; the clock, and what it decides
- ``photographs``: CIFAR-10 from what there is
- ``state``: what is known so far, on disk
- ``times``: step times, and whether faster ways compute the same
- ``jobs``: how each job is done
- ``diffusion``: the two jobs that need a diffusion model
- ``attacks``: verdicts, on so many photographs as time allows
- ``picture``: the one picture
- ``home``: what is brought home, in few files of limited size
"""
