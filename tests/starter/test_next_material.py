"""What the next starter is made of: rows whose advice is the topic's, and a corpus that keeps facts short."""

from __future__ import annotations

import random
from itertools import combinations
from typing import Any

import pytest

from tests.starter.test_starter import judge, tool

build = tool("build_starter_data")
measure = tool("measure_starter_data")
Rows = dict[str, list[dict[str, str]]]


@pytest.fixture(scope="module")
def rows() -> Rows:
    found: Rows = build.build_rows(build.NEXT_MATERIAL)
    return found


@pytest.fixture(scope="module")
def corpus() -> Any:
    return tool("starter_topic_corpus").TopicCorpus()


def test_rows_keep_the_bounds_of_the_shipped_ones(rows: Rows) -> None:
    everything = [row for part in rows.values() for row in part]
    prompts = build.read_phrases(build.NEXT_MATERIAL).prompts
    assert len({row["response"] for row in everything}) == 1_000
    assert len({row["instruction"] for row in everything} - set(prompts)) == 1_000
    assert len(rows["test"]) >= 150
    assert measure.highest_sentence_share([row["response"] for row in everything])[0] <= 0.01
    assert measure.personal_data(everything) == []
    for left, right in combinations(rows.values(), 2):
        assert measure.shared_situations(left, right) == set()
    topic_of = {one.id: one.topic for one in build.read_situations(build.NEXT_MATERIAL)}
    for topic in set(topic_of.values()):  # responses of two topics share next to nothing
        alike = [row["response"] for row in everything if topic_of[row["situation"]] == topic]
        assert measure.highest_jaccard(alike) <= 0.5
    for row in everything:
        assert judge.ends_as_sentence(row["response"]), row
        assert judge.mentions_what_was_asked(row["instruction"], row["response"]), row


def test_all_that_a_held_out_answer_advises_stands_in_training_too(rows: Rows) -> None:
    """Otherwise no adapter could know it, and the held-out loss could only rise."""

    def advised(part: str) -> set[str]:
        return {sentence for row in rows[part] for sentence in build.sentences(row["response"])[1:]}

    known = advised("train")
    for part in ("eval", "test"):
        assert len(advised(part) - known) <= 0.02 * len(advised(part))


def test_advice_is_of_the_topic_that_was_asked_about(rows: Rows) -> None:
    topic_of = {one.id: one.topic for one in build.read_situations(build.NEXT_MATERIAL)}
    phrases = build.read_phrases(build.NEXT_MATERIAL)
    for row in (row for part in rows.values() for row in part):
        topic = phrases.topics[topic_of[row["situation"]]]
        for sentence in build.sentences(row["response"])[1:]:
            assert sentence in {*topic.advice, *topic.close, *phrases.shared_close}


def test_the_corpus_holds_no_other_split_and_no_prompt(corpus: Any) -> None:
    rng = random.Random(1)
    text = "\n".join(part for _ in range(2_000) for part in corpus.draw(rng, corpus.tasks))
    assert not [key for key in (*corpus.unseen, *corpus.phrases.prompts) if key in text]


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
