"""The check that `training.cuda_graphs` has an effect."""

from __future__ import annotations

from collections.abc import Sequence

from loraloom.base.loading import Base
from loraloom.checks.finding import Finding, Level
from loraloom.checks.gate import Gate
from loraloom.recipe import Experiment
from loraloom.text.message import Message
from loraloom.training.recording_limits import can_be_recorded, why_not_recorded


def check_cuda_graphs(gate: Gate) -> list[Finding]:
    """Report whether training passes can be recorded, if `cuda_graphs` is set."""
    return recorded_passes(gate.base, gate.experiments)


def recorded_passes(base: Base, experiments: Sequence[Experiment]) -> list[Finding]:
    """Report which passes of a training are recorded as CUDA graphs; nothing if `cuda_graphs` is not set.

    Experiments may train in several processes, and each process records its passes if it can. So an
    experiment whose passes cannot be recorded only keeps those that train beside it from being recorded.
    """
    shared = experiments[0].training
    if not shared.cuda_graphs:
        return []
    if reason := why_not_recorded(base, shared):
        return [_finding("note", Message("no pass is recorded here, because {reason}", reason=reason))]
    unlike = [
        each.name
        for each in experiments
        if each.training.label_smoothing_factor or not can_be_recorded(each.lora)
    ]
    if len(unlike) == len(experiments):
        message = Message(
            "no pass is recorded, because of the lora settings or the label smoothing of the experiments"
        )
        return [_finding("note", message)]
    if unlike:
        message = Message(
            "passes of {names} are not recorded, nor those of experiments that train beside them, because of "
            "their lora settings or label smoothing",
            names=", ".join(f"`{name}`" for name in unlike),
        )
        return [_finding("note", message)]
    return [_finding("ok", Message("training passes of equal shapes are recorded as CUDA graphs"))]


def _finding(level: Level, message: Message) -> Finding:
    return Finding(level, "cuda-graphs", "training.cuda_graphs", message)
