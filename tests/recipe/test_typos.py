"""A suggestion is what was meant, or there is none: another word is no slip, and gets its own explanation."""

from __future__ import annotations

import re

import pytest

from loraloom.errors import RecipeError
from loraloom.recipe.reading import parse_recipe, parse_recipe_with_notes
from loraloom.recipe.setting_names import FIELDS, nearest_key
from loraloom.recipe.trainer_keys import TRAINER_KEYS
from loraloom.recipe.typos import nearest
from loraloom.text.visible import one_line

HEAD = "model: starter\ndata: {train: a.json, eval: 0.1}\n"


def refusal(text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(HEAD + text, name="recipe.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("lerning_rate", "training.learning_rate"),
        ("learning-rat", "training.learning_rate"),
        ("Learnig_Rate", "training.learning_rate"),
        ("learningrates", "training.learning_rate"),
        ("num_train_epoch", "training.num_train_epochs"),
        ("epochs_num", "training.num_train_epochs"),
        ("grad_clip_norm", "training.max_grad_norm"),
        ("max_grad", "training.max_grad_norm"),
        ("per_device_train_batchsize", "training.per_device_train_batch_size"),
        ("weigth_decay", "training.weight_decay"),
        ("sed", "seed"),
        ("trainign", "training"),
        ("topk", "generation.top_k"),
        ("lora_alhpa", "lora.lora_alpha"),
        ("max_new_token", "generation.max_new_tokens"),
    ],
)
def test_slips_of_the_finger_are_met_with_what_was_meant(key: str, meant: str) -> None:
    assert nearest_key("", key) == meant


@pytest.mark.parametrize(
    "key",
    [
        "max_samples",
        "num_samples",
        "eval_samples",
        "max_eval_steps",
        "label_column",
        "id_column",
        "stage",
        "streaming",
        "template",
        "mode_of",
        "test_ratio",
        "lora_layers",
        "decay_steps",
        "step_size",
        "task_name",
        "remove_columns",
        "min_target_length",
        "strategy",
        "block_size",
        "rank_dropout",
        "adapter_path",
        "train_dir",
        "history_column",
        "x",
    ],
)
def test_another_word_is_not_corrected_to_a_setting_that_means_something_else(key: str) -> None:
    assert nearest_key("", key) == ""
    assert nearest_key("training", key) == ""


@pytest.mark.parametrize("path", FIELDS, ids=".".join)
def test_every_setting_is_found_with_a_letter_left_out_or_two_exchanged(path: tuple[str, ...]) -> None:
    name = path[-1]
    if len(name) < 6:
        return
    section = path[0] if len(path) > 1 else ""
    for wrong in (f"{name[:3]}{name[4:]}", f"{name[:-2]}{name[-1]}{name[-2]}", f"{name}x"):
        if wrong not in (name, "devicse"):  # as near to `device`
            assert nearest_key(section, wrong) == ".".join(path), wrong


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "max_samples: 500",
            "`max_samples: 500` is refused: all rows are used. Shorten the file, or set training.max_steps.",
        ),
        ("data.max_samples: 500", "all rows are used"),
        ("max_eval_steps: 5", "Set data.eval to a number of rows, or shorten its file."),
        ("label_column: y", "Write data.columns: {instruction: …, response: …}."),
        ("global_batch_size: 64", "per_device_train_batch_size × training.gradient_accumulation_steps"),
        ("mixed_precision: bf16", "Set dtype: bfloat16 or dtype: float32."),
        ("lora_target_linear: true", "Set lora.target_modules: all-linear."),
        ("wandb_project: mine", "trackers are named by training.report_to"),
        ("betas: [0.9, 0.95]", "Set training.adam_beta1 and training.adam_beta2."),
        ("block_size: 512", "Set data.max_source_length, data.max_target_length or generation.max_new"),
        ("stage: dpo", "pairs of an instruction and a response"),
        ("training: {lora: {r: 8}}", "`lora` is a separate section; write it outside of `training`."),
    ],
)
def test_known_keys_of_other_trainers_are_explained(line: str, message: str) -> None:
    assert message in refusal(line)
    assert "Did you mean" not in refusal(line)


@pytest.mark.parametrize(
    "line", ["max_samples:", "stage: sft", "finetuning_type: lora", "shuffle: true", "gpus: 1"]
)
def test_a_value_that_says_what_happens_anyway_is_noted(line: str) -> None:
    notes = parse_recipe_with_notes(HEAD + line, name="recipe.yaml").notes
    assert any(line.partition(":")[0] in str(note) for note in notes)


def test_every_fix_of_the_table_names_settings_there_are() -> None:
    known = {".".join(path) for path in FIELDS} | {"data.columns", "data.json", "events.jsonl", "config.json"}
    for key, row in TRAINER_KEYS.items():
        named = re.findall(r"\b(?:data|lora|training|generation)\.[a-z_0-9]+", f"{row.fix} {row.reason}")
        assert set(named) <= known, key


def test_names_of_files_are_compared_with_their_folder() -> None:
    folder = "/somewhere/with_a_long/name-of-a-folder/" + "x" * 90
    assert nearest(f"{folder}/recipes.yaml", [f"{folder}/recipe.yaml"]) == f"{folder}/recipe.yaml"
    assert nearest(f"{folder}/notes.yaml", [f"{folder}/recipe.yaml"]) == ""


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        (
            "model: [a]",
            "must be text (found: a list). Write one text, as in `model_name_or_path: starter`.",
        ),
        (
            "model:",
            "must be text (found: nothing). Write one text, as in `model_name_or_path: starter`.",
        ),
        ("data: {train: {a: b}}", "as in `data.train: data.json`"),
        ("data: {train: a.json, source_prefix: [a]}", 'as in `data.source_prefix: "summarize: "`.'),
        ("data: {train: a.json, encoding: [a]}", "as in `data.encoding: "),
        ("lora: 5", "Write its settings below it, as in `lora: {r: 16}`."),
        ("training: [a]", "as in `training: {learning_rate: 1e-4}`."),
        ("data: {train: a.json, columns: x}", "as in `data.columns: {instruction: question}`."),
    ],
)
def test_a_value_of_another_kind_is_met_with_how_to_write_it(line: str, fix: str) -> None:
    other = "data: a.json\n" if line.startswith("model") else "model: starter\n"
    other += "" if line.startswith(("model", "data")) else "data: a.json\n"
    with pytest.raises(RecipeError) as caught:
        parse_recipe(other + line, name="recipe.yaml")
    assert fix in str(caught.value)


def test_what_another_program_said_is_told_beyond_its_first_line() -> None:
    said = ValueError("Config name is missing.\nPlease pick one among the available configs: ['en', 'de']\n")
    assert (
        one_line(said) == "Config name is missing. Please pick one among the available configs: ['en', 'de']"
    )
    long = one_line("word " * 200)
    assert long.endswith("word …")
    assert len(long) <= 302
    assert one_line("x" * 400) == f"{'x' * 300} …"
    assert one_line("") == ""
