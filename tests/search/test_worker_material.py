"""What a worker reads of a run, and that it writes nothing there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from loraloom.run.folder import Run
from loraloom.session.locations import Relocation
from loraloom.workers.worker_material import load_material
from tests.search.small import run_search, write_recipe_file


def test_rows_in_files_of_the_run_are_not_written_by_a_worker(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    recipe = write_recipe_file(tmp_path / "recipe", tiny("mt5"))
    document = json.loads(recipe.read_text(encoding="utf-8"))
    document["data"]["keep_rows"] = "disk"
    recipe.write_text(json.dumps(document), encoding="utf-8")
    run = run_search(recipe, tmp_path / "run", num_trials=1).run
    shutil.rmtree(next(run.rows.rglob("tokens-*")))  # as if the driver has not written them yet
    before = sorted(run.folder.rglob("*"))
    found = load_material(Run(run.folder), Relocation())
    assert len(found.material.train_set) == 18
    assert sorted(run.folder.rglob("*")) == before
