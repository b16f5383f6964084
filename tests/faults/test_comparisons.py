"""Comparisons beside each other, and killed: every row has its own answers, whoever answered it."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.reference import STEP, Reference, release
from tests.faults.warm import Started, Warm
from tests.tiny import SHALLOW

NUM_ROWS, ROWS_A_CHUNK = 24, 4
CHUNK = "loraloom.comparison.answering:_answer_chunk"
RECIPE = """\
model_name_or_path: {model}
data: {{train: rows.json, eval: {num_rows}, max_source_length: 24, max_target_length: 12}}
training: {{learning_rate: 3.0e-2, max_steps: 6, save_strategy: "no"}}
generation: {{max_new_tokens: 6, batch_size: 1}}
experiments: {{a: {{}}, b: {{seed: 7}}}}
"""


@dataclass(frozen=True)
class Comparison:
    """A run, and what an undisturbed comparison of it comes to."""

    warm: Warm
    run: Path
    rows: list[dict[str, Any]]
    models: dict[str, Any]

    def start(self, run: Path, *options: str, **faults: Any) -> Started:
        return self.warm.start("compare", run, "--json", *options, cwd=run.parent, faults=faults)

    def held(self, run: Path, number: int, *options: str) -> Started:
        """A comparison that waits before a chunk."""
        reached = run.parent / "reached"
        go = str(run.parent / "go")
        started = self.start(run, *options, call=CHUNK, number=number, reached=str(reached), go=go)
        started.until(reached.exists)
        return started

    def assert_same(self, document: dict[str, Any]) -> None:
        assert document["rows"] == self.rows
        assert document["models"] == self.models


@pytest.fixture(scope="module")
def compared(warm: Warm, tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("compared")
    rows = [{"instruction": f"如何处理压力 {n}", "response": f"先试着 {n * n}"} for n in range(NUM_ROWS + 12)]
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    (folder / "recipe.yaml").write_text(
        RECIPE.format(model=tiny(SHALLOW), num_rows=NUM_ROWS), encoding="utf-8"
    )
    ended = warm.call("train", "recipe.yaml", "--out", "run", cwd=folder)
    assert ended.code == 0, ended.stderr
    document = json.loads(warm.call("compare", "run", "--json", cwd=folder).stdout)
    assert len({row["source"] for row in document["rows"]}) == NUM_ROWS
    (folder / "run" / "compare" / "eval.json").unlink()
    return Comparison(warm, folder / "run", document["rows"], document["models"])


@pytest.fixture
def run(compared: Comparison, tmp_path: Path) -> Path:
    """The run, not compared yet; its rows are found where its recipe lay."""
    return Path(shutil.copytree(compared.run, tmp_path / "run"))


def files(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "compare").iterdir())


def test_of_two_that_make_one_comparison_the_second_is_refused_with_the_pid(
    compared: Comparison, run: Path
) -> None:
    first = compared.held(run, 2)
    refused = compared.start(run).wait()
    assert refused.code == 1
    assert f"another process is writing the comparison `eval` of this run (pid {first.pid})" in refused.stderr
    assert "--name" in refused.stderr
    assert "Traceback" not in refused.stderr
    named = compared.start(run, "--name", "other").wait()  # of another name beside it
    assert named.code == 0, named.stderr
    compared.assert_same(json.loads(named.stdout))
    release(run)
    ended = first.wait()
    assert ended.code == 0, ended.stderr
    compared.assert_same(json.loads(ended.stdout))
    assert files(run) == ["eval.json", "other.json"]


def test_of_two_begun_together_and_killed_a_third_has_every_row_its_own_answers(
    compared: Comparison, run: Path, trying: Callable[..., None]
) -> None:
    trying("two comparisons begun together and killed", 2, "a third gives every row its own answers")
    # By turns each goes on with what the one before it left. Four chunks of six at most, if no two meet.
    for _ in range(2):
        pair = [compared.start(run, call=CHUNK, number=2) for _ in range(2)]
        codes = sorted(each.wait().code for each in pair)
        assert codes in ([-signal.SIGKILL, 1], [-signal.SIGKILL, -signal.SIGKILL]), codes
    left = (run / "compare" / ".eval.partial.jsonl").read_text().splitlines()
    assert len(left) >= 3  # a header, and a chunk before the death of at least one of each pair
    ended = compared.warm.call("compare", run, cwd=run.parent)
    assert ended.code == 0, ended.stderr
    assert f"resuming after {(len(left) - 1) * ROWS_A_CHUNK} rows" in ended.stderr
    compared.assert_same(json.loads((run / "compare" / "eval.json").read_text(encoding="utf-8")))
    assert files(run) == ["eval.json"]


def test_a_run_that_is_training_is_compared_and_trains_on(
    reference: Callable[[str], Reference], tmp_path: Path
) -> None:
    expected, run = reference("together"), tmp_path / "run"
    training = expected.held(run, STEP, 12)  # after a checkpoint
    ended = expected.warm.call("compare", run, "--json", cwd=tmp_path)
    assert ended.code == 0, ended.stderr
    assert set(json.loads(ended.stdout)["models"]) > {"base"}
    assert [path.name for path in (run / "compare").iterdir()] == ["eval.json"]
    release(run)
    assert training.wait().code == 0
    expected.assert_same(run)


def test_two_reports_at_once_leave_one_whole_page(compared: Comparison, run: Path) -> None:
    reached, go = run.parent / "reached", run.parent / "go"
    faults = {"call": "loraloom.commands.report:replace_text", "number": 1}
    first = compared.warm.start(
        "report", run, cwd=run.parent, faults={**faults, "reached": str(reached), "go": str(go)}
    )
    first.until(reached.exists)
    assert (run / ".report.html.lock").read_text() == f"{first.pid}\n"
    (run / "compare" / "prompts.json").write_text("{}")  # what the second reads, and the first did not
    second = compared.warm.start("report", run, cwd=run.parent)
    os.kill(second.pid, 0)
    release(run)
    assert [first.wait().code, second.wait().code] == [0, 1]  # the second looked after it had the lock
    assert (run / "report.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert not [path.name for path in run.iterdir() if path.name.startswith(".report")]
