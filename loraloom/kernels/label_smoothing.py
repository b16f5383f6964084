"""Label smoothing within the sweep over the vocabulary (`full_sweep.py`).

Smoothing by ε (Szegedy et al., 2016, https://arxiv.org/abs/1512.00567, as in torch's `cross_entropy`)
distributes the share ε of the target equally over all V tokens: W_y h becomes (1 − ε) W_y h + ε/V Σ_v W_v h.
"""

from __future__ import annotations

import torch
from torch import Tensor


class UniformShare:
    """Each row's mean logit over the vocabulary, and the gradient of that mean, for label smoothing.

    Args:
        epsilon: float32 [n], share of each row's target that is distributed over all tokens.
        hidden: [n, d].
    """

    def __init__(self, epsilon: Tensor, hidden: Tensor) -> None:
        self._epsilon = epsilon
        self._logits = torch.zeros(len(hidden), device=hidden.device)
        self._rows = torch.zeros(hidden.shape, dtype=torch.float32, device=hidden.device)
        self._num_tokens = 0

    def add(self, logits: Tensor, weight: Tensor, slope: Tensor | None) -> None:
        """Add a tile of the vocabulary.

        Args:
            logits: float32 [n, tile].
            weight: [tile, d].
            slope: d(capped)/d(logit), [n, tile]; None without a cap.
        """
        self._num_tokens += len(weight)
        self._logits += logits.sum(1)
        # Without a cap, every row has the same gradient, the sum of the head's own rows.
        self._rows += weight.sum(0, dtype=torch.float32) if slope is None else slope.to(weight.dtype) @ weight

    def blend_logits(self, at_label: Tensor) -> Tensor:
        """Return (1 − ε) times the label's logit plus ε times the mean logit, [n]."""
        return torch.lerp(at_label, self._logits / self._num_tokens, self._epsilon)

    def blend_rows(self, label_rows: Tensor) -> Tensor:
        """Return (1 − ε) times the label logit's gradient plus ε times the mean logit's, [n, d]."""
        return torch.lerp(label_rows, self._rows / self._num_tokens, self._epsilon[:, None])
