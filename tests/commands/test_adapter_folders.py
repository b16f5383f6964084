"""Adapters that PEFT made, and no run of ours: compare, predict and merge answer as PEFT does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import loraloom
from loraloom.commands import merge as merge_command
from loraloom.errors import AdapterError, DataError, LoRALoomError, ModelError, RecipeError
from loraloom.run.events import Event, Note, WarningNote
from loraloom.text.message import from_data
from tests.faults.warm import Warm

# PEFT asks transformers for a name that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

ROWS = [{"instruction": f"学校压力很大 {n}?", "response": f"先深呼吸 {n}。"} for n in range(6)]
SHORT = ["generation.max_new_tokens=8"]


def make_adapter(base: Path, folder: Path, seed: int, **config: Any) -> Path:
    """An adapter as PEFT writes it, whose B is not zero."""
    torch.manual_seed(seed)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q", "v"], "init_lora_weights": False} | config
    model = get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(base), LoraConfig(**settings))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base(tiny: Callable[[str], Path]) -> Path:
    return tiny("mt5")


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two adapters of PEFT's and rows."""
    folder = tmp_path_factory.mktemp("adapters")
    make_adapter(base, folder / "first", 1)
    make_adapter(base, folder / "second", 2, r=2)
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
    (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
    return folder


def answers_of_peft(base: Path, adapter: Path | None, num_tokens: int = 8) -> list[str]:
    """Greedy answers of transformers and PEFT, row by row."""
    model = AutoModelForSeq2SeqLM.from_pretrained(base)
    model.config.tie_word_embeddings = False  # which transformers 5 forces, and scales by
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    tokenizer = AutoTokenizer.from_pretrained(base)
    said = []
    for row in ROWS:
        inputs = tokenizer(row["instruction"], return_tensors="pt")
        tokens = model.eval().generate(**inputs, max_new_tokens=num_tokens, do_sample=False)
        said.append(tokenizer.decode(tokens[0], skip_special_tokens=True))
    return said


def notes(told: list[Event]) -> str:
    return "\n".join(event.message for event in told if isinstance(event, Note))


def test_predict_answers_as_peft_does_and_says_by_which_settings(base: Path, adapters: Path) -> None:
    told: list[Event] = []
    answered = loraloom.predict(
        None, adapters / "rows.jsonl", base=base, adapter=adapters / "first", sets=SHORT, report=told.append
    )
    assert [each.answer for each in answered] == answers_of_peft(base, adapters / "first")
    assert "these adapters have no recipe" in notes(told)
    assert "num_beams 1, do_sample false" in notes(told)
    assert "except max_new_tokens 8" in notes(told)
    assert "max_source_length 256" in notes(told)
    assert "it has no fingerprint of its base" in notes(told)


def test_without_settings_all_are_said_to_be_defaults(base: Path, adapters: Path, tmp_path: Path) -> None:
    told: list[Event] = []
    (tmp_path / "asked.txt").write_text("one\n", encoding="utf-8")
    adapter = adapters / "first"
    list(loraloom.predict(None, tmp_path / "asked.txt", base=base, adapter=adapter, report=told.append))
    assert "except" not in notes(told)
    assert "max_new_tokens 256" in notes(told)


def test_compare_judges_all_of_them_in_one_pass(base: Path, adapters: Path, tmp_path: Path) -> None:
    compared = loraloom.compare(
        base=base,
        adapters=[adapters / "first", f"other={adapters / 'second'}"],
        data=adapters / "rows.jsonl",
        sets=SHORT,
        out=tmp_path / "kept.json",
    )
    assert list(compared.models) == ["base", "first", "other"]
    for name, folder in (("base", None), ("first", "first"), ("other", "second")):
        wanted = answers_of_peft(base, None if folder is None else adapters / folder)
        assert [row.answers[name] for row in compared.rows] == wanted
    assert compared.what == "data"
    assert {each.model for each in compared.differences} == {"first", "other"}
    kept = json.loads((tmp_path / "kept.json").read_bytes())
    assert list(map(from_data, kept["sentences"])) == list(compared.sentences)
    assert [file.name for file in tmp_path.iterdir()] == ["kept.json"]


def test_a_comparison_that_is_not_kept_leaves_nothing(
    base: Path, adapters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    compared = loraloom.compare(base=base, adapters=[adapters / "first"], prompts=["一"], sets=SHORT)
    assert compared.file is None
    assert not list(tmp_path.iterdir())
    assert sorted(file.name for file in adapters.iterdir()) == ["first", "rows.jsonl", "second"]


@pytest.mark.usefixtures("proof_here")
def test_a_merged_folder_answers_as_peft_does(base: Path, adapters: Path, tmp_path: Path) -> None:
    merged = loraloom.merge(
        None,
        tmp_path / "merged",
        base=base,
        adapter=adapters / "first",
        data=adapters / "rows.jsonl",
        sets=SHORT,
    )
    assert merged.experiment == "first"
    assert merged.proof["rows"] == "6 rows of the given data"
    assert answers_of_peft(merged.folder, None) == answers_of_peft(base, adapters / "first")
    card = (merged.folder / "README.md").read_text(encoding="utf-8")
    assert "without the run that trained the adapter" in card
    assert "learning_rate" not in card
    assert str(base.parent) not in card


def test_what_does_not_fit_is_refused_before_the_base_is_loaded(
    base: Path, adapters: Path, tmp_path: Path, tiny: Callable[[str], Path]
) -> None:
    rows = adapters / "rows.jsonl"

    def compare(*given: Path | str, **how: Any) -> None:
        loraloom.compare(base=base, adapters=given, **({"data": rows} | how))

    with pytest.raises(AdapterError, match="there is no such folder"):
        compare(tmp_path / "none")
    with pytest.raises(AdapterError, match=r"two adapters would have the same name.*NAME=FOLDER"):
        compare(adapters / "first", f"first={adapters / 'second'}")
    for name in ("base", "Base"):  # as in a recipe
        with pytest.raises(AdapterError, match="cannot be used for an adapter"):
            compare(f"{name}={adapters / 'first'}")
    with pytest.raises(RecipeError, match="nothing is trained, so lora cannot be set"):
        compare(adapters / "first", sets=["lora.r=4"])
    with pytest.raises(DataError, match="needs rows"):
        compare(adapters / "first", data=None)
    with pytest.raises(LoRALoomError, match="JSON file"):
        compare(adapters / "first", out=tmp_path / "kept.csv")
    of_t5 = make_adapter(tiny("t5"), tmp_path / "t5", 1, target_modules=["wi"])
    with pytest.raises(AdapterError):
        compare(of_t5)


def test_the_command_line_takes_them_in_place_of_a_run(
    base: Path, adapters: Path, tmp_path: Path, warm: Warm
) -> None:
    given = ["--base", base, "--adapter", adapters / "first"]
    ended = warm.call("predict", *given, adapters / "rows.jsonl", "--set", SHORT[0], cwd=tmp_path)
    assert ended.code == 0, ended.stderr
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [line["answer"] for line in lines] == answers_of_peft(base, adapters / "first")
    ended = warm.call("compare", *given, "--data", adapters / "rows.jsonl", "--set", SHORT[0], cwd=tmp_path)
    assert ended.code == 0, ended.stderr
    assert "not stored; use --out FILE.json to store them" in ended.stderr
    ended = warm.call("merge", *given, "merged", "--set", SHORT[0], cwd=tmp_path)
    assert ended.code == 0, ended.stderr
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    for argv, said in (
        (("compare", *given, "--split", "eval"), "--split can only be used with a run"),
        (("compare", "run", *given), "--adapter cannot be combined with RUN"),
        (("predict", "--adapter", adapters / "first", "rows.jsonl"), "--adapter requires --base"),
        (("compare",), "give a run, or --base FOLDER and --adapter FOLDER"),
        (("predict", "run", "rows.jsonl", "--set", "generation.num_beams=2"), "with its own recipe"),
    ):
        ended = warm.call(*argv, cwd=tmp_path)
        assert ended.code == 2
        assert said in " ".join(ended.stderr.replace("│", " ").split()), ended.stderr


@pytest.mark.parametrize(
    "setting", ["model_name_or_path=starter", "data.train=others.jsonl", "data.eval=0.1", "experiments="]
)
def test_a_setting_never_replaces_an_option(base: Path, adapters: Path, setting: str) -> None:
    where = re.escape(f"--set {setting.split('=')[0]}: cannot be set with --adapter")
    with pytest.raises(RecipeError, match=where):
        loraloom.predict(None, adapters / "rows.jsonl", base=base, adapter=adapters / "first", sets=[setting])


@pytest.mark.parametrize("setting", ["dtype=bfloat16", "device=cpu", "seed=1"])
def test_a_merge_refuses_what_it_would_ignore(
    base: Path, adapters: Path, tmp_path: Path, setting: str
) -> None:
    with pytest.raises(RecipeError, match=rf"so {setting.split('=')[0]} cannot be set.*--dtype"):
        loraloom.merge(None, tmp_path / "out", base=base, adapter=adapters / "first", sets=[setting])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("dtype", "said"), [("int8", "not a supported dtype"), ("float16", "overflows")])
def test_a_dtype_is_refused_before_the_base_is_loaded(
    base: Path, adapters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: Any, said: str
) -> None:
    monkeypatch.setattr(merge_command, "attach", lambda *given: pytest.fail("the base was loaded"))
    with pytest.raises(ModelError, match=said):
        loraloom.merge(None, tmp_path / "out", base=base, adapter=adapters / "first", dtype=dtype)
    assert not list(tmp_path.iterdir())


def test_a_card_describes_an_adapter_without_a_run(base: Path, adapters: Path, tmp_path: Path) -> None:
    made = loraloom.card(base=base, adapter=adapters / "first", out=tmp_path / "card.md")
    assert made.experiment == "first"
    assert (tmp_path / "card.md").read_text(encoding="utf-8") == made.text
    assert "# first: a LoRA adapter for mt5\n" in made.text
    assert "Trained with LoRALoom" not in made.text
    assert "learning_rate" not in made.text
    assert "| r | 4 |" in made.text
    assert re.search(r"Movement, ‖ΔW‖ / ‖W‖: \d", made.text)
    assert "`loraloom merge --base mt5 --adapter first merged`" in made.text
    assert str(base.parent) not in made.text
    with pytest.raises(TypeError, match="an adapter and its base are needed"):
        loraloom.card()


def test_the_card_command_takes_an_adapter_in_place_of_a_run(
    base: Path, adapters: Path, tmp_path: Path, warm: Warm
) -> None:
    given = ["--base", base, "--adapter", f"mine={adapters / 'first'}"]
    ended = warm.call("card", *given, cwd=tmp_path)
    assert ended.code == 0, ended.stderr
    assert "# mine: a LoRA adapter for mt5" in ended.stdout
    assert "Next: loraloom merge --base" in ended.stderr
    for argv in (("card",), ("card", "run", *given), ("card", "run", "--base", base)):
        assert warm.call(*argv, cwd=tmp_path).code == 2


def test_a_comparison_with_numbers_of_labels_is_warned_of(base: Path, adapters: Path, tmp_path: Path) -> None:
    numbered = [row | {"response": str(number % 2)} for number, row in enumerate(ROWS)]
    (tmp_path / "rows.json").write_text(json.dumps(numbered), encoding="utf-8")
    told: list[Event] = []
    loraloom.compare(
        base=base, adapters=[adapters / "first"], data=tmp_path / "rows.json", sets=SHORT, report=told.append
    )
    warnings = [event.message for event in told if isinstance(event, WarningNote)]
    assert len(warnings) == 1
    assert "every known answer is a whole number, but first never answers with one" in warnings[0]
