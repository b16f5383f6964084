"""Which checks run on the model when: a check is one function, and its place in one of these tuples."""

from __future__ import annotations

from collections.abc import Callable

from loraloom.checks.finding import Finding
from loraloom.checks.gate import GATE, Gate
from loraloom.checks.learning import check_learning
from loraloom.checks.model import MODEL
from loraloom.checks.movement import check_movement

ModelCheck = Callable[[Gate], list[Finding]]

# `train` and `search` run these, so together they may take about a second.
BEFORE_TRAINING: tuple[ModelCheck, ...] = (*MODEL, *GATE, check_movement)
# `check` runs these beside them.
ON_REQUEST: tuple[ModelCheck, ...] = ()
# `check --deep` runs these too; they train for a minute or so.
DEEP: tuple[ModelCheck, ...] = (check_learning,)
