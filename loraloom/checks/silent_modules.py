"""Description of modules that get no gradient: kinds, counts, and the reason if it is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from loraloom.bank.bank import AdapterBank
from loraloom.data.batches import Batch, Side
from loraloom.text.message import Message, joined


def describe_silent(bank: AdapterBank, norms: Mapping[str, float], batch: Batch) -> str:
    """Describe in one sentence the modules whose gradient is zero.

    Args:
        bank: the bank with the adapter.
        norms: norm of the gradient of each module.
        batch: batch on which the gradient was computed.
    """
    kinds = Counter(_kind(bank, name) for name in norms)
    silent = [name for name, norm in norms.items() if norm == 0]
    of_kind = Counter(_kind(bank, name) for name in silent)
    counted = joined(
        ", ",
        (
            Message("{kind} ({number} of {kinds})", kind=kind, number=number, kinds=kinds[kind])
            for kind, number in of_kind.items()
        ),
    )
    reasons = {reason: None for name in silent if (reason := _reason(bank, name, batch))}
    why = Message(": {reasons}", reasons=joined("; ", reasons)) if reasons else ""
    return Message(
        "{num_silent} of {num_norms} modules get no gradient, {counted}; the first one is {silent}{why}",
        num_silent=len(silent),
        num_norms=len(norms),
        counted=counted,
        silent=silent[0],
        why=why,
    )


def _kind(bank: AdapterBank, name: str) -> str:
    return f"{bank.place_of(name)} {name.rpartition('.')[2]}"


def _reason(bank: AdapterBank, name: str, batch: Batch) -> str:
    linears = {target.name: target.linear for target in bank.available}
    for factor in bank.base.family.silencers(name, linears):
        linear = linears[factor]
        if not linear.dense().any() and (linear.bias is None or not linear.bias.any()):
            return Message(
                "the base's `{module}` in the same layer is all zeros",
                module=factor.rpartition(".")[2],
            )
    place = bank.base.family.place(name)
    if place and place.role in ("q", "k") and _sees_one_token(place.part, batch):
        return Message("attention over a single token has nothing to choose from")
    return ""


def _sees_one_token(place: str, batch: Batch) -> bool:
    side: Side = "target" if place == "decoder" else "source"
    return all(segment.length == 1 for own in batch.segments[side] for segment in own)
