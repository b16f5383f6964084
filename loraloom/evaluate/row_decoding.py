"""Greedy and sampled answers: one token at a time, for the rows of all models in one batch.

Each token of an answer depends on the row and the model alone; the batch size decides only how many answers
are computed at a time. The answers of a batch start together; ended answers leave the batch once there are
enough of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from loraloom.bank.bank import AdapterBank
from loraloom.bank.owned_logits import owned_logits
from loraloom.bank.token_head import TiedHead
from loraloom.bank.top_token import TopToken, top_token
from loraloom.base.loading import Base
from loraloom.data.languages.codes import DecoderStart
from loraloom.data.ownership import Rows
from loraloom.evaluate.first_tokens import forced_tokens
from loraloom.evaluate.logits_processors import logits_processors
from loraloom.recipe import GenerationSettings

# Removing rows copies caches, so several are removed at once.
LEAVING_SHARE = 0.125
# Maximum ratio of the batch's rows to unfinished ones at which the models keep equally many rows.
MAX_PADDING = 1.5


@dataclass
class _Line:
    """A line of the batch: one model's answer to a row.

    Args:
        slot: slot of the model's adapter; None for the base.
        row: index of the row.
        answer: the answer's tokens so far.
        generator: random generator of this line alone, so that its samples do not depend on other lines.
        has_ended: whether the answer is complete.
    """

    slot: str | None
    row: int
    answer: list[int]
    generator: torch.Generator
    has_ended: bool = False

    def add(self, token: int, eos_token_id: int) -> None:
        """Add the next token; after EOS, no more tokens are added."""
        self.has_ended = self.has_ended or token == eos_token_id
        if not self.has_ended:
            self.answer.append(token)


class RowDecoding:
    """Answers of all models to the same rows, by greedy decoding or sampling.

    Attributes:
        answers: the tokens of each answer so far, without start and EOS, [slots][rows].

    Args:
        bank: the bank, with the adapters attached.
        slots: the models that answer; None is the base.
        sources: token ids of each row.
        starts: beginning of the answer to each row: the start token and any forced first token.
        settings: how to decode.
        seeds: seed of each row, for sampling.
        on_token: called before each decoding step of a batch.
        on_answers: called after each decoding step with the tokens of all answers so far, [slots · rows].
        on_logits: called before the next tokens are chosen, with the row index of each line of the batch and
            the logits, float32 [lines, vocabulary]. The answers of some lines may already have ended.
    """

    def __init__(
        self,
        bank: AdapterBank,
        slots: Sequence[str | None],
        sources: Sequence[Sequence[int]],
        starts: Sequence[DecoderStart],
        settings: GenerationSettings,
        seeds: Sequence[int],
        on_token: Callable[[], None],
        on_answers: Callable[[Sequence[Sequence[int]]], None],
        on_logits: Callable[[Sequence[int], Tensor], None] | None = None,
    ) -> None:
        self._bank, self._base, self._slots, self._settings = bank, bank.base, slots, settings
        self._sources, self._starts, self._seeds = sources, starts, seeds
        self._on_token, self._on_answers, self._on_logits = on_token, on_answers, on_logits
        self.answers: list[list[list[int]]] = [[[] for _ in sources] for _ in slots]
        self._processors = logits_processors(settings)
        self._top_token: TopToken | None = None
        chooses_alone = on_logits is None and not settings.do_sample and not self._processors
        # A head that ranks share is gathered for each token; keeping it would exceed the predicted memory.
        if chooses_alone and not isinstance(bank.base.head, TiedHead) and not bank.base.is_sharded:
            self._top_token = top_token(bank.base, len(slots) * len(sources) * settings.max_new_tokens)

    def answer(self, rows: Sequence[int]) -> None:
        """Answer some rows in one batch."""
        starts = [self._starts[row] for row in rows]
        lines = [self._line(model, row) for model in range(len(self._slots)) for row in rows]
        input_ids, mask = padded_rows(self._base, [self._sources[row] for row in rows], len(self._slots))
        with self._bank.rows(_owners(lines)) as first_pass:
            encoded = self._base.family.encode(self._base.model, input_ids, mask)
            steps = self._base.family.steps(self._base.model, encoded, mask)
            del encoded  # `steps` holds what it needs of them
        first = [[start.start_token_id] for start in starts] * len(self._slots)
        tokens = torch.tensor(first, device=self._base.device)
        forced = forced_tokens(starts, len(self._slots), self._base.device)
        for _ in range(self._settings.max_new_tokens):
            self._on_token()
            with self._bank.rows(_owners(lines), follows=first_pass):
                states = steps.next_states(tokens[:, -1])
            chosen = self._choose(states, tokens, lines)
            if forced is not None:
                chosen, forced = torch.where(forced >= 0, forced, chosen), None
            tokens = torch.cat([tokens, chosen[:, None]], dim=1)
            for line, token in zip(lines, chosen.tolist(), strict=True):
                line.add(token, self._base.eos_token_id)
            self._on_answers([answer for own in self.answers for answer in own])
            if all(line.has_ended for line in lines):
                break
            staying = staying_lines([line.slot for line in lines], [line.has_ended for line in lines])
            if len(staying) < len(lines):
                lines, kept = [lines[number] for number in staying], torch.tensor(staying).to(tokens.device)
                tokens = tokens[kept]
                steps.keep(kept)

    def _line(self, model: int, row: int) -> _Line:
        generator = torch.Generator(self._base.device).manual_seed(self._seeds[row])
        return _Line(self._slots[model], row, self.answers[model][row], generator)

    def _choose(self, states: Tensor, tokens: Tensor, lines: Sequence[_Line]) -> Tensor:
        """Choose the next token of each line, int64 [lines].

        Args:
            states: states of the decoder, [lines, d_model].
            tokens: tokens so far, int64 [lines, tokens].
            lines: lines of the batch.
        """
        if self._top_token is not None:
            return self._top_token.of(states)
        logits = owned_logits(self._base, states, [line.slot for line in lines])
        if self._on_logits is not None:
            self._on_logits([line.row for line in lines], logits)
        scores: Tensor = self._processors(tokens, logits)
        if self._settings.do_sample:
            return draw(scores, [line.generator for line in lines])
        return scores.argmax(-1)


def staying_lines(slots: Sequence[str | None], has_ended: Sequence[bool]) -> list[int]:
    """Return the lines that stay in a batch, in order: all of them if fewer than an eighth could leave.

    All models keep the same number of lines, so that one batched product computes their adapters; some of the
    answers in these lines may have ended. If too many have, only lines with unfinished answers stay.

    Args:
        slots: the model of each line.
        has_ended: whether each line's answer has ended; at least one answer must be unfinished.
    """
    by_slot: dict[str | None, list[int]] = {}
    for line, slot in enumerate(slots):
        by_slot.setdefault(slot, []).append(line)
    active = {slot: sum(not has_ended[line] for line in own) for slot, own in by_slot.items()}
    size = max(active.values())
    if size * len(active) > MAX_PADDING * sum(active.values()):
        size = 0
    staying: list[int] = []
    for slot, own in by_slot.items():
        staying += sorted(own, key=has_ended.__getitem__)[: max(size, active[slot])]
    num_leaving = len(slots) - len(staying)
    return sorted(staying) if num_leaving >= LEAVING_SHARE * len(slots) else list(range(len(slots)))


def _owners(lines: Sequence[_Line]) -> Rows:
    spans = [(slot, len(list(own))) for slot, own in groupby(lines, key=lambda line: line.slot)]
    return Rows(tuple(slot for slot, _ in spans), tuple(num_rows for _, num_rows in spans))


def padded_rows(base: Base, rows: Sequence[Sequence[int]], num_models: int) -> tuple[Tensor, Tensor]:
    """Pad token ids at the end; return input_ids and attention mask, int64 [models · rows, length].

    Args:
        base: the base, whose padding token and device are used.
        rows: token ids.
        num_models: number of models that answer; all rows are repeated for each model, model by model.
    """
    width = max(len(row) for row in rows)
    input_ids = torch.full((len(rows), width), base.pad_token_id)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        input_ids[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = 1
    return input_ids.repeat(num_models, 1).to(base.device), mask.repeat(num_models, 1).to(base.device)


def draw(scores: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw one token per line from softmax(scores), each with the line's own generator."""
    probabilities = scores.softmax(-1)
    drawn = [torch.multinomial(p, 1, generator=g) for p, g in zip(probabilities, generators, strict=True)]
    return torch.cat(drawn)
