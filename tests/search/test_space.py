"""What may vary, and every way in which a space can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from loraloom.errors import RecipeError
from loraloom.search.request import LARGEST_GRID, make_request
from loraloom.search.space import Space, probe_experiments
from loraloom.search.space_file import parse_space, read_space
from tests.search.small import plain_recipe


def space(text: str) -> Space:
    return parse_space(text, name="space.yaml", recipe=plain_recipe())


def test_nested_dotted_and_aliased_keys_are_one() -> None:
    one = space("lr: [1.0e-4, 1.0e-3]\nlora: {rank: [4, 8]}")
    other = space("training: {learning_rate: ['1e-4', 0.001]}\nlora.r: [4, '8']")
    assert one.to_json() == other.to_json() == {"training.learning_rate": [1e-4, 1e-3], "lora.r": [4, 8]}


def test_ranges_know_their_kind() -> None:
    wide, ranks, dropout, seed = space(
        "lr: {low: 1e-5, high: 1e-2, log: true}\nr: {low: 4, high: 64, log: true}\n"
        "dropout: {low: 0, high: 0.2, step: 0.05}\nseed: {low: 1, high: 3}"
    ).dimensions
    assert (wide.is_finite, wide.is_integer, wide.log) == (False, False, True)
    assert (ranks.is_finite, ranks.is_integer) == (False, True)
    assert list(dropout.values()) == [0, 0.05, 0.1, 0.15, 0.2]
    assert list(seed.values()) == [1, 2, 3]


def test_combinations_are_counted_where_they_can_be() -> None:
    assert space("lr: [1e-4, 1e-3]\nr: {low: 1, high: 3}").size == 6
    assert space("lr: {low: 1e-4, high: 1e-3}\nr: [1]").size is None


def test_a_list_is_a_choice_of_its_own_and_a_likely_slip_is_said() -> None:
    assert space("targets: [[q, v], all-linear]").to_json() == {
        "lora.target_modules": [["q", "v"], "all-linear"]
    }
    (note,) = space("targets: [q, v]").notes
    assert "[[q, v]] would be a single choice of all of them" in note


def test_a_range_that_no_step_ends_is_shortened_and_said() -> None:
    shortened = space("r: {low: 2, high: 9, step: 3}")
    assert shortened.dimensions[0].high == 8
    assert shortened.notes == ("space.yaml:1: lora.r ends at 8, because no step reaches 9",)


def test_probes_are_named_after_their_values() -> None:
    names = list(probe_experiments(space("r: [4, 8]\ntargets: [[q, v]]")))
    assert names == ["lora.r-4", "lora.r-8", "lora.target_modules-q-v"]


BAD = {
    "": "space.yaml: the space is empty",
    "[1, 2]": "space.yaml:1: a space must be a mapping of settings (found: a list)",
    "lora:": "space.yaml: the space contains no setting",
    "\nlearning_rat: [1]": "space.yaml:2: unknown key `learning_rat`. Did you mean `training.learning_rate`?",
    "lora: {rnk: [1]}": "unknown key `lora.rnk`. Did you mean `lora.r`?",
    "lr: 3": "`training.learning_rate` must be a list of choices or a range (found: 3)",
    "lr: []": "`training.learning_rate` is an empty list",
    "lr: {}": "`training.learning_rate` has an empty range",
    "lr: {low: 1, high: 0.1}": "(found: low 1, high 0.1). Write `{low: 0.1, high: 1}`.",
    "lr: {low: 0.1, high: 0.1}": "(found: low 0.1, high 0.1). Write `[0.1]` for one value.",
    "lr: {low: 0, high: 0.1, log: true}": "a logarithmic range must begin above 0 (found: low 0)",
    "lr: {low: 0, high: 0.1}": "`training.learning_rate` must be greater than 0 (found: 0.0)",
    "r: [4, 5000]": "`lora.r` must be at most 4,096 (found: 5000)",
    "r: {low: 0, high: 8}": "`lora.r` must be at least 1 (found: 0)",
    "dropout: {low: 0, high: 1}": "`lora.lora_dropout` must be less than 1 (found: 1.0)",
    "lr: [0.1, fast]": "`training.learning_rate` must be a number (found: 'fast')",
    "r: [4, '4']": "`lora.r` contains the same choice twice (found: 4)",
    "r: {low: 1.5, high: 4}": "`lora.r.low` must be a whole number (found: 1.5)",
    "r: {low: 1, high: true}": "`lora.r.high` must be a whole number (found: true)",
    "r: {low: 1}": "`lora.r` has no `high`",
    "r: {min: 1, high: 4}": "`lora.r.min` is not part of a range. Did you mean `low`?",
    "r: {low: 1, high: 4, stride: 2}": "is not part of a range. Allowed: low, high, step, log",
    "r: {low: 1, high: 4, step: 5}": "does not fit the range (found: 5). Allowed: above 0, at most 3",
    "r: {low: 1, high: 4, log: 1}": "`lora.r.log` must be true or false (found: 1)",
    "lr: {low: 0.1, high: 1, log: true, step: 0.1}": "`step` cannot be combined with `log`",
    "seed: {low: 0, high: 99999999999999999}": "`seed`: an end of the range is too large",
    "targets: {low: 1, high: 2}": "`lora.target_modules` is not a number and cannot have a range",
    "eval_strategy: [epoch, steps]": "`training.eval_strategy` is `steps`, so eval_steps must be set",
    "packing: [true, false]": "`training.packing` cannot vary in a search, because all trials share one pass",
    "metric_for_best_model: [chrf]": "trials judged by different metrics cannot be ranked",
    "model: [a, b]": "`model_name_or_path` cannot vary in a search, because all trials share one base",
    "fp16: [true]": "`fp16` is not a setting that can vary",
    "experiments: {a: {}}": "`experiments` is not allowed in a space",
    "lr: [1e-4]\nlr: [1e-3]": "space.yaml:2: the key `lr` is given twice; the first is at space.yaml:1",
    "lr: [1e-4": "space.yaml:1: not readable as YAML",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_wrong_is_said_with_its_line(text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        space(text)
    assert BAD[text] in str(caught.value)


def test_all_problems_come_at_once_and_in_order() -> None:
    with pytest.raises(RecipeError) as caught:
        space("lr: {low: 1, high: 0.1}\nr: [0]\nrnk: [1]\npacking: [true]")
    assert [problem.where for problem in caught.value.problems] == [f"space.yaml:{n}" for n in (1, 2, 3, 4)]


def test_a_file_that_is_not_there_is_guessed(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("r: [1]", encoding="utf-8")
    assert read_space(tmp_path / "space.yaml", plain_recipe()).size == 1
    with pytest.raises(RecipeError, match=r"Did you mean `.*space\.yaml`\?"):
        read_space(tmp_path / "spaec.yaml", plain_recipe())


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ({}, {"num_trials": 0}, "--trials: there must be at least one trial (found: 0)"),
        ({}, {"sampler": "tpee"}, "Did you mean `tpe`?"),
        (
            {},
            {"sampler": "grid"},
            "space.yaml:1: the grid is infinite, because `training.learning_rate` is continuous",
        ),
        (
            {"experiments": {"a": {}}},
            {},
            "but the recipe has its own (found: a). Remove them with `--set experiments=`",
        ),
        ({"seeds": 2}, {}, "seeds: a search trains each trial with only one seed (found: 2)"),
        ({"data": {"train": "d.json", "eval": 0}}, {}, "data.eval: a search needs eval rows"),
        ({"eval_strategy": "no"}, {}, "training.eval_strategy: a search needs evaluations"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    recipe: dict[str, object], options: dict[str, object], message: str
) -> None:
    settings = plain_recipe(**recipe)
    varied = parse_space("lr: {low: 1e-4, high: 1e-3}", name="space.yaml", recipe=settings)
    with pytest.raises(RecipeError) as caught:
        make_request(settings, varied, **({"num_trials": 3} | options))  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_trials_without_evaluations_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"space\.yaml:2: a trial without evaluations cannot be judged"):
        make_request(plain_recipe(), space("r: [1]\neval_strategy: [epoch, no]"), num_trials=2)


def test_a_grid_beyond_all_measure_is_refused() -> None:
    wide = space("seed: {low: 0, high: 1000}\nr: {low: 1, high: 1000}")
    assert (wide.size or 0) > LARGEST_GRID
    with pytest.raises(RecipeError, match="the grid is too large"):
        make_request(plain_recipe(), wide, num_trials=3, sampler="grid")


def test_there_are_no_more_trials_than_combinations() -> None:
    request = make_request(plain_recipe(), space("r: [1, 2]\nlr: [0.1, 0.2]"), num_trials=9, sampler="grid")
    assert request.num_trials == 4
    assert request.notes == ("the space has 4 combinations, so 4 trials are run, not 9",)
