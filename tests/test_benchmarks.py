"""Every benchmark can still be imported; none of them is run here."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import benchmarks

NAMES = [
    module.name
    for module in pkgutil.walk_packages(benchmarks.__path__, "benchmarks.")
    if not module.name.endswith("__main__")
]
OURS = ("loraloom", "benchmarks", "tests", "tools")


@pytest.mark.parametrize("name", NAMES)
def test_it_is_imported(name: str) -> None:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in OURS:
            raise
        pytest.skip(f"{error.name} is not installed")
