"""From several files to a run: init, train, go on, answer; and what a run says of them."""

from __future__ import annotations

import gzip
import json

from tests.flows.conftest import CANARY, Project, assert_refused, rows


def lay_out(project: Project) -> None:
    """data/ with three files, one of them compressed and one with a bad row."""
    folder = project.folder / "data"
    folder.mkdir()
    lines = [json.dumps(row, ensure_ascii=False) for row in rows(24)]
    (folder / "a.jsonl").write_text("\n".join(lines[:10]), encoding="utf-8")
    (folder / "b.jsonl.gz").write_bytes(gzip.compress("\n".join(lines[10:20]).encode()))
    bad = f'{{"instruction": "{CANARY}"'
    (folder / "c.jsonl").write_text("\n".join([*lines[20:], bad]), encoding="utf-8")
    (folder / "about.md").write_text("x", encoding="utf-8")


def test_from_a_folder_to_answers(project: Project) -> None:
    lay_out(project)
    begun = project.call("init", "data/a.jsonl", "data/b.jsonl.gz", "--model", project.model)
    assert begun.code == 0
    assert "train: [data/a.jsonl, data/b.jsonl.gz]" in begun.stdout
    assert "# Data: 20 rows" in begun.stdout

    sets = ("--set", "data.train=data", "--set", "training.max_steps=2")
    refused = project.call("train", "recipe.yaml", *sets, "--out", "run")
    assert_refused(refused, "data/c.jsonl:5:", "data.on_invalid: drop")
    assert not (project.folder / "run").exists()

    trained = project.call("train", "recipe.yaml", *sets, "--set", "data.on_invalid=drop", "--out", "run")
    assert trained.code == 0, trained.stderr
    assert "skipped: not data: `about.md`" in trained.stderr
    assert "1 invalid row dropped (data.on_invalid: drop): line 5" in trained.stderr
    split = json.loads((project.folder / "run" / "split.json").read_text(encoding="utf-8"))
    assert list(split["files"]) == ["data/a.jsonl", "data/b.jsonl.gz", "data/c.jsonl"]
    assert sum(len(split[part]) for part in ("train", "eval", "test")) == 24
    assert [row[:3] for row in split["dropped"]] == [["data/c.jsonl", 5, "data/c.jsonl:5:29"]]
    provenance = json.loads((project.folder / "run" / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["data"] == split["files"]
    for name in ("split.json", "events.jsonl", "checks.json"):
        assert CANARY not in (project.folder / "run" / name).read_text(encoding="utf-8")

    (project.folder / "data" / "later.jsonl").write_text("", encoding="utf-8")
    compared = project.call("compare", "run")
    assert compared.code == 0, compared.stderr
    answered = project.call("predict", "run", "data/b.jsonl.gz", "--experiment", "wide")
    assert len(answered.stdout.splitlines()) == 10
    (project.folder / "data" / "later.jsonl").unlink()
    (project.folder / "data" / "c.jsonl").write_text(json.dumps(rows(1)[0]), encoding="utf-8")
    several = project.call("predict", "run", "data", "--experiment", "wide")
    told = [json.loads(line) for line in several.stdout.splitlines()]
    places = [(each["file"], each["row"]) for each in told]
    assert places[9:11] == [
        ("data/a.jsonl", 10),
        ("data/b.jsonl.gz", 1),
    ]
    changed = project.call("compare", "run")
    assert_refused(changed, "data/c.jsonl: has changed since it was split")
