"""The recipe that a script means: what it says, with the place of each setting, and what is left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loraloom.recipe.reading import parse_recipe
from loraloom.scripts.facts import Facts
from loraloom.scripts.script import Script
from loraloom.scripts.source_text import columns_in, pieces_of, template_of
from tests.scripts.copied import SCRIPT, ScriptReport, changed, checked


def line_of(text: str, words: str) -> str:
    return f"train.py:{next(n for n, line in enumerate(text.splitlines(), 1) if words in line)}"


def left_out(report: ScriptReport) -> list[str]:
    return [str(each.message) for each in report.findings if each.check == "recipe" and each.level == "note"]


def test_the_recipe_of_a_script_is_what_it_says(tmp_path: Path) -> None:
    report = checked(tmp_path, SCRIPT)
    recipe = parse_recipe(report.recipe, name="recipe.yaml")
    assert recipe.model_name_or_path == "google/flan-t5-base"
    assert recipe.dtype == "bfloat16"
    data = recipe.data
    assert (data.train, data.eval, data.split_seed) == ("my.jsonl", 0.1, 7)
    assert data.columns == {"instruction": "document", "response": "summary"}
    assert data.source_prefix == "summarize: "
    assert (data.max_source_length, data.max_target_length) == (128, 64)
    assert (recipe.lora.r, recipe.lora.lora_alpha, recipe.lora.target_modules) == (8, 16, ["q", "v"])
    assert recipe.lora.lora_dropout == 0  # PEFT's default, and not ours
    assert recipe.training.learning_rate == 3e-4
    assert recipe.training.base_dropout == "model"
    assert recipe.generation.max_new_tokens == 64
    assert left_out(report) == []


def test_every_setting_names_its_line(tmp_path: Path) -> None:
    lines = checked(tmp_path, SCRIPT).recipe.splitlines()
    for words, place in {
        "learning_rate: 0.0003": line_of(SCRIPT, "learning_rate="),
        "train: my.jsonl": line_of(SCRIPT, "load_dataset("),
        "target_modules: [q, v]": line_of(SCRIPT, "LoraConfig(t"),
        "lora_dropout: 0.0": f"{line_of(SCRIPT, 'LoraConfig(t')}, PEFT's default",
    }.items():
        assert f"  {words}  # {place}" in lines


def test_what_cannot_be_read_is_said_and_has_its_default(tmp_path: Path) -> None:
    text = changed(
        ('MODEL = "google/flan-t5-base"', "MODEL = sys.argv[1]"),
        ("learning_rate=3e-4", 'learning_rate=float(os.environ["RATE"])'),
        ('load_dataset("json", data_files="my.jsonl")', "rows_of(sys.argv[2])"),
        ('examples["summary"], max', "answers_of(examples), max"),
    )
    report = checked(tmp_path, text)
    said = "\n".join(left_out(report))
    for words in (
        "the name of the base",
        "`learning_rate`",
        "the file with the rows",
        "which column contains the answer",
    ):
        assert words in said
    recipe = parse_recipe(report.recipe, name="recipe.yaml")
    assert "learning_rate" not in report.recipe
    assert recipe.data.train == "data.json"


def test_rows_for_final_figures_other_adapters_and_a_strategy_by_default_are_said(tmp_path: Path) -> None:
    text = changed(
        (
            'load_dataset("json", data_files="my.jsonl")["train"].train_test_split(test_size=0.1, seed=7)',
            'load_dataset("json", data_files={"train": "my.jsonl", "test": "last.jsonl"})',
        ),
        ("lora = LoraConfig(", 'small = LoraConfig(r=2, target_modules=["q"])\nlora = LoraConfig('),
        ('    save_strategy="epoch",\n', "    save_steps=50,\n"),
    )
    report = checked(tmp_path, text)
    recipe = parse_recipe(report.recipe, name="recipe.yaml")
    assert (recipe.data.test, recipe.data.eval) == ("last.jsonl", 0.1)
    assert (recipe.training.save_strategy, recipe.training.save_steps) == ("steps", 50)
    assert recipe.lora.r == 8
    first, second = left_out(report)
    assert first.startswith("not read: the part `test`, which selects the checkpoint in the script")
    assert second.startswith("not read: this LoraConfig: a recipe has only one, so the last was used")


def test_values_that_a_recipe_refuses_are_left_out_with_the_reason(tmp_path: Path) -> None:
    text = changed(
        (
            "    num_train_epochs=2",
            '    num_train_epochs=-2,\n    optim="adafactor",\n    eval_steps=10,\n'
            '    lr_scheduler_type="not_a_schedule",\n    metric_for_best_model="rougeL"',
        ),
        ("r=8", "r=8, init_lora_weights='loftq'"),
    )
    report = checked(tmp_path, text)
    said = "\n".join(left_out(report))
    for words in (
        "num_train_epochs",
        "optim: adafactor",
        "eval_steps",
        "lr_scheduler_type",
        "init_lora_weights",
    ):
        assert words in said
    recipe = parse_recipe(report.recipe, name="recipe.yaml")
    assert recipe.training.metric_for_best_model == "rouge_l"
    assert recipe.training.num_train_epochs == 3


def test_modules_to_save_are_norms_and_others_are_left_out_at_their_line(tmp_path: Path) -> None:
    report = checked(tmp_path, changed(("r=8", 'r=8, modules_to_save=["layer_norm"]')))
    assert "modules_to_save: [layer_norm]" in report.recipe
    assert left_out(report) == []
    text = changed(("r=8", 'r=8,\n    modules_to_save=["lm_head"]'))
    report = checked(tmp_path, text)
    assert "modules_to_save" not in report.recipe
    (found,) = [each for each in report.findings if each.check == "recipe" and each.level == "note"]
    assert "`lm_head`, but only norms can be trained in full" in str(found.message)
    assert found.where == line_of(text, "modules_to_save")


def test_secrets_of_a_script_are_not_shown(tmp_path: Path) -> None:
    text = changed(
        ("    learning_rate=", '    hub_token="hf_secret",\n    push_to_hub=True,\n    learning_rate=')
    )
    report = checked(tmp_path, text.replace("(MODEL)", '(MODEL, token="hf_secret")'))
    shown = json.dumps([each.to_json() for each in report.findings]) + report.recipe
    assert "hf_secret" not in shown
    assert "push_to_hub" in shown


def test_a_script_that_trains_all_weights_keeps_its_rate_for_itself(tmp_path: Path) -> None:
    lines = [
        line for line in SCRIPT.splitlines() if "LoraConfig(" not in line and "get_peft_model(" not in line
    ]
    report = checked(tmp_path, "\n".join(lines))
    assert "learning_rate" not in report.recipe
    assert "lora" not in report.recipe
    assert any("a learning rate for LoRA" in words for words in left_out(report))


def test_names_that_a_gated_model_lacks_are_what_was_meant(tmp_path: Path) -> None:
    report = checked(tmp_path, changed(('["q", "v"]', '["q", "v", "wi", "wo"]')))
    assert "target_modules: [q, v, wi_0, wi_1, wo]" in report.recipe


@pytest.mark.parametrize(
    ("text", "prefix", "columns"),
    [
        ("[x for x in examples['a']]", "", ["a"]),
        ("examples['a']", "", ["a"]),
        ("PREFIX + examples['a']", "fix: ", ["a"]),
        ("[PREFIX + x.strip() for x in examples['a']]", "fix: ", ["a"]),
        ("[x['de'] for x in examples['translation']]", "", ["translation.de"]),
        ("f\"question: {examples['q']} context: {examples['c']}\"", "question: {q} context: {c}", ["q", "c"]),
        ("examples['q'] + ' {?}'", "{q} {{?}}", ["q"]),
    ],
)
def test_a_source_is_read_as_a_column_a_prefix_or_a_template(
    text: str, prefix: str, columns: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "text.py"
    file.write_text(f"PREFIX = 'fix: '\ndef f(examples):\n    return g({text})\n", encoding="utf-8")
    script = Script.of_file(file)
    call = next(call for call in script.calls if call.name == "g")
    pieces = pieces_of(script, call.arguments[0])
    assert pieces is not None
    assert (template_of(pieces), columns_in(pieces)) == (prefix, columns)


@pytest.mark.parametrize(
    ("loading", "train", "more"),
    [
        (
            'load_dataset("csv", data_files={"train": "a.csv", "validation": "b.csv"})',
            "a.csv",
            {"eval": "b.csv"},
        ),
        ('load_dataset("csv", data_files=["a.csv", "b.csv"])', ["a.csv", "b.csv"], {}),
        ('load_dataset("owner/name", "de-en", split="train")', "hub:owner/name", {"hub_config": "de-en"}),
        ('load_from_disk("saved")', "saved", {}),
        ('Dataset.from_pandas(pd.read_csv("rows.csv"))', "rows.csv", {}),
        ('DatasetDict({"train": Dataset.from_list(json.load(open("rows.json")))})', "rows.json", {}),
    ],
)
def test_the_file_of_the_rows_is_found(
    loading: str, train: object, more: dict[str, object], tmp_path: Path
) -> None:
    text = changed(('load_dataset("json", data_files="my.jsonl")["train"]', loading))
    data = parse_recipe(checked(tmp_path, text).recipe, name="recipe.yaml").data
    assert data.train == train
    assert {key: getattr(data, key) for key in more} == more


def test_an_optimizer_of_a_loop_and_early_stopping_are_read(tmp_path: Path) -> None:
    start = SCRIPT.partition("arguments = ")[0]
    loop = checked(tmp_path, f"{start}optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)\n")
    assert parse_recipe(loop.recipe, name="x").training.learning_rate == 5e-4
    text = changed(
        (
            "    compute_metrics=compute_metrics,",
            "    callbacks=[EarlyStoppingCallback(early_stopping_patience=4)],",
        )
    )
    assert parse_recipe(checked(tmp_path, text).recipe, name="x").training.early_stopping_patience == 4


def test_the_api_reads_a_script_too(tmp_path: Path) -> None:
    import loraloom

    (tmp_path / "train.py").write_text(changed(("r=8", "r=8, inference_mode=True")), encoding="utf-8")
    found = loraloom.check_script(tmp_path / "train.py")
    assert [each.check for each in found.errors] == ["adapter"]
    assert Facts(Script.of_file(tmp_path / "train.py")).model_name in found.recipe
