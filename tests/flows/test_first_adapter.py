"""A newcomer's way: init, check, train, compare, predict, runs; results on stdout, hints on stderr."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from loraloom.recipe.reading import read_recipe
from loraloom.run.documents.comparison import Comparison
from loraloom.run.documents.document import to_json
from tests.faults.warm import Ended
from tests.flows.conftest import CANARY, Project, TrainedRun, assert_refused, rows, write_json

SHORT = ("--set", "training.num_train_epochs=1", "--set", "generation.max_new_tokens=8", "--set", "lora.r=2")
PEFT_FILES = {"adapter_config.json", "adapter_model.safetensors"}


def next_command(ended: Ended) -> str:
    """What the last line of stderr proposes."""
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("Next: loraloom "), last
    return last.removeprefix("Next: ")


def test_from_a_data_file_to_answers(project: Project) -> None:
    made = project.call("init", "data.json", "--model", project.model)
    assert made.code == 0, made.stderr
    (project.folder / "mine.yaml").write_text(made.stdout, encoding="utf-8")
    assert next_command(made) == "loraloom check recipe.yaml"

    checked = project.call("check", "mine.yaml", *SHORT)
    assert checked.code == 0, checked.stderr
    assert checked.stdout.startswith("short row, data.json:")
    assert " passed\n" in checked.stdout
    assert "error" not in checked.stdout
    assert next_command(checked) == shlex.join(["loraloom", "train", "mine.yaml", *SHORT])

    trained = project.call("train", "mine.yaml", *SHORT)
    assert trained.code == 0, trained.stderr
    (run,) = (project.folder / "runs").iterdir()
    assert run.name.startswith("data-")
    assert run.name.endswith("-1")
    assert trained.stdout.splitlines()[1].split()[:2] == ["main", "done"]
    assert next_command(trained) == f"loraloom compare runs/{run.name}"
    assert {file.name for file in (run / "adapters/main").iterdir()} >= PEFT_FILES

    compared = project.call(*next_command(trained).split()[1:])
    assert compared.code == 0, compared.stderr
    assert compared.stdout.startswith("main ")  # a sentence before the figures
    assert "\nfigure " in compared.stdout
    assert next_command(compared) == f"loraloom predict runs/{run.name} FILE"

    answered = project.call("predict", f"runs/{run.name}", "data.json")
    assert answered.code == 0, answered.stderr
    lines = [json.loads(line) for line in answered.stdout.splitlines()]
    assert [line["row"] for line in lines] == list(range(1, 25))
    assert [line["source"] for line in lines] == [row["instruction"] for row in rows()]

    listed = project.call("runs")
    assert listed.code == 0
    assert listed.stdout.splitlines()[1].split()[:3] == [f"runs/{run.name}", "done", "main"]
    assert next_command(listed) == f"loraloom compare runs/{run.name}"


def test_init_writes_a_recipe_that_says_the_same_as_its_defaults(project: Project) -> None:
    made = project.call("init", "data.json", "--model", "starter")
    recipe = project.folder / "mine.yaml"
    recipe.write_text(made.stdout, encoding="utf-8")
    read = read_recipe(recipe)
    assert read.data.train == "data.json"
    assert read.data.max_source_length >= max(len(row["instruction"]) for row in rows())
    assert yaml.safe_load(made.stdout)["model_name_or_path"] == "starter"


@pytest.mark.parametrize("split", ["eval", "test"])
def test_compare_on_a_split(split: str, trained: TrainedRun) -> None:
    ended = trained.project.call("compare", "first", "--split", split, "--json")
    compared = json.loads(ended.stdout)
    assert compared["what"] == split
    assert list(compared["models"]) == ["base", "wide", "narrow"]
    figures = {model: entry["figures"] for model, entry in compared["models"].items()}
    assert figures["wide"]["eval_loss"] < figures["base"]["eval_loss"]
    known = json.loads((trained.run / "split.json").read_text())[split]
    assert [row["reference"] for row in compared["rows"]] == [rows()[n - 1]["response"] for _, n in known]
    written = Comparison.read(trained.project.folder / compared.pop("file"))
    assert json.loads(to_json(written.to_json())) == compared  # messages are data in the file, text here


def test_compare_takes_test_where_the_run_has_one(trained: TrainedRun) -> None:
    assert json.loads(trained.project.call("compare", "first", "--json").stdout)["what"] == "test"


PROMPT_FILES: dict[str, tuple[str, Any]] = {
    "text, one a line": ("prompts.txt", "学校压力很大\n\n朋友\n"),
    "rows with answers": (
        "prompts.json",
        [{"instruction": t, "response": "好"} for t in ("学校压力很大", "朋友")],
    ),
    "rows without answers": ("asked.json", [{"instruction": t} for t in ("学校压力很大", "朋友")]),
    "json lines": ("prompts.jsonl", '{"instruction": "学校压力很大"}\n{"instruction": "朋友"}\n'),
    "a table": ("prompts.csv", "instruction\n学校压力很大\n朋友\n"),
}


@pytest.mark.parametrize("kind", PROMPT_FILES)
def test_compare_and_predict_take_prompts_of_every_kind(
    kind: str, trained: TrainedRun, tmp_path: Path
) -> None:
    name, content = PROMPT_FILES[kind]
    file = tmp_path / name
    if isinstance(content, str):
        file.write_text(content, encoding="utf-8")
    else:
        write_json(file, content)
    ended = trained.project.call("compare", "first", "--prompts", file, "--name", "kinds", "--json")
    assert ended.code == 0, ended.stderr
    compared = json.loads(ended.stdout)
    assert [row["source"] for row in compared["rows"]] == ["学校压力很大", "朋友"]
    assert ("chrf" in compared["models"]["wide"]["figures"]) == (kind == "rows with answers")
    ended = trained.project.call("predict", "first", file, "--experiment", "wide")
    assert ended.code == 0, ended.stderr
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [line["answer"] for line in lines] == [row["answers"]["wide"] for row in compared["rows"]]


def test_compare_takes_prompts_from_the_command_line(trained: TrainedRun) -> None:
    ended = trained.project.call(
        "compare", "first", "--prompt", "学校", "--prompt", "[朋友] $HOME", "--experiment", "narrow"
    )
    assert ended.code == 0, ended.stderr
    assert "学校\n  base: " in ended.stdout
    assert "[朋友] $HOME\n  base: " in ended.stdout
    assert "\n  narrow: " in ended.stdout
    assert "wide" not in ended.stdout


def test_predict_by_the_base_and_by_an_adapter(trained: TrainedRun) -> None:
    call, compared = (
        trained.project.call,
        json.loads(trained.project.call("compare", "first", "--json").stdout),
    )
    wanted = {row["source"]: row["answers"] for row in compared["rows"]}
    for model, options in (("base", ["--experiment", "base"]), ("narrow", ["--experiment", "narrow"])):
        answered = call("predict", "first", "data.json", *options)
        assert answered.code == 0, answered.stderr
        found = {line["source"]: line["answer"] for line in map(json.loads, answered.stdout.splitlines())}
        assert {source: found[source] for source in wanted} == {s: a[model] for s, a in wanted.items()}


def test_predict_asks_whose_adapter_where_there_are_several(trained: TrainedRun) -> None:
    ended = trained.project.call("predict", "first", "data.json")
    assert_refused(ended, "RunError: first: ", "several experiments", "narrow (", "--experiment wide`")


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
def test_peft_loads_an_adapter_and_gives_the_answers_that_compare_shows(trained: TrainedRun) -> None:
    compared = json.loads(trained.project.call("compare", "first", "--json").stdout)
    tokenizer = AutoTokenizer.from_pretrained(trained.project.model)
    base = AutoModelForSeq2SeqLM.from_pretrained(trained.project.model)
    model = PeftModel.from_pretrained(base, str(trained.run / "adapters/wide")).eval()
    for row in compared["rows"]:
        tokens = tokenizer(row["source"], return_tensors="pt", truncation=True, max_length=48)
        answer = model.generate(**tokens, max_new_tokens=12, do_sample=False, num_beams=1)
        assert tokenizer.decode(answer[0], skip_special_tokens=True) == row["answers"]["wide"]


JSON_CALLS = {
    "init": ("init", "data.json"),
    "check": ("check", "recipe.yaml"),
    "train": ("train", "recipe.yaml", *SHORT),
    "resume": ("train", "recipe.yaml", "--resume", "first"),
    "compare": ("compare", "first", "--name", "as-json"),
    "predict": ("predict", "first", "data.json", "--experiment", "base"),
    "runs": ("runs", "."),
    "no runs": ("runs", "nowhere"),
}


@pytest.mark.parametrize("call", JSON_CALLS)
def test_json_is_one_document_and_nothing_else(call: str, trained: TrainedRun, tmp_path: Path) -> None:
    extra = ("--out", tmp_path / "run") if call == "train" else ()
    ended = trained.project.call(*JSON_CALLS[call], *extra, "--json")
    assert ended.code == 0, ended.stderr
    assert isinstance(json.loads(ended.stdout), dict)
    assert ended.stdout.endswith("}\n")
    # Of the checks and of the plan, which knows how much memory is free, warnings are shown.
    assert all(line.startswith("warning: ") for line in ended.stderr.splitlines())
    assert not ended.stderr or call in ("train", "resume")


def test_what_each_json_document_holds(trained: TrainedRun, tmp_path: Path) -> None:
    documents = {}
    for call, argv in JSON_CALLS.items():
        extra = ("--out", tmp_path / "run") if call == "train" else ()
        documents[call] = json.loads(trained.project.call(*argv, *extra, "--json").stdout)
    assert documents["init"]["recipe"].startswith("# ")
    assert {"level", "check", "where", "message", "fix"} == set(documents["check"]["findings"][0])
    assert documents["train"]["run"] == str(tmp_path / "run")
    assert documents["train"]["experiments"]["wide"]["status"] == "done"
    assert documents["resume"]["run"] == "first"
    assert set(documents["compare"]) >= {"models", "rows", "signatures", "file"}
    assert {"row", "source", "answer"} == set(documents["predict"]["answers"][0])
    assert [run["run"] for run in documents["runs"]["runs"]] == ["first"]
    assert documents["no runs"] == {"runs": []}


def test_nothing_is_written_on_stdout_before_the_results(trained: TrainedRun) -> None:
    lines = trained.said.stdout.splitlines()
    assert lines[0].split()[0] == "experiment"
    assert [line.split()[0] for line in lines[1:]] == ["wide", "narrow"]
    assert CANARY not in trained.said.stdout + trained.said.stderr
