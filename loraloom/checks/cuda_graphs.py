"""The check that `training.cuda_graphs` has an effect."""

from __future__ import annotations

from loraloom.checks.finding import Finding
from loraloom.checks.gate import Gate
from loraloom.text.message import Message
from loraloom.training.recording_limits import why_not_recorded


def check_cuda_graphs(gate: Gate) -> list[Finding]:
    """Report whether training passes can be recorded, if `cuda_graphs` is set."""
    shared = gate.experiments[0].training
    if not shared.cuda_graphs:
        return []
    where = "training.cuda_graphs"
    if reason := why_not_recorded(gate.base, shared, gate.experiments):
        message = Message("this setting has no effect, because {reason}", reason=reason)
        return [Finding("note", "cuda-graphs", where, message)]
    message = Message("training passes of equal shapes are recorded as CUDA graphs")
    return [Finding("ok", "cuda-graphs", where, message)]
