"""Generation of answers with transformers' beam search, for the rows of all models in one batch.

The bank assigns each beam to its model, and the recipe's settings replace the model's own (`decoding.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transformers.generation import LogitsProcessorList

from loraloom.bank.bank import AdapterBank
from loraloom.data.languages.codes import DecoderStart
from loraloom.data.ownership import Rows
from loraloom.evaluate.decoding import generation_config, replaced_generation_config
from loraloom.evaluate.first_tokens import FirstTokens, forced_tokens
from loraloom.evaluate.row_decoding import padded_rows
from loraloom.recipe import GenerationSettings


class BeamDecoding:
    """Beam search that answers the same rows with several models.

    Attributes:
        answers: the tokens of each answer, without start and EOS, [slots][rows].

    Args:
        bank: the bank, with the adapters attached.
        slots: the models that answer; None is the base.
        sources: token ids of each row.
        starts: beginning of the answer to each row.
        settings: how to decode.
        on_token: called before each batch.
    """

    def __init__(
        self,
        bank: AdapterBank,
        slots: Sequence[str | None],
        sources: Sequence[Sequence[int]],
        starts: Sequence[DecoderStart],
        settings: GenerationSettings,
        on_token: Callable[[], None],
    ) -> None:
        self._bank, self._base, self._slots, self._settings = bank, bank.base, slots, settings
        self._sources, self._starts, self._on_token = sources, starts, on_token
        self.answers: list[list[list[int]]] = [[[] for _ in sources] for _ in slots]

    def answer(self, rows: Sequence[int]) -> None:
        """Answer some rows in one batch; for each model, a row is encoded once and decoded once per beam."""
        self._on_token()
        starts, num_slots = [self._starts[row] for row in rows], len(self._slots)
        input_ids, mask = padded_rows(self._base, [self._sources[row] for row in rows], num_slots)
        owners = Rows(tuple(self._slots), (len(rows),) * num_slots, expansion=self._settings.num_beams)
        config = generation_config(self._base, self._settings)
        if len({start.start_token_id for start in starts}) > 1:
            config.decoder_start_token_id = [start.start_token_id for start in starts] * num_slots
        else:
            config.decoder_start_token_id = starts[0].start_token_id
        forced, num_beams = forced_tokens(starts, num_slots, self._base.device), self._settings.num_beams
        processors = [] if forced is None else [FirstTokens(forced.repeat_interleave(num_beams))]
        with (
            self._bank.rows(owners),
            replaced_generation_config(self._base, config),
        ):
            out = self._base.model.generate(
                input_ids=input_ids,
                attention_mask=mask,
                generation_config=config,
                logits_processor=LogitsProcessorList(processors),
            )
        said = iter(out[:, 1:].tolist())
        for own in self.answers:
            for row in rows:
                own[row] = _without_specials(next(said), self._base.eos_token_id)


def _without_specials(tokens: Sequence[int], eos: int) -> list[int]:
    return list(tokens[: tokens.index(eos)] if eos in tokens else tokens)
