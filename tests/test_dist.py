"""What a release contains: everything of the package, and the licence of all that is not ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from tools import check_dist

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def builder() -> WheelBuilder:
    """The backend's own, which says what it would write without compressing it."""
    return WheelBuilder(str(ROOT))


@pytest.fixture(scope="module")
def names(builder: WheelBuilder) -> list[str]:
    return [file.distribution_path for file in builder.recurse_included_files()]


def test_a_wheel_of_this_checkout_has_the_whole_package(names: list[str]) -> None:
    assert check_dist.faults_of_names(names, "loraloom/") == []
    assert {name.partition("/")[0] for name in names} == {"loraloom"}


def test_a_wheel_without_a_file_or_with_one_too_many_is_faulty(names: list[str]) -> None:
    kept = [name for name in names if not name.endswith(("py.typed", "htmx.LICENSE.txt"))]
    found = "\n".join(check_dist.faults_of_names([*kept, "loraloom/__pycache__/x.pyc"], "loraloom/"))
    for words in ("py.typed is missing", "htmx.min.js has no licence", "x.pyc does not belong"):
        assert words in found


def test_licences_classifiers_and_extras_are_in_order(builder: WheelBuilder) -> None:
    core = builder.metadata.core
    assert core.license_expression == check_dist.LICENCES
    assert {f"loraloom/{file}" for file in check_dist.OF_OTHERS.values()} <= {*core.license_files}
    assert not any("License ::" in each for each in core.classifiers)
    needed = " ".join(core.dependencies)
    assert not any(heavy in needed for heavy in ("datasets", "pyarrow", "fastapi", "ctranslate2"))
    for extra in ("parquet", "web", "exports", "release"):
        assert extra in core.optional_dependencies
