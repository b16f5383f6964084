"""What llama.cpp must know about a model, in llama.cpp's own terms."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LlamaCpp:
    """The way in which llama.cpp computes a model.

    Args:
        architecture: `general.architecture` of a GGUF file.
        num_buckets: number of relative positions that a bias distinguishes.
        norm_epsilon: the epsilon of every norm.
        obstacles: what llama.cpp would compute differently, as whole clauses; none if it computes the model.
    """

    architecture: str
    num_buckets: int
    norm_epsilon: float
    obstacles: tuple[str, ...] = ()
