"""Greedy and sampled answers: one token at a time, for the rows of all models in one batch.

Each token of a row depends on the row and its model alone; the batch decides only how many are computed at a
time. Waiting rows start when all of a batch have ended; with `JOINS` and a family that allows it, as soon as
some have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from loraloom.bank.bank import AdapterBank
from loraloom.bank.linear import AdapterPass
from loraloom.bank.objective import output_head
from loraloom.bank.top_token import TopToken, all_logits, top_token
from loraloom.base.loading import Base
from loraloom.data.languages.codes import DecoderStart
from loraloom.evaluate.logits_processors import logits_processors, needs_history
from loraloom.evaluate.rows_to_answer import IDLE, RowsToAnswer
from loraloom.recipe import GenerationSettings

# Starting and removing rows copies caches, so several rows do so at once.
LEAVING_SHARE = 0.125
# Whether waiting rows start before a whole batch has ended. On the starter, base and 8 adapters answering 200
# prompts took 1.25 times as long with it: attention reads the columns of the longest answer for every row.
JOINS = False


class RowDecoding:
    """Answers of all models to the same rows.

    Args:
        bank: with the adapters attached.
        slots: the models that answer.
        sources: token ids of each row.
        starts: what the answer to each row begins with.
        settings: how to decode; `batch_size` rows at a time for each slot.
        seeds: for sampling, of each row.
        on_end: called with the rows whose answers a token has ended, a row once for each model.
        on_token: called before each token of a batch.
        on_answers: called after each token of a batch with the tokens so far of all rows, [slots · rows].
    """

    def __init__(
        self,
        bank: AdapterBank,
        slots: Sequence[str | None],
        sources: Sequence[Sequence[int]],
        starts: Sequence[DecoderStart],
        settings: GenerationSettings,
        seeds: Sequence[int],
        on_end: Callable[[Sequence[int]], None],
        on_token: Callable[[], None],
        on_answers: Callable[[Sequence[Sequence[int]]], None] = lambda answers: None,
    ) -> None:
        self._bank, self._base, self._settings = bank, bank.base, settings
        self._sources, self._starts, self._seeds = sources, starts, seeds
        self._on_end, self._on_token, self._on_answers = on_end, on_token, on_answers
        # The longest first: a row that starts later then fits in the line of another.
        order = sorted(range(len(sources)), key=lambda row: -len(sources[row]))
        self._lines = RowsToAnswer(slots, order, settings.batch_size)
        self.answers: list[list[list[int]]] = [[[] for _ in sources] for _ in slots]
        self._processors = logits_processors(settings)
        self._steps = bank.base.family.steps(bank.base.model)
        # A processor of all tokens so far needs rows with equally many.
        self._can_join = JOINS and self._steps.can_join and not needs_history(settings)
        self._head: TopToken | None = None
        if not settings.do_sample and not self._processors:
            self._head = top_token(bank.base, len(slots) * len(sources) * settings.max_new_tokens)
        self._first_pass: AdapterPass | None = None
        self._tokens = torch.empty(0, dtype=torch.int64)  # the newest of each line
        self._history = torch.empty(0, 0, dtype=torch.int64)  # all of each line, for processors
        self._forced: dict[int, int] = {}  # the next token of a line, if it is not chosen
        self._generators: list[torch.Generator] = []  # of each line

    def run(self) -> None:
        """Answer all rows."""
        while self._lines.num_active or self._lines.num_waiting:
            self._start_rows()
            self._on_token()
            with self._bank.rows(self._lines.owners(), follows=self._first_pass):
                states = self._steps.next_states(self._tokens)
            self._add_tokens(self._choose(states))
            self._remove_lines()

    def _start_rows(self) -> None:
        """Let waiting rows start, if no others are being answered or if there is room for enough of them."""
        lines = self._lines
        if not lines.num_active:
            self._start(lines.start_batch(), is_batch=True)
        elif self._can_join and lines.num_joining >= max(LEAVING_SHARE * len(lines.rows), 1):
            self._start(lines.join(), is_batch=False)

    def _start(self, started: Sequence[int], *, is_batch: bool) -> None:
        """Encode the rows of some lines, and let their answers begin."""
        rows, device = [self._lines.rows[line] for line in started], self._base.device
        input_ids, mask = padded_rows(self._base, [self._sources[row] for row in rows])
        with self._bank.rows(self._lines.owners(started), follows=self._first_pass) as self._first_pass:
            encoded = self._base.family.encode(self._base.model, input_ids, mask)
            places = torch.tensor(started, device=device)
            self._steps.start(encoded, mask, None if is_batch else places)
        first = torch.tensor([self._starts[row].start_token_id for row in rows], device=device)
        if is_batch:
            self._tokens, self._history, self._forced = first, first[:, None], {}
            self._generators = [torch.Generator(device) for _ in rows]
        else:
            self._tokens[places] = first
        for line, row in zip(started, rows, strict=True):
            if (token := self._starts[row].forced_token_id) is not None:
                self._forced[line] = token
            if self._settings.do_sample:
                self._generators[line].manual_seed(self._seeds[row])

    def _choose(self, states: Tensor) -> Tensor:
        """Choose the next token of each line, int64 [lines], from the decoder's states [lines, d_model]."""
        if self._head is not None:
            chosen = self._head.of(states)
        else:
            scores = self._processors(self._history, all_logits(output_head(self._base), states))
            chosen = draw(scores, self._generators) if self._settings.do_sample else scores.argmax(-1)
        for line, token in self._forced.items():
            chosen[line] = token
        self._forced = {}
        return chosen

    def _add_tokens(self, chosen: Tensor) -> None:
        """Add the chosen token of each line to its answer, or end the answer."""
        self._tokens = chosen
        if not self._can_join:
            self._history = torch.cat([self._history, chosen[:, None]], dim=1)
        lines, eos, ended = self._lines, self._base.eos_token_id, []
        for line, (row, token) in enumerate(zip(lines.rows, chosen.tolist(), strict=True)):
            if row == IDLE:
                continue
            answer = self.answers[lines.models[line]][row]
            if token != eos:
                answer.append(token)
            if token == eos or len(answer) == self._settings.max_new_tokens:
                lines.end(line)
                ended.append(row)
        self._on_end(ended)
        self._on_answers([answer for own in self.answers for answer in own])

    def _remove_lines(self) -> None:
        """Remove idle lines if they are many, unless rows that wait will start in them."""
        if not self._lines.num_active or (self._can_join and self._lines.num_waiting):
            return
        if (kept := self._lines.shrink(LEAVING_SHARE)) is None:
            return
        lines = torch.tensor(kept, device=self._base.device)
        self._steps.keep(lines)
        self._tokens, self._history = self._tokens[lines], self._history[lines]
        self._generators = [self._generators[line] for line in kept]


def padded_rows(base: Base, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return input_ids and attention mask, int64 [rows, len], of token ids with padding behind them."""
    width = max(len(row) for row in rows)
    input_ids = torch.full((len(rows), width), base.pad_token_id)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        input_ids[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = 1
    return input_ids.to(base.device), mask.to(base.device)


def draw(scores: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw one token per line from softmax(scores), each with the generator of its row."""
    probabilities = scores.softmax(-1)
    drawn = [torch.multinomial(p, 1, generator=g) for p, g in zip(probabilities, generators, strict=True)]
    return torch.cat(drawn)
