"""Searches and tables of experiments that cannot be right: refused with the reason, nothing begun."""

from __future__ import annotations

import pytest

from tests.flows.conftest import Project, TrainedRun, assert_refused

SHARED = (
    "cannot be changed by an experiment, because all experiments of a recipe share one base, dataset and pass"
)

EXPERIMENTS: dict[str, tuple[str, str]] = {
    "two of one name": ("{a: {seed: 1}, a: {seed: 2}}", "the key `a` is given twice"),
    "two names that differ in case": ("{a: {}, A: {}}", "only in case"),
    "another dtype": ("{a: {dtype: bfloat16}}", f"`experiments.a.dtype` {SHARED}"),
    "another device": ("{a: {device: cpu}}", f"`experiments.a.device` {SHARED}"),
    "another base": ("{a: {model: starter}}", f"`experiments.a.model_name_or_path` {SHARED}"),
    "other data": ("{a: {data: {train: x.json}}}", f"`experiments.a.data` {SHARED}"),
    "another tokenizer": ("{a: {tokenizer: x}}", "the tokenizer is the base model's own"),
    "a name that leaves the run": ("{../a: {}}", "is not a valid name for an experiment"),
    "the base's name": ("{base: {}}", "is not a valid name for an experiment"),
}


@pytest.mark.parametrize("case", EXPERIMENTS)
@pytest.mark.parametrize("in_a_file", [False, True])
def test_experiments_that_cannot_be(case: str, in_a_file: bool, project: Project) -> None:
    text, said = EXPERIMENTS[case]
    sets: tuple[str, ...] = ("--set", f"experiments={text}")
    if in_a_file:
        recipe = (project.folder / "recipe.yaml").read_text(encoding="utf-8")
        begin, end = recipe.index("experiments:"), recipe.index("generation:")
        project.write_recipe("recipe.yaml", f"{recipe[:begin]}experiments: {text}\n{recipe[end:]}")
        sets = ()
    for verb, *out in (("check",), ("train", "--out", "run")):
        ended = project.call(verb, "recipe.yaml", *sets, *out)
        assert_refused(ended, "RecipeError: ", "recipe.yaml:5: " if in_a_file else "--set experiments=", said)
    assert not (project.folder / "run").exists()


def test_an_experiment_that_differs_in_nothing_is_warned_of(project: Project) -> None:
    ended = project.call("check", "recipe.yaml", "--set", "experiments={b: {}, c: {seed: 1}}")
    assert ended.code == 0, ended.stderr
    said = "experiment `b` is identical to `wide`"
    assert f"warning: --set experiments={{b: {{}}, c: {{seed: 1}}}}: {said}" in ended.stderr
    assert "`c` differs" not in ended.stderr


ONE = ("--set", "experiments=", "--set", "training.max_steps=2")
SPACES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "a key of no recipe": ("lr: [1.0e-3]\nrnk: [4]\n", (), "space.yaml:2: unknown key `rnk`"),
    "an empty range": ("lr: {low: 0.1, high: 0.1}\n", (), "(found: low 0.1, high 0.1)"),
    "a range backwards": ("lr: {low: 0.1, high: 0.01}\n", (), "Write `{low: 0.01, high: 0.1}`"),
    "an empty list": ("lr: []\n", (), "is an empty list"),
    "an empty space": ("\n", (), "the space is empty"),
    "0 trials": (
        "lr: [1.0e-3]\n",
        ("--trials", "0"),
        "--trials: there must be at least one trial (found: 0)",
    ),
    "fewer than 0 trials": ("lr: [1.0e-3]\n", ("--trials", "-1"), "at least one trial (found: -1)"),
    "no such sampler": ("lr: [1.0e-3]\n", ("--sampler", "tpee"), "Did you mean `tpe`?"),
    "bases": ("model: [a, b]\n", (), "all trials share one base"),
    "dtypes": ("dtype: [float32, bfloat16]\n", (), "all trials share one base"),
    "data": ("data: {train: [a.json, b.json]}\n", (), "all trials share one base"),
    "code": ("lr: !!python/object/apply:os.system [ls]\n", (), "has no meaning"),
}


@pytest.mark.parametrize("case", SPACES)
def test_spaces_that_cannot_be(case: str, project: Project) -> None:
    text, options, said = SPACES[case]
    (project.folder / "space.yaml").write_text(text, encoding="utf-8")
    argv = ("search", "recipe.yaml", "--space", "space.yaml", *ONE, "--out", "run")
    ended = project.call(*argv, *(("--trials", "2") if "--trials" not in options else ()), *options)
    assert_refused(ended, "RecipeError: ", said)
    assert not (project.folder / "run").exists()


def test_a_search_is_gone_on_with_as_it_was_begun(project: Project) -> None:
    space = project.folder / "space.yaml"
    space.write_text("lr: [1.0e-3, 1.0e-2]\n", encoding="utf-8")
    short = ("--set", "training.max_steps=1")
    search = ("search", "recipe.yaml", "--space", "space.yaml", "--sampler", "grid", *ONE, *short)
    assert project.call(*search, "--trials", "2", "--out", "run").code == 0
    before = {file: file.read_bytes() for file in (project.folder / "run").glob("*.json")}
    resume = (*search, "--resume", "run")
    assert_refused(
        project.call(*resume, "--trials", "1"),
        "--trials: differs from the search that started this run (found: 1). Allowed: 2",
    )
    assert_refused(
        project.call(*resume, "--trials", "2", "--set", "lora.r=8"),
        "lora.r: differs from the run's recipe (found: 8). Allowed: 4",
    )
    space.write_text("lr: [1.0e-3, 1.0e-1]\n", encoding="utf-8")
    assert_refused(
        project.call(*resume, "--trials", "2"),
        "space.yaml: training.learning_rate: differs from the run's space",
        "[0.001, 0.1]",
        "[0.001, 0.01]",
    )
    assert {file: file.read_bytes() for file in before} == before


def test_a_run_is_gone_on_with_by_its_own_experiments(trained: TrainedRun) -> None:
    ended = trained.project.call(
        "train", "recipe.yaml", "--set", "experiments.narrow.seed=7", "--resume", "first"
    )
    assert_refused(ended, "experiments.narrow.seed: differs from the run's recipe (found: 7)")
