"""Token ids in files: encoded once, a chunk at a time, so that an interrupted encoding can be resumed.

rows/tokens-<digest>/   sources.bin, targets.bin: token ids, one example after another
                        source_starts.bin, target_starts.bin: where each begins, and where the last ends
                        source_lengths.bin, target_lengths.bin, cuts.bin: one value for each example
                        tokens.json: progress of the encoding
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from loraloom.data.encoding import EncodedExample, EncodedSet
from loraloom.data.example import Example
from loraloom.data.stored.column_file import ColumnWriter, mapped, sha256_of
from loraloom.data.stored.example_file import StoredExamples
from loraloom.data.stored.example_writer import PROGRESS_EVERY
from loraloom.errors import DataError
from loraloom.run.atomic import fsync_folder, replace_text
from loraloom.run.digests import digest_of_json
from loraloom.run.documents.document import to_json
from loraloom.run.scratch import ScratchFolder
from loraloom.text.message import Message

FORMAT = 1
TOKENS_FILE = "tokens.json"
CHUNK = 20_000
_CHUNKS_A_SAVE = 5
_COLUMNS: dict[str, npt.DTypeLike] = {
    "sources": np.int32,
    "source_starts": np.int64,
    "source_lengths": np.int64,
    "targets": np.int32,
    "target_starts": np.int64,
    "target_lengths": np.int64,
    "cuts": np.uint8,
}

Encode = Callable[[Sequence[Example]], EncodedSet]
Progress = Callable[[str], None]


class StoredEncodedSet(EncodedSet):
    """Encoded examples whose arrays are mapped from files.

    Args:
        folder: the folder that contains the files.
        keep: an object that removes the folder when nothing refers to the object; None to keep the folder.
    """

    def __init__(self, folder: Path, keep: object = None) -> None:
        columns = {name: mapped(folder / f"{name}.bin", dtype) for name, dtype in _COLUMNS.items()}
        self._sources, self._source_starts = columns["sources"], columns["source_starts"]
        self._targets, self._target_starts = columns["targets"], columns["target_starts"]
        self._lengths = columns["source_lengths"], columns["target_lengths"]
        self.source_cuts = columns["cuts"]
        self._keep = keep

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        if isinstance(found, list):
            return found
        # Copies, because torch warns about read-only arrays, such as the pages of a file.
        return EncodedExample(found.input_ids.copy(), found.labels.copy())

    @property
    def is_temporary(self) -> bool:
        """Whether the files are removed when no object uses them any more."""
        return self._keep is not None

    @cached_property
    def source_lengths(self) -> npt.NDArray[np.int64]:
        """Number of tokens of each source, including EOS."""
        return self._lengths[0]

    @cached_property
    def target_lengths(self) -> npt.NDArray[np.int64]:
        """Number of tokens of each target, including EOS."""
        return self._lengths[1]


def encode_stored(
    examples: StoredExamples, encode: Encode, identity: Mapping[str, object], progress: Progress
) -> EncodedSet:
    """Encode stored examples into files next to them, or open the files of an earlier encoding.

    Args:
        examples: the rows.
        encode: encodes some of these rows.
        identity: JSON values that the tokens depend on, besides the rows.
        progress: called with sentences about the progress of encoding.

    Raises:
        DataError: the files cannot be written.
    """
    digest = _digest(examples, identity)
    folder, keep = examples.file.folder.parent / f"tokens-{digest[:12]}", examples.file.keep
    state = _read_state(folder, digest)
    if not state["sums"]:
        if not examples.file.is_own:
            keep = own = ScratchFolder()
            folder, state = own.path, _read_state(own.path, digest)
        try:
            _encode(examples, encode, folder, state, progress)
        except OSError as error:
            raise DataError(
                Message("the tokens of the rows cannot be written: {reason}", reason=error.strerror or error),
                where=str(folder),
                fix=Message("Free some space there, then start again."),
            ) from None
    return StoredEncodedSet(folder, keep)


def _digest(examples: StoredExamples, identity: Mapping[str, object]) -> str:
    own = {"rows": examples.file.identity, "numbers": sha256_of(examples.numbers.astype(np.uint32))}
    return digest_of_json({**own, **identity})


def _read_state(folder: Path, digest: str) -> dict[str, Any]:
    """Return the state in tokens.json; an initial state if it is unusable, or finished files are damaged."""
    try:
        state = json.loads((folder / TOKENS_FILE).read_text(encoding="utf-8"))
        is_own = state["format"] == FORMAT and state["digest"] == digest
        if is_own and (not state["sums"] or _is_intact(folder, state["sums"])):
            return {**state}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    return {"format": FORMAT, "digest": digest, "examples": 0, "sizes": {}, "sums": {}}


def _is_intact(folder: Path, sums: Mapping[str, str]) -> bool:
    try:
        return all(sha256_of(mapped(folder / f"{name}.bin", np.uint8)) == sums[name] for name in _COLUMNS)
    except (OSError, KeyError):
        return False


def _encode(
    examples: StoredExamples, encode: Encode, folder: Path, state: dict[str, Any], progress: Progress
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    done = _done(folder, state)
    with ExitStack() as opened:
        columns = {
            name: opened.enter_context(
                closing(ColumnWriter(folder / f"{name}.bin", state["sizes"].get(name, 0)))
            )
            for name in _COLUMNS
        }
        if done:
            total = len(examples)
            progress(Message("encoding continues at row {row:,} of {total:,}", row=done + 1, total=total))
        else:
            for side in ("source", "target"):
                columns[f"{side}_starts"].append(np.zeros(1, np.int64))
        _encode_from(done, examples, encode, columns, folder, state, progress)
    state["sums"] = {name: sha256_of(mapped(folder / f"{name}.bin", np.uint8)) for name in _COLUMNS}
    fsync_folder(folder)
    replace_text(folder / TOKENS_FILE, to_json(state))


def _encode_from(
    first: int,
    examples: StoredExamples,
    encode: Encode,
    columns: Mapping[str, ColumnWriter],
    folder: Path,
    state: dict[str, Any],
    progress: Progress,
) -> None:
    starts = range(first, len(examples), CHUNK)
    for number, start in enumerate(starts, start=1):
        done = min(start + CHUNK, len(examples))
        _append(columns, encode(examples[start:done]))
        if number % _CHUNKS_A_SAVE == 0 or number == len(starts):
            for column in columns.values():
                column.flush()
            state["examples"] = done
            state["sizes"] = {name: column.num_bytes for name, column in columns.items()}
            replace_text(folder / TOKENS_FILE, to_json(state))
        if done % PROGRESS_EVERY == 0:
            progress(Message("{done:,} of {total:,} rows have been encoded", done=done, total=len(examples)))


def _done(folder: Path, state: dict[str, Any]) -> int:
    """Return how many examples an interrupted encoding has written; 0 if any of its files is incomplete."""
    for name, size in state["sizes"].items():
        file = folder / f"{name}.bin"
        if not file.is_file() or file.stat().st_size < size:
            state["examples"], state["sizes"] = 0, {}
    return int(state["examples"])


def _append(columns: Mapping[str, ColumnWriter], encoded: EncodedSet) -> None:
    sources, source_starts, targets, target_starts = encoded.arrays
    for side, tokens, starts in (("source", sources, source_starts), ("target", targets, target_starts)):
        before = columns[f"{side}s"].num_bytes // tokens.itemsize
        columns[f"{side}s"].append(tokens)
        columns[f"{side}_starts"].append(starts[1:] + before)
        columns[f"{side}_lengths"].append(np.diff(starts))
    columns["cuts"].append(encoded.source_cuts)
