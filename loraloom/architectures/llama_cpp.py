"""What llama.cpp must know about a model, in llama.cpp's own terms."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LlamaCpp:
    """The way in which llama.cpp computes a model.

    Args:
        architecture: value of `general.architecture` in the GGUF file.
        num_buckets: number of relative positions that a bias distinguishes.
        norm_epsilon: the epsilon of every norm.
        obstacles: what llama.cpp computes differently, one clause per difference; empty if there are none.
    """

    architecture: str
    num_buckets: int
    norm_epsilon: float
    obstacles: tuple[str, ...] = ()
