"""What is wrong with a recipe is said at once: line, what was found, what is allowed, the fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from loraloom.errors import RecipeError
from loraloom.recipe import DataSettings, Recipe
from loraloom.recipe.reading import parse_recipe, read_recipe

HEAD = "model_name_or_path: starter\ndata:\n  train: a.json\n"


def complaint(text: str, *sets: str) -> str:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, name="recipe.yaml", sets=sets)
    return str(caught.value)


def accepted(text: str, *sets: str) -> Recipe:
    return parse_recipe(text, name="recipe.yaml", sets=sets)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        # row 40
        ("lora: {rnk: 8}", "recipe.yaml:4: unknown key `lora.rnk`. Did you mean `lora.r`?"),
        (
            "lora: {target_module: [q]}",
            "unknown key `lora.target_module`. Did you mean `lora.target_modules`?",
        ),
        ("trainin: {}", "recipe.yaml:4: unknown key `trainin`. Did you mean `training`?"),
        (
            "lerning_rate: 1",
            "recipe.yaml:4: unknown key `lerning_rate`. Did you mean `training.learning_rate`?",
        ),
        ("generation: {xyzzy: 1}", "`generation.xyzzy`. Allowed: max_new_tokens, num_beams,"),
        # rows 41–46
        (
            "training: {learning_rate: -1}",
            "recipe.yaml:4: `training.learning_rate` must be greater than 0 (found: -1). "
            "Allowed: above 0, at most 10. The default is 0.0003.",
        ),
        ("learning_rate: 0", "`training.learning_rate` must be greater than 0 (found: 0)"),
        ("learning_rate: .nan", "`training.learning_rate` must be a finite number (found: nan)"),
        ("learning_rate: nan", "`training.learning_rate` must be a finite number (found: 'nan')"),
        ("learning_rate: 1e999", "`training.learning_rate` must be a finite number (found: inf)"),
        ("learning_rate: true", "`training.learning_rate` must be a number, not true or false (found: true)"),
        ("learning_rate: fast", "`training.learning_rate` must be a number (found: 'fast')"),
        ("learning_rate: [1]", "`training.learning_rate` must be a number (found: a list)"),
        ("learning_rate:", "`training.learning_rate` must be a number (found: nothing)"),
        ("batch_size: 0", "`training.per_device_train_batch_size` must be at least 1 (found: 0)"),
        ("batch_size: 2.5", "`training.per_device_train_batch_size` must be a whole number (found: 2.5)"),
        ("gradient_accumulation_steps: 0", "`training.gradient_accumulation_steps` must be at least 1"),
        (
            "r: 0",
            "recipe.yaml:4: `lora.r` must be at least 1 (found: 0). Allowed: at least 1, at most 4,096.",
        ),
        ("r: -1", "`lora.r` must be at least 1 (found: -1)"),
        ("lora_alpha: .nan", "`lora.lora_alpha` must be a finite number (found: nan)"),
        (
            "lora_dropout: -1",
            "`lora.lora_dropout` must be at least 0 (found: -1). Allowed: at least 0, below 1.",
        ),
        ("lora_dropout: 1", "`lora.lora_dropout` must be less than 1 (found: 1)"),
        (
            "base_dropout: 1",
            "`training.base_dropout` must be a probability of at least 0 and below 1, or `model`",
        ),
        # row 47, as far as it shows before a model is there
        ("target_modules: []", "recipe.yaml:4: `lora.target_modules` names no module (found: an empty list)"),
        ("target_modules: ''", "`lora.target_modules` names no module"),
        ("target_modules: [q, 1]", "`lora.target_modules` must be `all-linear`, a list of module names, or"),
        ("target_modules: ['decoder:']", "`lora.target_modules` names no module"),
        ("target_modules: ['head:q']", "prefix `encoder:`, `decoder:` or `cross:`, but not `head:`"),
        ("target_modules: '(q'", "`lora.target_modules` must be a valid regular expression"),
        # row 48
        (
            "data.eval: 1.0",
            "recipe.yaml:4: `data.eval` must be less than 1 if it is a share, because 1.0 leaves no row",
        ),
        (
            "data.eval: 1.5",
            "`data.eval` must be a share of at least 0 and below 1, a whole number of rows, or a file",
        ),
        ("eval_size: -1", "`data.eval` must be a share of at least 0 and below 1"),
        ("eval_size: .inf", "`data.eval` must be a share"),
        ("{data.eval: 0.5, data.test: 0.5}", "`data.eval` and data.test together use every row"),
        ("{eval_size: 0, patience: 3}", "`training.early_stopping_patience` needs eval rows"),
        # row 66
        ("fp16: true", "recipe.yaml:4: `fp16: true` is refused: float16 overflows on T5-family models"),
        (
            "dtype: float16",
            "`dtype` must not be float16, which overflows on T5-family models (loss 0 or NaN)",
        ),
        ("torch_dtype: torch.float16", "recipe.yaml:4: `dtype` must not be float16"),
        ("bf16: true\ndtype: float32", "recipe.yaml:4: `bf16: true` contradicts `dtype: float32`"),
        # choices, text, shapes
        (
            "training: {eval_strategy: epoc}",
            "must be one of `no`, `steps`, `epoch` (found: 'epoc'). Did you mean",
        ),
        (
            "device: gpu",
            "`device` is not a device name (found: 'gpu'). Allowed: auto, cpu, cuda",
        ),
        ("lora: 5", "recipe.yaml:4: `lora` must be a mapping of settings (found: 5)"),
        (
            "experiments: [a]",
            "recipe.yaml:4: `experiments` must be a mapping from the name of each experiment",
        ),
        (
            "columns: {foo: x}",
            "recipe.yaml:4: unknown key `data.columns.foo`. Allowed: `instruction`, `input`",
        ),
        ("columns: [x]", "`data.columns` must be a mapping of settings (found: a list)"),
    ],
)
def test_a_problem_names_line_key_value_and_what_is_allowed(line: str, message: str) -> None:
    if line.startswith("{"):
        line = line.strip("{}").replace(", ", "\n")
    assert message in complaint(f"{HEAD}{line}\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "training: {eval_strategy: steps}",
            "recipe.yaml:4: `training.eval_strategy` is `steps`, so eval_steps must",
        ),
        (
            "training:\n  packing: true\n  save_steps: 5",
            "recipe.yaml:6: `training.save_steps` has no effect while",
        ),
        (
            "eval_strategy: no\npatience: 2",
            "recipe.yaml:5: `training.early_stopping_patience` needs evaluations",
        ),
        (
            "generation:\n  num_beams: 1\n  temperature: 0.7\n  top_k: 50",
            "recipe.yaml:6: `generation.temperature` would be ignored: decoding is greedy "
            "while do_sample is false. Set do_sample: true, or remove temperature and top_k.",
        ),
        (
            "generation: {do_sample: true, num_beams: 4}",
            "`generation.do_sample` cannot be combined with num_beams above 1",
        ),
        (
            "generation: {length_penalty: 2}",
            "`generation.length_penalty` would be ignored while num_beams is 1",
        ),
    ],
)
def test_settings_that_do_not_go_together_point_at_the_setting(line: str, message: str) -> None:
    assert message in complaint(f"{HEAD}{line}\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "a: {training: {learning_rate: 0}}",
            "recipe.yaml:5: `experiments.a.training.learning_rate` must be greater",
        ),
        (
            "a: {lr: -1}",
            "recipe.yaml:5: `experiments.a.training.learning_rate` must be greater than 0 (found: -1)",
        ),
        ("a: {lora: {rnk: 1}}", "recipe.yaml:5: unknown key `experiments.a.lora.rnk`. Did you mean"),
        ("a: {xyzzy: 1}", "unknown key `experiments.a.xyzzy`. Allowed: lora, training, seed."),
        ("a: {seed: -1}", "recipe.yaml:5: `experiments.a.seed` must be at least 0 (found: -1)"),
        (
            "a: {packing: false}",
            "`experiments.a.training.packing` cannot be changed by an experiment, because all experiments",
        ),
        (
            "a: {data: {eval: 1}}",
            "`experiments.a.data` cannot be changed by an experiment, because all experiments of a recipe",
        ),
        ("a: {dtype: float32}", "`experiments.a.dtype` cannot be changed by an experiment"),
        ("a: {eval_steps: 5}", "recipe.yaml:5: `experiments.a.training.eval_steps` has no effect while"),
        ("a: {eval_strategy: steps}", "recipe.yaml:5: `experiments.a.training.eval_strategy` is `steps`"),
        (
            "a: 5",
            "recipe.yaml:5: experiment `a` must be a mapping of the settings that it changes (found: 5)",
        ),
        ("base: {}", "recipe.yaml:5: `experiments.base` is not a valid name for an experiment"),
        ("../x: {}", "is not a valid name for an experiment"),
        (
            "a: {}\n  A: {}",
            "recipe.yaml:6: `experiments.A` differs from another experiment's name only in case",
        ),
        (
            "a: {}\n  a: {}",
            "recipe.yaml:6: the key `a` is given twice; the first is at recipe.yaml:5. Remove one",
        ),
    ],
)
def test_an_experiment_is_checked_as_part_of_the_whole(line: str, message: str) -> None:
    assert message in complaint(f"{HEAD}experiments:\n  {line}\n")


def test_every_problem_is_reported_at_once_in_the_order_of_lines() -> None:
    text = HEAD + "lora:\n  rnk: 3\n  r: 0\nexperiments:\n  a: {lr: 0}\ntraining:\n  lr: -1\nfp16: true\n"
    lines = complaint(text, "seed=-1").splitlines()
    wheres = [line.split(": ")[0] for line in lines[:-1]]
    assert wheres == [f"recipe.yaml:{n}" for n in (5, 6, 8, 10, 11)] + ["--set seed=-1"]
    assert lines[-1] == "6 problems in all."


def test_a_problem_of_the_common_settings_is_not_repeated_for_each_experiment() -> None:
    message = complaint(
        HEAD + "lr: -1\neval_strategy: steps\nexperiments:\n  a: {eval_steps: 5}\n  b: {r: 2}\n"
    )
    assert message.splitlines() == [
        "recipe.yaml:4: `training.learning_rate` must be greater than 0 (found: -1). "
        "Allowed: above 0, at most 10. The default is 0.0003."
    ]


def test_what_is_missing_comes_with_an_example() -> None:
    assert complaint("seed: 1").splitlines()[:2] == [
        "recipe.yaml: `model_name_or_path` is missing. "
        "Add `model_name_or_path: starter`, or use a folder or a hub name instead of `starter`.",
        "recipe.yaml: `data` is missing. Add `data: {train: data.json}`.",
    ]
    assert "recipe.yaml:1: `data.train` is missing. Add `train: data.json`" in complaint(
        "data: {eval: 3}\nmodel: x"
    )


@pytest.mark.parametrize("spelling", ["'5e-5'", "5e-5", "5.0e-5", '"0.00005"', "+5E-5"])
def test_number_like_text_is_a_number(spelling: str) -> None:
    assert accepted(f"{HEAD}learning_rate: {spelling}").training.learning_rate == 5e-5


def test_number_like_text_is_a_number_for_counts_and_shares() -> None:
    recipe = accepted(
        HEAD + "r: '4'\nmax_steps: 1e3\nsave_total_limit: '1e1'\neval_size: '0.25'\ntest_data: '7'\n"
    )
    assert (recipe.lora.r, recipe.training.max_steps, recipe.training.save_total_limit) == (4, 1000, 10)
    assert (recipe.data.eval, recipe.data.test) == (0.25, 7)


def test_an_experiments_values_are_read_like_the_recipes() -> None:
    recipe = accepted(HEAD + "experiments:\n  a: {lr: '5e-5', targets: 'q, v', seed: '3'}\n")
    assert recipe.experiments == {
        "a": {"training": {"learning_rate": 5e-5}, "lora": {"target_modules": ["q", "v"]}, "seed": 3}
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("experiments: {'[key]': {r: 1}}", "`experiments.[key]` is not a valid name for an experiment"),
        ("rank_pattern: {'[key]': 0}", "`lora.rank_pattern.[key]` must be at least 1 (found: 0)"),
        ("data.language_codes: {'[key]': 1}", "`data.language_codes.[key]` must be text (found: 1)"),
        ("data.columns: {'[key]': x}", "unknown key `data.columns.[key]`. Allowed: `instruction`, `input`"),
    ],
)
def test_a_key_may_have_the_name_that_pydantic_gives_to_wrong_keys(text: str, message: str) -> None:
    assert message in complaint(HEAD + text)


def test_a_recipe_made_in_python_is_checked_just_as_well() -> None:
    data = DataSettings(train="a.json")
    with pytest.raises(ValueError, match="greater than 0"):
        Recipe(model_name_or_path="x", data=data, experiments={"a": {"training": {"learning_rate": -1}}})
    with pytest.raises(ValueError, match="cannot be changed by an experiment"):
        Recipe(model_name_or_path="x", data=data, experiments={"a": {"generation": {}}})


class TestTheFileItself:
    def test_it_is_missing(self, tmp_path: Path) -> None:
        (tmp_path / "recipe.yaml").write_text(HEAD)
        for name in ("recipes.yaml", "recipe", "recipe.yml"):
            with pytest.raises(RecipeError, match=r"there is no such file. Did you mean `.*recipe.yaml`\?"):
                read_recipe(tmp_path / name)
        with pytest.raises(RecipeError, match="Did you mean `article`"):
            read_recipe("artcle")
        with pytest.raises(RecipeError, match=r"Built-in recipes: .*article.*mt0-large"):
            read_recipe("zzz")

    def test_it_is_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text(HEAD)
        with pytest.raises(RecipeError, match=r"is a folder, not a recipe \(found: a.yaml\)"):
            read_recipe(tmp_path)

    @pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
    def test_its_name_cannot_be(self, name: str) -> None:
        with pytest.raises(RecipeError):
            read_recipe(name)

    def test_it_is_not_utf8(self, tmp_path: Path) -> None:
        file = tmp_path / "r.yaml"
        file.write_bytes(HEAD.encode() + "# 数据".encode("gbk"))
        with pytest.raises(
            RecipeError, match=r"r.yaml:4: is not UTF-8 text \(found: byte 0xca at offset 52\)"
        ):
            read_recipe(file)
        file.write_bytes(HEAD.encode("utf-16"))
        with pytest.raises(RecipeError, match=r"which is how UTF-16 begins\). Save the file as UTF-8."):
            read_recipe(file)

    def test_a_byte_order_mark_is_no_character(self, tmp_path: Path) -> None:
        file = tmp_path / "r.yaml"
        file.write_bytes(HEAD.encode("utf-8-sig"))
        assert read_recipe(str(file)).data.train == "a.json"

    def test_it_is_a_data_file(self, tmp_path: Path) -> None:
        file = tmp_path / "r.yaml"
        file.write_text("好" * 1_400_000, encoding="utf-8")
        with pytest.raises(RecipeError, match="too long for a recipe and may be a data file"):
            read_recipe(file)
