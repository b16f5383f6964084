"""CTranslate2's part of the proof: `Translator` runs an exported folder without torch or transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import ctranslate2

from loraloom.export.runtime import (
    ProofRows,
    RuntimeOutputs,
    answered_together,
    decoded_by,
    name_and_version,
    parts_of,
    target_to_end,
    until,
)

SIDES = ("source", "target")
# Settings of `generation` that have another name in CTranslate2.
OPTIONS = {"num_beams": "beam_size"}
GREEDY = {"beam_size": 1}


def run(folder: Path, rows: ProofRows, base: str) -> RuntimeOutputs:
    """Load the folder as any user would, and compute answers and log-probabilities."""
    loaded = _LoadedModel(folder)
    options = {OPTIONS.get(name, name): value for name, value in rows.decoding.items()}
    return RuntimeOutputs(
        answers=[each for part in answered_together(rows) for each in loaded.answers(part)],
        runtime=name_and_version(ctranslate2),
        computed_in=loaded.translator.compute_type,
        log_probabilities=[each for part in parts_of(rows) for each in loaded.log_probabilities(part)],
        decoded=decoded_by(rows, partial(loaded.answers, options=options)),
    )


class _LoadedModel:
    """A translator, and the names of its tokens."""

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self._states_start = config["decoder_start_token"] is not None
        self._sources, self._targets = _vocabularies(folder)
        self._numbers = {token: number for number, token in enumerate(self._targets)}
        self.translator = ctranslate2.Translator(str(folder), device="cpu")

    def answers(self, rows: ProofRows, options: Mapping[str, float] = GREEDY) -> list[list[int]]:
        """Generate answers to the rows, greedily by default; without the start token and EOS."""
        forced = [[] if token is None else [self._targets[token]] for token in rows.forced_token_ids]
        results = self.translator.translate_batch(
            self._asked(rows),
            target_prefix=[[*start, *first] for start, first in zip(self._starts(rows), forced, strict=True)],
            **{**GREEDY, **options},
            min_decoding_length=0,  # by default, no answer is empty
            max_decoding_length=rows.max_new_tokens,
            max_input_length=0,  # by default, a source is cut to 1,024 tokens
        )
        # The returned tokens include a forced token, but not a start that the caller gives.
        said = ([self._numbers[token] for token in result.hypotheses[0]] for result in results)
        return [until(each, rows.eos_token_id)[: rows.max_new_tokens] for each in said]

    def log_probabilities(self, rows: ProofRows) -> list[list[float]]:
        """Return the log-probability of each token of each target."""
        known = [
            [self._targets[token] for token in target_to_end(each, rows.eos_token_id)[:-1]]
            for each in rows.targets
        ]
        scored = self.translator.score_batch(
            self._asked(rows),
            [[*start, *target] for start, target in zip(self._starts(rows), known, strict=True)],
            max_input_length=0,
        )
        # If the start is among the tokens, its own value is not a log-probability of the model.
        return [list(each.log_probs)[-len(target) - 1 :] for each, target in zip(scored, known, strict=True)]

    def _asked(self, rows: ProofRows) -> list[list[str]]:
        return [[self._sources[token] for token in source] for source in rows.sources]

    def _starts(self, rows: ProofRows) -> list[list[str]]:
        """Return the decoder's first tokens for each row; no tokens if the folder's config specifies them."""
        return [[] if self._states_start else [self._targets[token]] for token in rows.start_token_ids]


def _vocabularies(folder: Path) -> tuple[list[str], list[str]]:
    """Read the token names of the source and target vocabularies; in most models, both are the same."""
    shared = folder / "shared_vocabulary.json"
    files = [shared] if shared.is_file() else [folder / f"{side}_vocabulary.json" for side in SIDES]
    found: list[list[str]] = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return found[0], found[-1]
