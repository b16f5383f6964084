"""The article's recipe runs; the article's own target list, with its literal `wi`, is refused."""

from __future__ import annotations

import json

from tests.flows.conftest import Project, assert_refused

WI = "experiments.all-targets.lora.target_modules=[q, v, k, o, wi, wo]"


def on_a_tiny_model(project: Project) -> tuple[str, ...]:
    sets = (f"model_name_or_path={project.model}", "data.train=data.json", "training.max_steps=2")
    return tuple(word for value in sets for word in ("--set", value))


def test_it_trains_its_three_experiments(project: Project) -> None:
    assert project.call("check", "article", *on_a_tiny_model(project)).code == 0
    ended = project.call("train", "article", *on_a_tiny_model(project), "--out", "run", "--json")
    assert ended.code == 0, ended.stderr
    experiments = json.loads(ended.stdout)["experiments"]
    assert list(experiments) == ["few-targets", "all-targets", "all-targets-slow"]


def test_a_literal_wi_is_refused_with_the_explanation(project: Project) -> None:
    for verb in ("check", "train"):
        ended = project.call(verb, "article", *on_a_tiny_model(project), "--set", WI)
        assert_refused(
            ended,
            "TargetError: ",
            "`wi` matches no linear of ",
            "(gated feed-forward)",
            "It has wi_0 and wi_1",
            "Set target_modules: [q, v, k, o, wi_0, wi_1, wo], or all-linear",
        )
    assert not list((project.folder / "runs").glob("*"))


def test_its_placeholder_for_data_is_named_when_it_is_missing(project: Project) -> None:
    (project.folder / "data.json").unlink()
    assert_refused(project.call("check", "article"), "DataError: data.json: no such file")
