"""Continuous batching: passes, equal answers, cancelling, limits, adapters that come and go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from loraloom.base.loading import Base
from loraloom.evaluate.generation import answer
from loraloom.recipe import GenerationSettings
from loraloom.serving.job import Decoding, Job, JobError
from loraloom.serving.scheduler import Scheduler
from loraloom.serving.served_model import ServedModel
from loraloom.serving.text_stream import TextStream
from tests.serving.models import MAX_NEW_TOKENS, served

PROMPTS = [f"how are you {'very ' * number}{number}?" for number in range(8)]


@pytest.fixture
def model(mt5: Base) -> Iterator[ServedModel]:
    return served(mt5, 8)


def finished(scheduler: Scheduler) -> dict[int, list[dict[str, Any]]]:
    """Step until nothing is left, and return the events of each request."""
    found: dict[int, list[dict[str, Any]]] = {}
    while scheduler.has_work:
        for event in scheduler.step():
            found.setdefault(event["id"], []).append(event)
    return found


def text(events: list[dict[str, Any]]) -> str:
    return "".join(event["text"] for event in events)


def alone(model: ServedModel, name: str, prompt: str) -> str:
    ready = model.read(Job(0, name, prompt))
    slot = model.slot(name)
    settings = GenerationSettings(max_new_tokens=MAX_NEW_TOKENS)
    return model.text_of(answer(model.bank, [slot], [ready.source], settings)[slot][0])


def test_eight_requests_for_eight_adapters_take_the_passes_of_the_longest_alone(model: ServedModel) -> None:
    passes, expected = [], []
    for number, prompt in enumerate(PROMPTS):
        scheduler = Scheduler(model)
        scheduler.submit(Job(1, f"a{number}", prompt))
        expected.append(text(finished(scheduler)[1]))
        passes.append(scheduler.batch.num_passes)
    scheduler = Scheduler(model)
    for number, prompt in enumerate(PROMPTS):
        scheduler.submit(Job(number, f"a{number}", prompt))
    events = finished(scheduler)
    assert scheduler.batch.num_passes == max(passes)
    assert [text(events[number]) for number in range(8)] == expected
    assert expected == [alone(model, f"a{number}", prompt) for number, prompt in enumerate(PROMPTS)]
    assert len(set(expected)) > 4


def test_a_newcomer_joins_at_the_next_step_and_a_cancelled_request_leaves(model: ServedModel) -> None:
    scheduler = Scheduler(model)
    scheduler.submit(Job(1, "a0", PROMPTS[0]))
    scheduler.submit(Job(2, "a1", PROMPTS[1]))
    scheduler.step()
    scheduler.submit(Job(3, "base", PROMPTS[2]))
    scheduler.step()
    assert scheduler.num_rows == 3
    scheduler.cancel(2)
    assert scheduler.num_rows == 2
    events = finished(scheduler)
    assert set(events) == {1, 3}
    assert text(events[3]) == alone(model, "base", PROMPTS[2])
    assert text(events[1]) == alone(model, "a0", PROMPTS[0])


def test_draws_depend_on_seed_and_number_and_not_on_neighbours(model: ServedModel) -> None:
    sampled = Decoding(temperature=1.0, seed=7, top_p=0.95)
    scheduler = Scheduler(model)
    scheduler.submit(Job(1, "a0", PROMPTS[0], num_answers=3, decoding=sampled))
    alone = finished(scheduler)[1]
    scheduler.submit(Job(2, "a1", PROMPTS[1], decoding=Decoding(temperature=2.0)))
    scheduler.step()
    scheduler.submit(Job(3, "a0", PROMPTS[0], num_answers=3, decoding=sampled))
    together = finished(scheduler)[3]
    by_number = [
        {event["answer"]: event["text"] for event in events if event["reason"]}
        for events in (alone, together)
    ]
    assert by_number[0] == by_number[1]
    assert len(set(by_number[0].values())) > 1


@pytest.mark.parametrize("temperature", [5e-324, 1e-40, 1e-6])
def test_a_temperature_close_to_0_is_greedy(model: ServedModel, temperature: float) -> None:
    scheduler = Scheduler(model)
    scheduler.submit(Job(1, "a0", PROMPTS[0], decoding=Decoding(temperature=temperature, top_p=0.5)))
    assert text(finished(scheduler)[1]) == alone(model, "a0", PROMPTS[0])


def test_beams_are_those_of_compare_and_others_wait_for_them(model: ServedModel) -> None:
    scheduler = Scheduler(model)
    scheduler.submit(Job(1, "a0", PROMPTS[0]))
    scheduler.step()
    scheduler.submit(Job(2, "a1", PROMPTS[1], decoding=Decoding(num_beams=3)))
    events = finished(scheduler)
    settings = GenerationSettings(max_new_tokens=MAX_NEW_TOKENS, num_beams=3)
    source = model.read(Job(0, "a1", PROMPTS[1])).source
    assert text(events[2]) == model.text_of(answer(model.bank, ["a1"], [source], settings)["a1"][0])
    assert text(events[1]) == alone(model, "a0", PROMPTS[0])


def test_a_request_of_which_one_answer_is_not_finite_is_given_up(
    model: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Scheduler(model)
    scheduler.submit(Job(1, "a0", PROMPTS[0], num_answers=3))
    scheduler.submit(Job(2, "a1", PROMPTS[1]))
    scheduler.step()
    step = scheduler.batch.step

    def spoilt(tokens: list[int]) -> torch.Tensor:
        logits = step(tokens)
        logits[1] = torch.nan
        return logits

    monkeypatch.setattr(scheduler.batch, "step", spoilt)
    (event,) = [event for event in scheduler.step() if event["id"] == 1]
    assert event["error"]["code"] == "not_finite"
    assert scheduler.num_rows == 1
    monkeypatch.undo()
    events = finished(scheduler)
    assert set(events) == {2}
    assert text(events[2]) == alone(model, "a1", PROMPTS[1])


def test_an_adapter_that_is_removed_answers_what_it_was_asked(model: ServedModel) -> None:
    expected = alone(model, "a3", PROMPTS[0])
    scheduler = Scheduler(model)
    scheduler.submit(Job(1, "a3", PROMPTS[0]))
    scheduler.step()
    scheduler.remove("a3")
    with pytest.raises(JobError, match="no model"):
        scheduler.submit(Job(2, "a3", PROMPTS[0]))
    assert text(finished(scheduler)[1]) == expected
    assert "a3" not in model.bank.slots
    for name, message in (("base", "the base cannot be removed"), ("a3", "no model")):
        with pytest.raises(JobError, match=message):
            scheduler.remove(name)


@pytest.mark.parametrize("name", ["base", "Base", "../a0", "", "x" * 65])
def test_an_invalid_name_is_refused_and_nothing_is_attached(
    model: ServedModel, name: str, tmp_path: Path
) -> None:
    before = list(model.bank.slots)
    with pytest.raises(JobError, match=r"`base` is reserved|there is already a model `base`"):
        model.add(name, tmp_path)
    assert list(model.bank.slots) == before


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (Job(1, "../a0", "x"), "no model"),
        (Job(1, "a0", "x" * 1000), "the prompt has"),
        (Job(1, "a0", "  "), "empty"),
        (Job(1, "a0", "x", decoding=Decoding(max_tokens=100_000)), "at most"),
        (Job(1, "a0", "x", decoding=Decoding(num_beams=2, temperature=1.0)), "does not sample"),
        (Job(1, "a0", messages=({"role": "assistant", "content": "x"},)), "messages"),
    ],
)
def test_what_cannot_be_answered_is_refused_before_it_waits(
    model: ServedModel, job: Job, message: str
) -> None:
    scheduler = Scheduler(model)
    with pytest.raises(JobError, match=message):
        scheduler.submit(job)
    assert not scheduler.has_work


@pytest.mark.parametrize("keeps_history", [False, True])
def test_a_chat_is_read_as_a_conversation_of_the_training_data(mt5: Base, keeps_history: bool) -> None:
    model = served(mt5, 1)
    data = model.recipe.data.model_copy(update={"conversation_history": keeps_history})
    model.recipe = model.recipe.model_copy(update={"data": data})

    def source(*turns: tuple[str, str]) -> list[int]:
        messages = tuple({"role": role, "content": content} for role, content in turns)
        return model.read(Job(1, "a0", messages=messages)).source

    assert source(("user", "how?")) == model.read(Job(1, "a0", "how?")).source
    turns = ("system", "be kind"), ("user", "how?"), ("assistant", "so"), ("user", "why?")
    assert source(("user", "how?"), ("assistant", ""), ("user", "why?")) == source(("user", "why?"))
    shown = model.text_of(source(*turns))
    assert [word in shown for word in ("be kind", "how?", "so", "why?")] == [True, *[keeps_history] * 2, True]


def test_text_is_shown_once_its_characters_are_complete_and_no_stop_text_begins() -> None:
    texts = {1: "a", 2: "a\ufffd", 3: "a我", 4: "a我S", 5: "a我STO", 6: "a我STOP b"}
    stream = TextStream(lambda tokens: texts[len(tokens)])
    shown = [stream.advance([0] * number, is_complete=number == 6)[0] for number in range(1, 7)]
    assert shown == ["a", "", "我", "S", "TO", "P b"]
    stopping = TextStream(lambda tokens: texts[len(tokens)], ["STOP"])
    parts = [stopping.advance([0] * number, is_complete=False) for number in range(1, 7)]
    assert "".join(part for part, _ in parts) == "a我"
    assert [is_stopped for _, is_stopped in parts] == [False] * 5 + [True]
