"""A run without the packages of an extra records the versions of those that are there."""

from __future__ import annotations

from importlib import metadata

import pytest

from loraloom.session import provenance


def test_a_package_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(name: str) -> str:
        if name == "datasets":
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(provenance, "version", installed)
    versions = provenance.versions("triton")
    assert "datasets" not in versions
    assert {"python", "torch", "peft", "triton"} <= versions.keys()
