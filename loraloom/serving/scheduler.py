"""Continuous batching: requests join the batch as soon as there is room, and leave it when answered.

    while scheduler.has_work:
        for event in scheduler.step():
            ...

A step admits new requests while there is room, and then computes the next token of every row. The first token
of a new request is computed together with its encoder pass. Beam search reorders caches within a request, so
such a request is answered as a batch of its own between two steps, while all other requests wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from loraloom.data.ownership import seed_for
from loraloom.evaluate.generation import answer
from loraloom.recipe import GenerationSettings
from loraloom.serving.decode_batch import DecodeBatch
from loraloom.serving.job import Job, JobError
from loraloom.serving.limits import MAX_ROWS
from loraloom.serving.served_model import ReadyPrompt, ServedModel
from loraloom.serving.text_stream import TextStream
from loraloom.serving.token_choice import RowChoice, TokenLogprob, choose_tokens
from loraloom.text.message import Message

MAX_NEW_SOURCE_TOKENS = 16_384  # of requests admitted in one step, with padding; the first always fits
NOT_FINITE = JobError(500, "not_finite", Message("the model's output is not finite for this prompt"))

Event = dict[str, Any]


@dataclass
class _PendingJob:
    """A waiting request."""

    job: Job
    slot: str | None
    ready: ReadyPrompt
    settings: GenerationSettings


@dataclass
class _Row:
    """One answer that is being generated."""

    asked: _PendingJob
    number: int
    choice: RowChoice
    history: list[int]
    stream: TextStream
    text: str = ""
    tokens: list[int] = field(default_factory=list)
    finish_reason: str = ""


class Scheduler:
    """The scheduler of a server's requests, which answers them in one thread.

    Args:
        model: the base, and the adapters that are served.
        max_rows: maximum number of answers generated together.
    """

    def __init__(self, model: ServedModel, max_rows: int = MAX_ROWS) -> None:
        self.model, self.max_rows = model, max_rows
        self.batch = DecodeBatch(model.bank)
        self.num_tokens = 0
        self._waiting: deque[_PendingJob] = deque()
        self._taken: list[_PendingJob] = []  # taken from the queue for the present step
        self._rows: list[_Row] = []
        self._leaving: set[str] = set()  # adapters that are dropped after the last answer

    @property
    def has_work(self) -> bool:
        """Whether a step would compute anything."""
        return bool(self._waiting or self._rows)

    @property
    def num_rows(self) -> int:
        """Number of answers that are being generated."""
        return len(self._rows)

    def submit(self, job: Job) -> None:
        """Add a request to the queue.

        Raises:
            JobError: the request cannot be answered.
        """
        slot = self.model.slot(job.model)
        if job.num_answers > self.max_rows:
            message = Message("at most {limit} answers fit into the batch", limit=self.max_rows)
            raise JobError(422, "unprocessable", message, param="n")
        settings = self.model.settings(job.decoding)
        if settings.num_beams > 1 and (job.num_answers > 1 or job.decoding.logprobs is not None):
            message = Message(
                "beam search gives one answer, without log-probabilities; leave out `n` and `logprobs`"
            )
            raise JobError(422, "unprocessable", message, param="num_beams")
        self._waiting.append(_PendingJob(job, slot, self.model.read(job), settings))

    def cancel(self, *ids: int) -> None:
        """Drop requests, both those that are waiting and those that are being answered."""
        gone = set(ids)
        self._waiting = deque(asked for asked in self._waiting if asked.job.id not in gone)
        self._keep([row.asked.job.id not in gone for row in self._rows])

    def give_up(self, error: JobError) -> list[Event]:
        """Drop the requests that a failed step was answering, not waiting ones; return an error for each."""
        ids = {asked.job.id for asked in (*self._taken, *(row.asked for row in self._rows))}
        self._rows = []
        self.batch.clear()
        self._drop_unused()
        return [{"id": id, "error": error.to_json()} for id in sorted(ids)]

    def remove(self, name: str) -> None:
        """Hide an adapter from new requests; requests that already use it are still answered.

        Raises:
            JobError: there is no such adapter.
        """
        self.model.hide(name)
        self._leaving.add(name)
        self._drop_unused()

    def add(self, name: str, folder: Any) -> None:
        """Attach an adapter.

        Raises:
            JobError: as in `ServedModel.add`; or a removed adapter of this name is still answering requests.
        """
        if name in self._leaving:
            message = Message("the removed adapter of this name is still answering; try again later")
            raise JobError(409, "name_taken", message, param="name")
        self.model.add(name, folder)
        self.batch.adapters_changed()

    @torch.no_grad()
    def step(self) -> list[Event]:
        """Admit new requests, compute one token of every row, and return the resulting events."""
        events: list[Event] = []
        self._taken = []
        if (beams := self._next_by_beams()) is not None:
            return self._by_beams(beams)
        newcomers = self._newcomers()
        if self._rows:
            logits = self.batch.step([row.history[-1] for row in self._rows])
            events += self._advance(self._rows, logits)
        if newcomers:
            joining, logits = self._let_in(newcomers)
            events += self._advance(joining, logits)
            self._rows += joining
        self._keep([not row.finish_reason for row in self._rows])
        self._drop_unused()
        return events

    def _newcomers(self) -> list[_PendingJob]:
        """Take as many requests from the queue as the batch has room for."""
        chosen: list[_PendingJob] = []
        room, width = self.max_rows - len(self._rows), 0
        while self._waiting:
            asked = self._waiting[0]
            width = max(width, len(asked.ready.source))
            fits = asked.job.num_answers <= room and (
                not chosen or width * (len(chosen) + 1) <= MAX_NEW_SOURCE_TOKENS
            )
            if not fits or asked.settings.num_beams > 1:
                break
            chosen.append(self._waiting.popleft())
            room -= asked.job.num_answers
        self._taken = chosen
        return chosen

    def _let_in(self, newcomers: list[_PendingJob]) -> tuple[list[_Row], torch.Tensor]:
        encoded, mask = self.batch.encode(
            [asked.slot for asked in newcomers], [asked.ready.source for asked in newcomers]
        )
        joining = [row for asked in newcomers for row in self._rows_of(asked)]
        which = [number for number, asked in enumerate(newcomers) for _ in range(asked.job.num_answers)]
        index = torch.tensor(which, device=encoded.device)
        slots = [row.asked.slot for row in joining]
        starts = [row.history[0] for row in joining]
        return joining, self.batch.join(slots, encoded[index], mask[index], starts)

    def _rows_of(self, asked: _PendingJob) -> Iterator[_Row]:
        job, start = asked.job, asked.ready.start
        seed = job.decoding.seed
        for number in range(job.num_answers):
            generator = None
            if asked.settings.do_sample:
                generator = torch.Generator(self.model.base.device)
                if seed is None:
                    generator.seed()
                else:
                    generator.manual_seed(seed_for(seed, "answer", number))
            choice = RowChoice(asked.settings, generator, job.decoding.logprobs, start.forced_token_id)
            stream = TextStream(self.model.text_of, job.decoding.stop)
            yield _Row(asked, number, choice, [start.start_token_id], stream)

    def _advance(self, rows: list[_Row], logits: torch.Tensor) -> list[Event]:
        """Give each row its next token; drop a request if one of its answers fails."""
        chosen, logprobs = choose_tokens(logits, [row.choice for row in rows], [row.history for row in rows])
        failed = {row.asked.job.id for row, token in zip(rows, chosen, strict=True) if token < 0}
        events: list[Event] = [{"id": id, "error": NOT_FINITE.to_json()} for id in sorted(failed)]
        for row, token, logprob in zip(rows, chosen, logprobs, strict=True):
            if row.asked.job.id in failed:
                row.finish_reason = "error"
            elif (event := self._take(row, token, logprob)) is not None:
                events.append(event)
        return events

    def _take(self, row: _Row, token: int, logprob: TokenLogprob | None) -> Event | None:
        job = row.asked.job
        row.history.append(token)
        self.num_tokens += 1
        is_end = token == self.model.base.eos_token_id
        if is_end:
            row.finish_reason = "stop"
        else:
            row.tokens.append(token)
            if len(row.tokens) >= row.asked.settings.max_new_tokens:
                row.finish_reason = "length"
        if not (row.finish_reason or job.is_streamed or job.decoding.stop or logprob):
            return None
        delta, is_stopped = row.stream.advance(row.tokens, is_complete=bool(row.finish_reason))
        row.text += delta
        if is_stopped:
            row.finish_reason = "stop"
        return {
            "id": job.id,
            "answer": row.number,
            "text": delta,
            "reason": row.finish_reason,
            "num_tokens": len(row.tokens),
            "num_source_tokens": len(row.asked.ready.source),
            "logprob": self._named(logprob) if logprob and not is_end else None,
        }

    def _named(self, logprob: TokenLogprob) -> dict[str, Any]:
        """Return log-probabilities with tokens as text, and with -9999 for -∞, which JSON does not have."""
        pairs = [(logprob.token, logprob.logprob), *logprob.alternatives]
        named = [(self._token_text(token), max(value, -9999.0)) for token, value in pairs]
        return {"token": named[0][0], "logprob": named[0][1], "top": named[1:]}

    def _token_text(self, token: int) -> str:
        return str(self.model.base.tokenizer.decode([token], skip_special_tokens=False))

    def _next_by_beams(self) -> _PendingJob | None:
        is_next = bool(self._waiting) and self._waiting[0].settings.num_beams > 1
        if not is_next:
            return None
        self._taken = [self._waiting.popleft()]
        return self._taken[0]

    def _by_beams(self, asked: _PendingJob) -> list[Event]:
        """Answer one request by beam search, while all other requests wait."""
        ready, slot = asked.ready, asked.slot
        settings = asked.settings.model_copy(update={"batch_size": 1})
        rows = answer(self.model.bank, [slot], [ready.source], settings, starts=[ready.start])
        (row,) = self._rows_of(replace(asked, settings=settings))
        row.tokens = rows[slot][0]
        self.num_tokens += len(row.tokens)
        text, is_stopped = row.stream.advance(row.tokens, is_complete=True)
        is_cut = len(row.tokens) >= settings.max_new_tokens and not is_stopped
        self._drop_unused()
        return [
            {
                "id": asked.job.id,
                "answer": 0,
                "text": text,
                "reason": "length" if is_cut else "stop",
                "num_tokens": len(row.tokens),
                "num_source_tokens": len(ready.source),
                "logprob": None,
            }
        ]

    def _keep(self, stays: list[bool]) -> None:
        kept = [number for number, is_kept in enumerate(stays) if is_kept]
        self.batch.keep(kept)
        self._rows = [self._rows[number] for number in kept]

    def _drop_unused(self) -> None:
        """Drop the removed adapters that no request uses any more."""
        used = {row.asked.slot for row in self._rows} | {asked.slot for asked in self._waiting}
        for name in self._leaving - {slot for slot in used if slot is not None}:
            self.model.drop(name)
            self._leaving.remove(name)
            self.batch.adapters_changed()
