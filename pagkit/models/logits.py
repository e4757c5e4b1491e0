"""What is read from logits."""

from __future__ import annotations

import math

from torch import Tensor


def log_odds(logits: Tensor, label: Tensor) -> Tensor:
    """``log p_c - log(1 - p_c) = z_c - logsumexp_{j != c} z_j`` for logits (N, C), label c (N,); shape (N,)."""
    own = logits.gather(1, label[:, None]).squeeze(1)
    return own - logits.scatter(1, label[:, None], -math.inf).logsumexp(1)
