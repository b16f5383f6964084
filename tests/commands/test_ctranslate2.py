"""What a merged folder's README says about CTranslate2, done to the letter: `make extras` runs it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from loraloom.base.loading import Base, load_base
from loraloom.commands.merge import merge
from loraloom.export import merged_folder as workflow
from tests.commands.trained import ROWS, train_small
from tests.proof import measure_here
from tests.tiny import make_folder

ctranslate2 = pytest.importorskip("ctranslate2", reason="`make extras` installs it")

# Kind, whether the head is the embedding, and whether the states are scaled before it; None where the flag
# that CTranslate2 takes for that is not forced by transformers.
BASES = [
    ("t5", True, True),
    ("flan", False, False),
    ("mt5", True, False),
    ("mt5", False, False),
    ("umt5", True, True),
    ("umt5", False, False),
    ("bart", True, None),
    ("bart", False, None),
]
IDS = [f"{'tied' if tied else 'own-head'}-{kind}" for kind, tied, _ in BASES]
SOURCES = [row["instruction"] for row in ROWS[:5]]
TARGETS = [row["output"] for row in ROWS[5:10]]


@pytest.fixture(scope="module", params=BASES, ids=IDS)
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, bool | None]:
    """A merged folder, and whether that model scales its states before the head."""
    kind, tied, is_scaled = request.param
    folder = tmp_path_factory.mktemp("converted")
    run = train_small(folder / "trained", make_folder(folder / "base", kind, tied=tied))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow, "run_fresh_process", measure_here)
        merge(run, folder / "merged")
    return folder / "merged", is_scaled


def convert_as_advised(folder: Path) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(from ctranslate2.*?)^```$", text, re.DOTALL | re.MULTILINE)
    exec(compile(block, "README.md", "exec"), {})


def convert_otherwise(folder: Path, *, flag: bool) -> None:
    class Converter(ctranslate2.converters.TransformersConverter):  # type: ignore[name-defined,misc]
        def load_model(self, model_class: Any, name: str, **options: Any) -> Any:
            model = super().load_model(model_class, name, **options)
            model.config.tie_word_embeddings = flag
            return model

    Converter(str(folder)).convert(str(folder / "otherwise"))


@torch.no_grad()
def log_probabilities(base: Base, ids: list[int], target: list[int]) -> list[float]:
    """Of each token of a target, by the model's own forward."""
    start = torch.tensor([[base.start_token_id, *target[:-1]]])
    logits = base.model.eval()(input_ids=torch.tensor([ids]), decoder_input_ids=start).logits[0]
    return logits.log_softmax(-1)[range(len(target)), target].tolist()


def scored(translator: Any, tokens: Callable[[str], list[str]]) -> list[list[float]]:
    results = translator.score_batch(
        [tokens(text) for text in SOURCES], [tokens(text)[:-1] for text in TARGETS]
    )
    return [result.log_probs for result in results]


def test_the_advice_gives_the_models_own_scores_and_answers(
    case: tuple[Path, bool | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    merged, _ = case
    monkeypatch.chdir(merged)
    base = load_base(str(merged), dtype="float32", device="cpu")
    tokenizer = AutoTokenizer.from_pretrained(merged)

    def tokens(text: str) -> list[str]:
        return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])  # type: ignore[no-any-return]

    convert_as_advised(merged)
    translator = ctranslate2.Translator(str(merged / "ct2"), compute_type="float32", intra_threads=1)
    ids = [tokenizer(text)["input_ids"] for text in SOURCES]
    wanted = [
        log_probabilities(base, source, tokenizer(text)["input_ids"])
        for source, text in zip(ids, TARGETS, strict=True)
    ]
    for own, expected in zip(scored(translator, tokens), wanted, strict=True):
        assert own == pytest.approx(expected, abs=2e-3)

    for source, text in zip(ids, SOURCES, strict=True):
        said = base.model.generate(input_ids=torch.tensor([source]), num_beams=1, max_new_tokens=12)[0, 1:]
        (greedy,) = translator.translate_batch([tokens(text)], beam_size=1, max_decoding_length=12)
        found = tokenizer.convert_tokens_to_ids(greedy.hypotheses[0])
        assert found == [
            token for token in said.tolist() if token not in (base.pad_token_id, base.eos_token_id)
        ]

        # Two beam searches may stop at different hypotheses; each must have the score the model gives it.
        (beam,) = translator.translate_batch(
            [tokens(text)], beam_size=3, max_decoding_length=12, return_scores=True
        )
        found = tokenizer.convert_tokens_to_ids(beam.hypotheses[0])
        found += [] if len(found) == 12 else [base.eos_token_id]
        each = log_probabilities(base, source, found)
        assert beam.scores[0] == pytest.approx(sum(each) / len(each), abs=2e-3)


def test_the_other_setting_of_the_flag_gives_other_scores(case: tuple[Path, bool | None]) -> None:
    """So the advice is about something, and is not the same for all."""
    merged, is_scaled = case
    if is_scaled is None:
        pytest.skip("nothing is advised about the flag")
    base = load_base(str(merged), dtype="float32", device="cpu")
    tokenizer = AutoTokenizer.from_pretrained(merged)
    convert_otherwise(merged, flag=not is_scaled)
    translator = ctranslate2.Translator(str(merged / "otherwise"), compute_type="float32", intra_threads=1)
    source, target = (tokenizer(text)["input_ids"] for text in (SOURCES[0], TARGETS[0]))
    wanted = log_probabilities(base, source, target)
    own = scored(translator, lambda text: tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]))[0]
    assert max(abs(a - b) for a, b in zip(own, wanted, strict=True)) > 0.3
