"""The families that can be trained, by the `model_type` of their config.json."""

from __future__ import annotations

from collections.abc import Mapping

from loraloom.architectures.bart import Bart
from loraloom.architectures.family import Family
from loraloom.architectures.m2m100 import M2M100
from loraloom.architectures.marian import Marian
from loraloom.architectures.mbart import MBart
from loraloom.architectures.pegasus import Pegasus
from loraloom.architectures.t5 import MT5, T5, UMT5
from loraloom.architectures.t5gemma import T5Gemma, T5Gemma2

FAMILIES: Mapping[str, Family] = {
    family.model_type: family
    for family in (
        T5(),
        MT5(),
        UMT5(),
        Bart(),
        MBart(),
        M2M100(),
        Marian(),
        Pegasus(),
        T5Gemma(),
        T5Gemma2(),
    )
}
# Names of linears in all families, in the order of the computation, for tables.
LINEAR_NAMES = tuple(dict.fromkeys(name for family in FAMILIES.values() for name in family.projections))


def family_of(model_type: object) -> Family | None:
    """Return the family with this `model_type`, which may be of any Python type; None if there is none."""
    return FAMILIES.get(model_type) if isinstance(model_type, str) else None
