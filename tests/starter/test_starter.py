"""The shipped starter is what its card says: whole, readable, and known to its own vocabulary."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from loraloom import starter

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "loraloom" / "starter"
SPLITS: tuple[starter.DataName, ...] = ("train", "eval", "test")


def tool(name: str) -> ModuleType:
    """A module of tools/, which is no package."""
    folder = str(ROOT / "tools")
    if folder not in sys.path:
        sys.path.append(folder)
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.loader is not None
    if name in sys.modules:
        return sys.modules[name]
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


judge = tool("judge_answers")


def rows(name: starter.DataName) -> list[dict[str, str]]:
    """The rows of one file."""
    read: list[dict[str, str]] = json.loads(starter.data_file(name).read_text(encoding="utf-8"))
    return read


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    measured: dict[str, Any] = tool("measure_starter_data").measure()
    return measured


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(starter.model_folder())


def test_every_shipped_file_has_its_sum_and_no_other_is_listed() -> None:
    lines = (STARTER / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    listed = {path: digest for digest, path in (line.split("  ", 1) for line in lines)}
    shipped = {
        path.relative_to(STARTER).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in ("data", "model")
        for path in (STARTER / folder).iterdir()
    }
    assert listed == shipped


def test_rows_keep_the_promised_bounds(figures: dict[str, Any]) -> None:
    assert figures["rows"]["all"] == 1_000
    assert figures["rows"]["test"] >= 150
    assert sum(figures["situations"].values()) >= 80
    assert figures["distinct_responses"] == figures["distinct_instructions"] == 1_000
    assert figures["highest_jaccard"] <= 0.5
    assert figures["highest_sentence_share"] <= 0.01
    assert figures["personal_data"] == []
    assert figures["probe_rows"] >= 200


def test_all_that_a_held_out_answer_advises_stands_in_training_too() -> None:
    """Otherwise no adapter could know it, and the held-out loss could only rise."""
    build = tool("build_starter_data")

    def advised(name: starter.DataName) -> set[str]:
        return {sentence for row in rows(name) for sentence in build.sentences(row["response"])[1:]}

    known = advised("train")
    for name in SPLITS[1:]:
        assert len(advised(name) - known) <= 0.02 * len(advised(name))


def test_advice_is_of_the_topic_that_was_asked_about() -> None:
    build = tool("build_starter_data")
    phrases, topic_of = build.read_phrases(), {one.id: one.topic for one in build.read_situations()}
    for row in (row for name in SPLITS for row in rows(name)):
        topic = phrases.topics[topic_of[row["situation"]]]
        for sentence in build.sentences(row["response"])[1:]:
            assert sentence in {*topic.advice, *topic.close, *phrases.shared_close}


def test_no_situation_stands_in_two_splits_and_no_prompt_in_any(figures: dict[str, Any]) -> None:
    assert figures["situations_in_train_and_test"] == []
    assert figures["situations_in_train_and_eval"] == []
    assert figures["situations_in_eval_and_test"] == []
    assert figures["rows_with_a_prompt"] == 0
    assert len(rows("prompts")) == 3


def test_every_response_is_what_the_rules_call_an_answer() -> None:
    for name in SPLITS:
        for row in rows(name):
            assert set(row) == {"instruction", "response", "situation"}
            assert judge.ends_as_sentence(row["response"]), row
            assert judge.mentions_what_was_asked(row["instruction"], row["response"]), row
            assert not judge.stuck_in_a_loop(row["response"]), row


def test_the_data_are_what_their_generator_makes() -> None:
    build = tool("build_starter_data")
    assert build.build_rows() == {name: rows(name) for name in SPLITS}
    assert build.build_probe() == rows("probe")


@pytest.fixture(scope="module")
def corpus() -> Any:
    return tool("starter_corpus").Corpus()


def test_pretraining_text_holds_no_situation_of_another_split_and_no_prompt(corpus: Any) -> None:
    rng = random.Random(1)
    text = "\n".join(part for _ in range(2_000) for part in corpus.draw(rng, corpus.tasks))
    assert not [key for key in (*corpus.unseen, *corpus.phrases.prompts) if key in text]
    assert not [row["response"] for name in ("eval", "test") for row in rows(name) if row["response"] in text]


def test_a_fact_is_short_however_it_is_asked_and_a_plain_question_has_a_sentence(corpus: Any) -> None:
    rng = random.Random(2)
    answers = {answer for group in corpus.facts for answer in group["answers"].values()}
    facts = [corpus.fact(rng) for _ in range(300)]
    assert all(answer in answers for _, answer in facts)
    ways = [style.split("{}") for style in corpus.styles]
    styled = [
        question
        for question, _ in facts
        if any(question.startswith(before) and question.endswith(after) for before, after in ways)
    ]
    assert 60 < len(styled) < 180
    for _ in range(100):
        _, answer = corpus.terse(rng)
        assert judge.ends_as_sentence(answer)
        assert 6 <= len(answer) <= 14


def test_vocabulary_knows_all_data_and_gives_it_back(tokenizer: Any) -> None:
    assert (tokenizer.is_fast, tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (
        True,
        0,
        1,
        2,
    )
    texts = [
        row[field]
        for name in (*SPLITS, "probe")
        for row in rows(name)
        for field in ("instruction", "response")
    ]
    texts += [row["instruction"] for row in rows("prompts")] + ["Hello, world 2026! 魑魅魍魉 é ñ 😀"]
    for text, ids in zip(texts, tokenizer(texts)["input_ids"], strict=True):
        assert tokenizer.unk_token_id not in ids, text
        assert ids[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_model_loads_with_a_head_of_its_own_and_stays_small() -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForSeq2SeqLM

    folder = starter.model_folder()
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 16_000_000
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["tie_word_embeddings"] is False
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32)
    stored = load_file(folder / "model.safetensors")
    assert not torch.equal(stored["lm_head.weight"], stored["shared.weight"])
    assert torch.equal(model.lm_head.weight, stored["lm_head.weight"].float())
    assert torch.equal(model.shared.weight, stored["shared.weight"].float())
    linears = (name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear))
    kinds = {name.rsplit(".", 1)[-1] for name in linears}
    assert kinds == {"q", "k", "v", "o", "wi_0", "wi_1", "wo", "lm_head"}


@pytest.mark.parametrize(
    ("instruction", "answer", "expected"),
    [
        ("和室友因为作息吵架，怎么办？", "和室友因为作息吵架，谁都会心烦。", True),
        ("和室友因为作息吵架，怎么办？", "遇到这样的情况，怎么办都要先冷静。", False),
        ("与朋友发生冲突时，如何处理？", "发生冲突时，先听对方说完。", True),
        ("当感到焦虑时，应该如何调节？", "感到焦虑的时候，先深呼吸。", True),
        ("当感到焦虑时，应该如何调节？", "放松", False),
    ],
)
def test_mentioning_looks_at_the_situation_and_not_at_the_wrapping(
    instruction: str, answer: str, expected: bool
) -> None:
    assert judge.mentions_what_was_asked(instruction, answer) is expected


def test_loops_copies_and_distinct_answers_are_told() -> None:
    assert judge.stuck_in_a_loop("先听先听先听先听")
    assert judge.stuck_in_a_loop("先听对方说完。再想一想。先听对方说完。")
    assert not judge.stuck_in_a_loop("先听对方说完，再想一想。")
    assert judge.distinct_share(["甲", "乙", "甲", "丙"]) == 0.75
    assert judge.copied_whole(["甲。", "乙。"], ["乙。"]) == ["乙。"]
    assert not judge.ends_as_sentence("先听对方说")
