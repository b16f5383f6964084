"""The proof's side of CTranslate2: `Translator` on an exported folder, without torch and transformers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import ctranslate2

from loraloom.export.runtime import ProofRows, RuntimeOutputs, target_to_end, until


def run(folder: Path, rows: ProofRows, base: str) -> RuntimeOutputs:
    """Load the folder as any user would, and answer."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    sources, targets = _vocabulary(folder, "source"), _vocabulary(folder, "target")
    numbers = {token: number for number, token in enumerate(targets)}
    translator = ctranslate2.Translator(str(folder), device="cpu")
    asked = [[sources[token] for token in source] for source in rows.sources]
    starts = _starts(rows, targets, is_stated=config["decoder_start_token"] is not None)
    forced = [[] if token is None else [targets[token]] for token in rows.forced_token_ids]
    results = translator.translate_batch(
        asked,
        target_prefix=[[*start, *first] for start, first in zip(starts, forced, strict=True)],
        beam_size=1,
        min_decoding_length=0,  # by default, no answer is empty
        max_decoding_length=rows.max_new_tokens,
        max_input_length=0,  # by default, a source is cut to 1,024 tokens
    )
    answers = []
    for result, start in zip(results, starts, strict=True):
        said = [numbers[token] for token in result.hypotheses[0]]
        answers.append(until(said[len(start) :], rows.eos_token_id)[: rows.max_new_tokens])
    known = [
        [targets[token] for token in target_to_end(each, rows.eos_token_id)[:-1]] for each in rows.targets
    ]
    scored = translator.score_batch(
        asked, [[*start, *target] for start, target in zip(starts, known, strict=True)], max_input_length=0
    )
    return RuntimeOutputs(
        answers=answers,
        runtime=f"ctranslate2 {ctranslate2.__version__}",
        computed_in=translator.compute_type,
        log_probabilities=[
            # With the start among the tokens, its own is not a log-probability of the model.
            list(each.log_probs)[-len(target) - 1 :]
            for each, target in zip(scored, known, strict=True)
        ],
    )


def _starts(rows: ProofRows, targets: Sequence[str], *, is_stated: bool) -> list[list[str]]:
    """The decoder's first input of each row, which a folder that states none needs from its caller."""
    return [[] if is_stated else [targets[token]] for token in rows.start_token_ids]


def _vocabulary(folder: Path, side: str) -> list[str]:
    own, shared = folder / f"{side}_vocabulary.json", folder / "shared_vocabulary.json"
    found: list[str] = json.loads((own if own.is_file() else shared).read_text(encoding="utf-8"))
    return found
