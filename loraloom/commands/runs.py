"""runs: a list of the runs in a folder."""

from __future__ import annotations

from pathlib import Path

from loraloom.errors import LoRALoomError
from loraloom.run.documents.document import JsonObject
from loraloom.run.documents.provenance import Provenance
from loraloom.run.documents.result import Result
from loraloom.run.folder import Run, list_runs


def describe_runs(folder: Path) -> list[JsonObject]:
    """Describe every run in a folder, oldest first, without loading torch or a model.

    Returns:
        `[{"run": path, "status", "experiments", "started", "base"}, …]`; `status` is `done`, `some failed`,
        `unfinished` or `damaged`.
    """
    return [_describe(run) for run in list_runs(folder)]


def _describe(run: Run) -> JsonObject:
    try:
        provenance = Provenance.read(run.provenance_file)
        result = Result.read(run.result_file) if run.is_finished else None
        return {
            "run": str(run.folder),
            "status": "unfinished" if result is None else "some failed" if result.failed else "done",
            "experiments": ", ".join(provenance.seeds),
            "started": provenance.started,
            "base": "" if provenance.base is None else provenance.base.name,
        }
    except LoRALoomError:
        return {"run": str(run.folder), "status": "damaged", "experiments": "", "started": "", "base": ""}
