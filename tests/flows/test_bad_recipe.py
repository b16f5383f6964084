"""Recipes that cannot be right: the key and its line, what was found, what is allowed; in under a second."""

from __future__ import annotations

import pytest

from tests.flows.conftest import Project, assert_refused

# The row of bad-inputs.md → (what is set, what the message says).
REFUSED: dict[str, tuple[str, tuple[str, ...]]] = {
    "40 an unknown key": ("lora.rnk=4", ("`lora.rnk`", "Did you mean `lora.r`?")),
    "40 an unknown section": ("trainign.learning_rate=1", ("Did you mean `training",)),
    "41 learning_rate -1": ("training.learning_rate=-1", ("training.learning_rate", "-1", "above 0")),
    "41 learning_rate 0": ("training.learning_rate=0", ("training.learning_rate", "above 0")),
    "41 learning_rate NaN": ("training.learning_rate=.nan", ("training.learning_rate",)),
    "41 learning_rate inf": ("training.learning_rate=.inf", ("training.learning_rate",)),
    "42 batch 0": (
        "training.per_device_train_batch_size=0",
        ("training.per_device_train_batch_size", "at least 1"),
    ),
    "43 accumulation 0": (
        "training.gradient_accumulation_steps=0",
        ("training.gradient_accumulation_steps", "at least 1"),
    ),
    "44 r 0": ("lora.r=0", ("lora.r", "at least 1")),
    "44 r -1": ("lora.r=-1", ("lora.r", "at least 1")),
    "44 r 1.5": ("lora.r=1.5", ("lora.r",)),
    "45 lora_alpha NaN": ("lora.lora_alpha=.nan", ("lora.lora_alpha",)),
    "46 lora_dropout -1": ("lora.lora_dropout=-1", ("lora.lora_dropout", "at least 0")),
    "46 lora_dropout 1": ("lora.lora_dropout=1", ("lora.lora_dropout", "below 1")),
    "48 eval all rows": ("data.eval=1.0", ("data.eval",)),
    "48 eval below 0": ("data.eval=-0.5", ("data.eval",)),
    "66 fp16": ("fp16=true", ("fp16",)),
    "66 float16": ("dtype=float16", ("`dtype` must not be float16, which overflows",)),
    "no such device": ("device=gpu", ("device", "cuda")),
    "47 no regular expression": ("lora.target_modules='q('", ("must be a valid regular expression",)),
    "no value": ("lora.r", ("--set",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, project: Project) -> None:
    setting, said = REFUSED[case]
    for verb, *out in (("check",), ("train", "--out", "run")):
        assert_refused(project.call(verb, "recipe.yaml", "--set", setting, *out), "RecipeError: ", *said)
    assert not (project.folder / "run").exists()


def test_a_problem_in_a_file_has_its_line_and_all_are_told_at_once(project: Project) -> None:
    text = (project.folder / "recipe.yaml").read_text(encoding="utf-8")
    project.write_recipe("bad.yaml", f"{text}dtype: fp8\nlora_r: 0\nsed: 42\n")
    ended = project.call("check", "bad.yaml")
    assert_refused(
        ended, "bad.yaml:9: ", "bad.yaml:10: ", "bad.yaml:11: ", "Did you mean `seed`?", "3 problems"
    )


@pytest.mark.parametrize("setting", ["training.learning_rate='5e-5'", "lora.r='4'", "lora.lora_alpha='32'"])
def test_41_44_numbers_in_quotes_are_numbers(setting: str, project: Project) -> None:
    assert project.call("check", "recipe.yaml", "--set", setting).code == 0


@pytest.mark.parametrize(
    ("count", "said"), [(24, "none would be left to train on"), (1000, "data.json has 24")]
)
def test_48_an_eval_count_that_takes_every_row(count: int, said: str, project: Project) -> None:
    for verb, *out in (("check",), ("train", "--out", "run")):
        ended = project.call(verb, "recipe.yaml", "--set", f"data.eval={count}", *out)
        assert_refused(ended, "DataError: data.eval: ", said)
    assert not (project.folder / "run").exists()


def test_48_no_eval_rows_is_a_choice_with_a_warning(project: Project) -> None:
    ended = project.call("check", "recipe.yaml", "--set", "data.eval=0")
    assert ended.code == 0, ended.stderr
    assert "no checkpoint is selected" in ended.stderr


TARGETS: dict[str, tuple[str, tuple[str, ...]]] = {
    "nothing matches": ("[query]", ("`query` matches no linear", "all-linear")),
    "one of several matches nothing": ("[q, v, wi]", ("`wi` matches no linear", "wi_0 and wi_1")),
    "two of several": ("[q, kk, vv]", ("`kk` matches", "`vv` matches", "2 problems in all")),
    "the embedding": ("[q, shared]", ("`shared` is the embedding", "Leave it out")),
    "the head": ("[q, lm_head]", ("`lm_head` is the embedding, the output head", "Leave it out")),
    "a place without it": ("['encoder:EncDecAttention.q']", ("matches no linear of the encoder",)),
}


@pytest.mark.parametrize("case", TARGETS)
def test_47_targets(case: str, project: Project) -> None:
    value, said = TARGETS[case]
    for verb, *out in (("check",), ("train", "--out", "run")):
        ended = project.call(
            verb, "recipe.yaml", "--set", f"experiments.wide.lora.target_modules={value}", *out
        )
        assert_refused(ended, "TargetError: ", *said)
    assert not (project.folder / "run").exists()
