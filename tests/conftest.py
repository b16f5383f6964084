"""What all tests share: one thread, no hub, tiny model folders made once a session."""

from __future__ import annotations

import gc
import os

# Before torch is imported. Tests run beside each other, and two processes with two threads each on
# two cores spend their time waiting for one another's (measured: 40 times slower).
os.environ["OMP_NUM_THREADS"] = "1"
# Where a test or a recorded run asks for more, threads that wait for one another leave the core meanwhile.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["LORALOOM_LANG"] = "en"  # whatever the language of the machine

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loraloom.base.loading import Base
from loraloom.export import merged_folder
from tests.families import KINDS
from tests.fast_process import FullCollections, skip_waiting_for_disk
from tests.faults.warm import Warm
from tests.parity.rig import loaded_once, unwrap
from tests.proof import measure_here
from tests.tiny import make_folder

skip_waiting_for_disk()
full_collections = FullCollections()


def pytest_collection_finish() -> None:
    """All test files are imported by now, and with them the libraries."""
    full_collections.exempt_all()


def pytest_runtest_setup() -> None:
    """Between two tests, when neither's objects are alive."""
    full_collections.exempt_if_slow()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`tiny("mt5")` → the folder of a tiny model of that kind, made once."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = make_folder(tmp_path_factory.mktemp("models") / kind, kind)
        return made[kind]

    return folder


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Every kind of model, one after the other."""
    return str(request.param)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository; a test that needs it is skipped without it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real data is not beside this repository")
    return folder


@pytest.fixture(scope="session")
def loaded(tiny: Callable[[str], Path]) -> Callable[[str], Base]:
    """`loaded("mt5")` → the tiny model of that kind as a frozen base, loaded once."""
    return loaded_once(tiny)


@pytest.fixture(scope="module")
def without_collections() -> Iterator[None]:
    """No collection of garbage during tests that read the whole package.

    Syntax trees are objects by the hundred thousand, all of which stay: collections that they cause, each of
    which visits those before it again, take longer than everything else in such a test.
    """
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def proof_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof of a merge is measured in this process."""
    monkeypatch.setattr(merged_folder, "run_fresh_process", measure_here)


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """Runs command lines in children of a process that has imported everything."""
    process = Warm(tmp_path_factory.mktemp("said"))
    yield process
    process.close()


@pytest.fixture
def base(kind: str, loaded: Callable[[str], Base]) -> Iterator[Base]:
    """The base of each kind in turn; what a failed test left attached is taken off."""
    yield loaded(kind)
    unwrap(loaded(kind))


@pytest.fixture
def mt5(loaded: Callable[[str], Base]) -> Iterator[Base]:
    """The base that most tests take where the kind does not matter: gated, with a head of its own."""
    yield loaded("mt5")
    unwrap(loaded("mt5"))
