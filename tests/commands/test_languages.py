"""A multilingual base from recipe to merged folder: train, predict, compare, merge, plain transformers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import loraloom
from loraloom import Recipe
from loraloom.checks.data.data_view import DataView
from loraloom.checks.finding import Finding
from loraloom.commands.compare import compare
from loraloom.commands.init import init_recipe
from loraloom.commands.merge import merge
from loraloom.commands.predict import predict
from loraloom.commands.report import write_report
from loraloom.console.display import Display
from loraloom.console.results import print_comparison
from loraloom.data.splitting.split import split_examples
from loraloom.errors import DataError, RecipeError
from loraloom.recipe.reading import parse_recipe
from loraloom.run.events import ExperimentEnd, Note
from loraloom.run.folder import open_run
from loraloom.session.code_checks import check_codes
from loraloom.text.message import Message
from loraloom.text.units import signed
from tests.sentencepiece_folders import make_spiece
from tests.tiny import make_folder
from tests.tiny_multilingual import make_multilingual

CODES = {"nllb": ("deu_Latn", "eng_Latn", "zho_Hans"), "mbart": ("de_DE", "en_XX", "zh_CN")}
STATED = {"chrf_plus_plus", "chrf", "bleu", "spbleu", "eval_loss"}
TEXTS = [f"{'abcdefghij'[n % 10]}{'klmno'[n % 5]} pq" for n in range(24)]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`trained("nllb")` → a run on one pair; with `many=True` on three, as columns name them."""
    made: dict[tuple[str, bool], Path] = {}

    def run(kind: str, many: bool = False) -> Path:
        if (kind, many) not in made:
            made[kind, many] = _train(tmp_path_factory.mktemp("languages"), kind, many)
        return made[kind, many]

    return run


def _train(folder: Path, kind: str, many: bool) -> Path:
    make_multilingual(folder / "base", kind, seed=3)
    german, english, chinese = CODES[kind]
    pairs = [("de", "en"), ("en", "de"), ("de", "zh")] if many else [("de", "en")]
    rows = [
        {"source": text, "target": text[::-1], "from": source, "to": target}
        for n, text in enumerate(TEXTS)
        for source, target in [pairs[n % len(pairs)]]
    ]
    write(folder / "rows.jsonl", rows)
    kept = [{"en": "ab", "zh": "ba"}, {"en": "c", "zh": "d"}]
    write(folder / "keep.jsonl", [{"translation": each} for each in kept])
    write(folder / "more.jsonl", [{"translation": {"de": "ab", "en": "abc"}}])
    data: dict[str, Any] = {"train": "rows.jsonl", "eval": 6, "test": 6}
    data["retain"] = ["keep.jsonl", "more.jsonl"] if many else "keep.jsonl"
    data |= {"max_source_length": 16, "max_target_length": 12}
    data["language_codes"] = {"de": german, "en": english, "zh": chinese}
    if many:
        data |= {"source_lang_column": "from", "target_lang_column": "to"}
    else:
        data |= {"source_lang": german, "target_lang": english}
    training = {"max_steps": 3, "learning_rate": 0.02, "eval_strategy": "no", "save_strategy": "no"}
    recipe = {"model_name_or_path": "base", "data": data, "training": training}
    (folder / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    loraloom.train(folder / "recipe.yaml", out=folder / "run")
    return folder / "run"


@pytest.mark.usefixtures("proof_here")
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", ["nllb", "mbart"])
def test_the_merged_folder_answers_as_predict_does_without_being_told_the_languages(
    kind: str, trained: Callable[..., Path], tmp_path: Path
) -> None:
    """Though the base's own configuration forces another language and takes five beams."""
    run = trained(kind)
    asked = write(tmp_path / "asked.jsonl", [{"source": text} for text in TEXTS[:4]])
    answers = [line["answer"] for line in predict(run, asked)]
    merged = tmp_path / "merged"
    result = merge(run, merged)
    assert result["proof"]["reload"]["num_same_answers"] == 6
    model = AutoModelForSeq2SeqLM.from_pretrained(merged).eval()
    tokenizer = AutoTokenizer.from_pretrained(merged)
    german, english, _ = CODES[kind]
    assert (tokenizer.src_lang, tokenizer.tgt_lang) == (german, english)
    for text, ours in zip(TEXTS[:4], answers, strict=True):
        with torch.no_grad():
            theirs = model.generate(**tokenizer(text, return_tensors="pt"))[0]
        assert tokenizer.decode(theirs, skip_special_tokens=True) == ours
        code = tokenizer.convert_tokens_to_ids(english)
        assert code in theirs[:2].tolist()
    config = json.loads((merged / "generation_config.json").read_text(encoding="utf-8"))
    assert (config.get("forced_bos_token_id") or config["decoder_start_token_id"]) == code


def test_a_comparison_reports_each_pair_of_languages(
    trained: Callable[..., Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = trained("nllb", many=True)
    found = compare(run, split="test", spbleu_model=make_spiece(tmp_path, None) / "spiece.model")
    german, english, chinese = CODES["nllb"]
    names = {f"{german}-{english}", f"{english}-{german}", f"{german}-{chinese}"}
    judged = {name: pair for name, pair in found.languages.items() if pair.num_rows}
    assert set(judged) <= names
    assert sum(pair.num_rows for pair in judged.values()) == 6
    assert {row.languages for row in found.rows} == set(judged)
    labels = dict.fromkeys(found.models, 0.0)
    for pair in judged.values():
        assert {"chrf_plus_plus", "spbleu", "eval_loss"} <= pair.figures["main"].keys()
        assert {each.metric for each in pair.differences} == STATED
        for model in labels:
            labels[model] += pair.figures[model]["eval_loss"] * pair.num_rows
    # Not the exact mean, which is over tokens; but no pair is left out.
    assert labels["main"] / 6 == pytest.approx(found.models["main"].figures["eval_loss"], rel=0.05)
    assert "nw:2" in found.signatures["chrf_plus_plus"]
    assert "tok:spm|spm:sha256:" in found.signatures["spbleu"]
    kept = found.languages[f"{english}-{chinese}"]
    assert kept.num_rows == 0
    assert kept.retain_losses is not None
    assert kept.retain_losses["main"] != kept.retain_losses["base"]
    capsys.readouterr()
    print_comparison(found)
    text = capsys.readouterr().out
    assert max(map(len, text.split("figure ")[0].splitlines())) <= 80, "as wide as a pipe"
    (loss,) = (d for d in judged[max(judged)].differences if d.metric == "eval_loss")
    assert f"({signed(loss.difference, 3)}, " in text
    assert " bleu " in text


def test_training_says_what_was_forgotten_of_each_pair(
    trained: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained("nllb", many=True)
    (end,) = (event for event in open_run(run).events() if isinstance(event, ExperimentEnd))
    german, english, chinese = CODES["nllb"]
    assert set(end.retain_pairs) == {f"{english}-{chinese}", f"{german}-{english}"}
    compared = compare(run, split="eval")
    of_pair = end.retain_pairs[f"{german}-{english}"]
    for pair, own in end.retain_pairs.items():
        losses = compared.languages[pair].retain_losses
        assert losses is not None
        assert own.loss == pytest.approx(losses["main"], rel=1e-4)
        assert own.forgetting == pytest.approx(losses["main"] - losses["base"], abs=1e-4)
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))["experiments"]["main"]
    assert result["retain_pairs"][f"{german}-{english}"]["loss"] == of_pair.loss
    # Over both, weighted by label tokens.
    assert result["retain_loss"] == pytest.approx(compared.models["main"].figures["retain_loss"], rel=1e-4)
    page = write_report(run, "html").read_text(encoding="utf-8")
    assert "Forgetting, by language pair" in page
    capsys.readouterr()
    Display()(end)
    assert f"{german}-{english} {of_pair.loss:.3f} (" in capsys.readouterr().err


def test_rows_that_do_not_say_their_languages(trained: Callable[..., Path], tmp_path: Path) -> None:
    """Of an adapter for one pair they are known; of one for several they are asked for."""
    texts = tmp_path / "texts.txt"
    texts.write_text("ab\ncd\n", encoding="utf-8")
    many, codes = trained("nllb", many=True), CODES["nllb"]
    with pytest.raises(DataError, match=r"data.source_lang.*--source-lang"):
        list(predict(many, texts))
    german, english = (list(predict(many, texts, source_lang=codes[0], target_lang=c)) for c in codes[:2])
    assert [line["answer"] for line in german] != [line["answer"] for line in english]
    assert len(list(predict(trained("nllb"), texts))) == 2
    with pytest.raises(RecipeError, match=r"`de` is not a language of this base.*Did you mean deu_Latn\?$"):
        list(predict(many, texts, source_lang="de", target_lang=codes[1]))


def test_the_recipes_of_the_documentation_train(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "languages.md").read_text(encoding="utf-8")
    one, several = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    base = make_multilingual(tmp_path / "base", "nllb")
    write(tmp_path / "pairs.jsonl", [{"source": text, "target": text} for text in TEXTS])
    for name, source in (("de-en", "de"), ("rw-en", "rw"), ("fr-en", "fr")):
        rows = [{"translation": {source: text + source, "en": text}} for text in TEXTS]
        write(tmp_path / f"{name}.jsonl", rows)
    few = f"\ntraining: {{max_steps: 1}}\nmodel_name_or_path: {base}\n"
    for number, text in enumerate((one, several.replace("kin_Latn", "zho_Hans"))):
        recipe = tmp_path / f"{number}.yaml"
        recipe.write_text(re.sub("model_name_or_path: .*", few, text), encoding="utf-8")
        result = loraloom.train(recipe, out=tmp_path / str(number))
        origin = json.loads((result.run / "adapters" / "main" / "loraloom.json").read_text(encoding="utf-8"))
        assert ["deu_Latn", "eng_Latn"] in origin["languages"]
        assert len(origin["languages"]) == number + 1


def test_init_derives_the_languages_or_asks(tmp_path: Path) -> None:
    base = make_multilingual(tmp_path / "base", "nllb")
    pairs = write(tmp_path / "pairs.jsonl", [{"translation": {"de": "a", "en": "b"}}] * 12)
    told: list[str] = []
    said = lambda event: told.append(event.message) if isinstance(event, Note) else None  # noqa: E731
    text = init_recipe(pairs, str(base), report=said)
    data = parse_recipe(text, name="r").data
    assert (data.source_lang, data.target_lang) == ("deu_Latn", "eng_Latn")
    assert any("de as deu_Latn" in note for note in told)
    columns = {"source": "a", "target": "b", "src_lang": "de", "tgt_lang": "zho_Hans", "note": "c"}
    text = init_recipe(write(tmp_path / "c.jsonl", [columns] * 12), str(base), report=said)
    assert [note.partition(": ")[2] for note in told if "unused" in note] == ["unused columns: `note`"]
    data = parse_recipe(text, name="r").data
    assert (data.source_lang_column, data.target_lang_column) == ("src_lang", "tgt_lang")
    assert data.language_codes == {"de": "deu_Latn"}
    plain = write(tmp_path / "p.jsonl", [{"source": "a", "target": "b"}] * 12)
    with pytest.raises(DataError, match=r"has 4 languages.*--set data.source_lang=deu_Latn"):
        init_recipe(plain, str(base))
    text = init_recipe(plain, str(base), sets=["data.source_lang=deu_Latn", "data.target_lang=eng_Latn"])
    assert "source_lang: deu_Latn" in text
    with pytest.raises(RecipeError, match=r"`de` is not a language of this base.*Did you mean deu_Latn\?$"):
        init_recipe(plain, str(base), sets=["data.source_lang=de", "data.target_lang=eng_Latn"])
    t5 = make_folder(tmp_path / "t5", "t5")
    with pytest.raises(RecipeError, match="this T5 has no language codes"):
        init_recipe(plain, str(t5), sets=["data.source_lang=de"])
    assert "source_lang:" not in init_recipe(pairs, "starter")


def codes_found(folder: Path, **changes: Any) -> list[Finding]:
    """What `check --data-only` says of the codes of a run's rows."""
    values = json.loads((folder / "recipe.yaml").read_text(encoding="utf-8"))
    values["data"].update(changes.pop("data", {}))
    recipe = Recipe.model_validate(values | changes).in_folder(folder)
    split = split_examples(recipe.data)
    return check_codes(recipe, DataView(split, recipe.data))


def test_data_only_knows_the_codes_of_a_base_on_this_machine(trained: Callable[..., Path]) -> None:
    folder = trained("nllb", many=True).parent
    (known,) = codes_found(folder)
    assert (known.level, known.check) == ("ok", "languages")
    assert "eng_Latn-deu_Latn" in known.message
    (unknown,) = codes_found(
        folder, data={"language_codes": {"de": "deu_Latn", "en": "eng_Latn", "zh": "zh"}}
    )
    assert unknown.level == "error"
    assert "zh is not a language of this base" in unknown.message.replace("`", "")
    assert "zho_Hans" in unknown.fix


def test_data_only_says_that_codes_cannot_be_checked_without_the_base(trained: Callable[..., Path]) -> None:
    folder = trained("nllb", many=True).parent
    (note,) = codes_found(folder, model_name_or_path="some-owner/some-model")
    assert note.level == "note"
    assert "whether the base has these codes was not checked: the base's tokenizer is not" in note.message
    assert isinstance(note.message, Message)
    assert isinstance(note.message.values["why"], Message), "it is translated"


def test_a_pair_that_the_adapter_never_saw_is_said(trained: Callable[..., Path], tmp_path: Path) -> None:
    run = trained("nllb")
    asked = write(tmp_path / "asked.jsonl", [{"source": "ab"}])
    german, english, chinese = CODES["nllb"]

    def notes(**options: Any) -> str:
        heard: list[Any] = []
        list(predict(run, asked, report=heard.append, **options))
        return " ".join(event.message for event in heard if isinstance(event, Note))

    text = f"the adapters were trained on {german}-{english}, not on {german}-{chinese}"
    assert text in notes(target_lang=chinese)
    assert "the adapters were trained on" not in notes()
