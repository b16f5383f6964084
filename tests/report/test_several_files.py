"""A run of several files: each is listed, and no list gives this machine's folders away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loraloom.commands.report import render_report
from loraloom.report.visible_text import paths_in
from tests.report.runs import FOLDER, make_run

PRIVATE = "/srv/other secret"


@pytest.mark.parametrize("format", ["html", "md", "json"])
def test_every_file_is_listed_without_its_folder(tmp_path: Path, format: str) -> None:
    run = make_run(tmp_path / "run")
    text = run.recipe_file.read_text(encoding="utf-8")
    listed = json.dumps([f"{PRIVATE}/a.jsonl", f"{PRIVATE}/more/*.csv"])
    text = text.replace(f'"{FOLDER}/data.json"', f'{listed}, retain: ["{PRIVATE}/kept", starter]')
    run.recipe_file.write_text(text, encoding="utf-8")
    known = json.loads(run.provenance_file.read_text(encoding="utf-8"))
    known["data"] = {f"{PRIVATE}/a.jsonl": "a1" * 32, f"{PRIVATE}/more/b.csv": "b2" * 32}
    known["retain"] = {f"{PRIVATE}/kept/k.jsonl": "c3" * 32, "starter:probe.json": "d4" * 32}
    run.provenance_file.write_text(json.dumps(known), encoding="utf-8")
    shown = render_report(run.folder, format)
    assert PRIVATE not in shown
    assert "other secret" not in shown
    if format == "md":  # it lists no files
        return
    for name in ("a.jsonl", "b.csv", "k.jsonl", "starter:probe.json"):
        assert name in shown
    for sha256 in ("a1", "b2", "c3", "d4"):
        assert sha256 * 4 in shown


def test_paths_are_found_in_lists() -> None:
    recipe = {"data": {"train": ["/a/b.json", "c.json"], "columns": {"input": "/x/y"}, "retain": "~/d"}}
    assert list(paths_in(recipe)) == ["/a/b.json", "~/d"]
