"""Answering the rows of a comparison, chunk by chunk; answers that an earlier call stored are reused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import fields

from loraloom.base.answer_text import sentinels_in
from loraloom.comparison.partial_answers import Answers, PartialAnswers, row_names
from loraloom.data.encoding import EncodedSet, encode_texts
from loraloom.data.languages.codes import DecoderStart
from loraloom.data.prompts.prompts import Prompt
from loraloom.errors import Interrupted
from loraloom.evaluate.comparison import ModelAnswers
from loraloom.evaluate.generation import cut_words
from loraloom.evaluate.label_numbers import describe_label_mismatch
from loraloom.report.unfinished_comparisons import partial_file
from loraloom.run.documents.comparison import BASE_NAME
from loraloom.run.events import AnswerProgress, Note, Report, WarningNote
from loraloom.session import provenance as origin
from loraloom.session.answer_languages import decoder_starts
from loraloom.session.answering_model import AnsweringModel
from loraloom.text.message import Message
from loraloom.training.signals import StopRequest, stop_on_signals

BATCHES_AT_ONCE = 4  # batches between checks for a stop request and writes to disk


def target_ids(loaded: AnsweringModel, rows: Sequence[Prompt]) -> list[list[int]]:
    """Tokenize the known answer of every row; a row without one gets an empty list."""
    known = [number for number, row in enumerate(rows) if row.response is not None]
    texts = [rows[number].response or "" for number in known]
    limit = loaded.recipe.data.max_target_length
    base = loaded.base
    encoded, _ = (
        encode_texts(
            texts,
            base.tokenizer,
            limit,
            as_target=True,
            languages=base.languages,
            codes=[rows[number].target_lang for number in known] if base.languages else (),
            frame=base.frame,
        )
        if texts
        else ([], 0)
    )
    targets: list[list[int]] = [[] for _ in rows]
    for number, target in zip(known, encoded, strict=True):
        targets[number] = target
    return targets


def answers_of(
    loaded: AnsweringModel,
    rows: Sequence[Prompt],
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    name: str,
    report: Report,
    stop: StopRequest | None = None,
) -> Answers:
    """Answer every row with every model, reusing the answers that an earlier call stored.

    Raises:
        Interrupted: a stop was requested; a later call resumes.
        RunError: the file of partial answers cannot be written.
    """
    names = row_names(rows, sources, targets)
    kept = loaded.answer_tokens | sentinels_in(row.response or "" for row in rows)
    partial = PartialAnswers(
        partial_file(loaded.comparisons, name), _key(loaded, kept), list(loaded.slots), names
    )
    size = _rows_at_once(loaded)
    chunks = [slice(start, start + size) for start in range(0, len(rows), size)]
    answered = {chunk.start: own for chunk in chunks if (own := partial.of(names[chunk])) is not None}
    done = sum(len(own[BASE_NAME].texts) for own in answered.values())
    if done:
        report(Note(message=Message("resuming after {done} rows that were already answered", done=done)))
    with stop_on_signals(stop) as own_stop:
        stop = loaded.passes.agreed(own_stop)
        for chunk in chunks:
            if chunk.start in answered:
                continue
            starts = decoder_starts(loaded, rows[chunk])
            try:
                answered[chunk.start] = _answer_chunk(loaded, sources[chunk], targets[chunk], starts, kept)
            except Interrupted as interrupted:  # ranks that share a base leave the chunk unfinished
                raise _stopped(interrupted.signal_number, done, len(rows)) from None
            partial.add(names[chunk], answered[chunk.start])
            done += len(names[chunk])
            report(AnswerProgress(done=done, total=len(rows)))
            if stop and done < len(rows):
                raise _stopped(stop.signal_number, done, len(rows))
    return _joined([answered[chunk.start] for chunk in chunks])


def _stopped(signal_number: int, done: int, num_rows: int) -> Interrupted:
    message = Message(
        "stopped after {done} of {num_rows} rows; run the same command again to resume",
        done=done,
        num_rows=num_rows,
    )
    return Interrupted(signal_number, message)


def report_answers(
    loaded: AnsweringModel, rows: Sequence[Prompt], answers: Answers, judged: Sequence[int], report: Report
) -> None:
    """Report why figures may mislead: rows without a known answer, truncated answers, mismatched labels.

    Args:
        loaded: the models that answered.
        rows: all rows.
        answers: answers of every model to all rows.
        judged: indices of the rows that have a known answer.
        report: called with notes.
    """
    num_judged, num_rows = len(judged), len(rows)
    if 0 < num_judged < num_rows:
        message: str = Message(
            "{num_judged} of {num_rows} rows have a known answer; figures cover only these",
            num_judged=num_judged,
            num_rows=num_rows,
        )
        report(Note(message=message))
    lengths = {model: own.num_tokens for model, own in answers.items()}
    if message := cut_words(lengths, loaded.recipe.generation.max_new_tokens):
        report(Note(message=message))
    known = [rows[number].response or "" for number in judged]
    texts = {model: [answers[model].texts[number] for number in judged] for model in loaded.adapters}
    if message := describe_label_mismatch(known, texts):
        report(WarningNote(message=message))


def _rows_at_once(loaded: AnsweringModel) -> int:
    return loaded.recipe.generation.batch_size * BATCHES_AT_ONCE


def _joined(chunks: Sequence[Answers]) -> Answers:
    """Join the answers of all chunks, in order."""
    return {
        model: ModelAnswers(
            **{
                part.name: [value for chunk in chunks for value in getattr(chunk[model], part.name)]
                for part in fields(ModelAnswers)
            }
        )
        for model in chunks[0]
    }


def _answer_chunk(
    loaded: AnsweringModel,
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    starts: Sequence[DecoderStart],
    kept: Collection[str],
) -> Answers:
    """Compute every model's answers to a chunk of rows in one pass, and its loss on each in another."""
    slots, recipe = list(loaded.slots.values()), loaded.recipe
    tokens = loaded.passes.answer(slots, sources, recipe.generation, starts=starts, seed=recipe.seed)
    losses = [[0.0] * len(sources) for _ in slots]
    if judged := [number for number, target in enumerate(targets) if target]:
        size = recipe.training.per_device_eval_batch_size
        known = EncodedSet([sources[n] for n in judged], [targets[n] for n in judged])
        for own, found in zip(losses, loaded.passes.losses(slots, known, batch_size=size), strict=True):
            for number, loss in zip(judged, found.tolist(), strict=True):
                own[number] = loss
    texts_of = loaded.base.answer_text.texts
    return {
        model: ModelAnswers(
            texts=texts_of(tokens[slot], kept),
            num_tokens=[len(row) for row in tokens[slot]],
            losses=own,
        )
        for (model, slot), own in zip(loaded.slots.items(), losses, strict=True)
    }


def _key(loaded: AnsweringModel, kept: Collection[str]) -> str:
    """Return a digest of all that the answers depend on, except the rows.

    Stored answers are reused only if they have the same digest.
    """
    base, recipe = loaded.base, loaded.recipe
    settings = [
        origin.versions(),
        recipe.generation.model_dump(mode="json"),
        recipe.seed,
        _rows_at_once(loaded),  # a sampled answer depends on the position of its row in the chunk
        base.fingerprint,
        str(base.device),
        str(base.model.dtype),
        sorted(kept),  # tokens that are kept in the texts
    ]
    digest = hashlib.sha256(json.dumps(settings).encode())
    for name, adapter in loaded.adapters.items():
        digest.update(f"{name}\0{adapter.settings.model_dump_json()}".encode())
        for key, tensor in sorted(adapter.tensors.items()):
            digest.update(key.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()
