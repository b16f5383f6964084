"""A worker has the packages of its run in the same versions, that which quantizes the base too."""

from __future__ import annotations

import pytest

from loraloom.errors import RunError
from loraloom.run.documents.choice import Choice
from loraloom.run.documents.provenance import Provenance
from loraloom.session import provenance as origin
from loraloom.workers.worker_material import _require_versions


def test_the_package_that_quantizes_the_base_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"bitsandbytes": "0.50.2"}
    monkeypatch.setattr(origin, "version", lambda name: installed.get(name, "1"))
    choices = {"quantization": Choice("nf4", "")}
    known = Provenance(started="", folder="/", versions={}, seeds={}, choices=choices)
    known = known.replaced(versions=origin.process_record(known).versions)
    assert known.versions["bitsandbytes"] == "0.50.2"
    _require_versions(known)
    installed["bitsandbytes"] = "0.49.0"
    with pytest.raises(RunError, match="bitsandbytes"):
        _require_versions(known)
