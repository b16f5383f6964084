"""Answers of an unfinished comparison, each stored under a digest of its row.

    compare/.<name>.partial.jsonl
      {"format": 2, "key": …, "num_rows": 300}
      {"rows": ["5f2a…", …], "answers": {model: {"texts": […], …}}, "sha256": …}
      …

The key identifies everything that answers depend on besides their rows. A chunk states which rows it answers.
A chunk is ignored, wherever it is in the file, if it is truncated, contains rows that the comparison does not
have, or contradicts another chunk; its rows are answered again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from loraloom.data.prompts.prompts import Prompt
from loraloom.errors import RunError
from loraloom.evaluate.comparison import ModelAnswers
from loraloom.report.unfinished_comparisons import FORMAT
from loraloom.run.atomic import replace_text
from loraloom.run.digests import digest_of_json, is_intact, line_with_digest
from loraloom.run.documents.document import JsonObject
from loraloom.text.message import Message

Answers = dict[str, ModelAnswers]
# Stored for each row and model: the fields of ModelAnswers.
_Row = dict[str, JsonObject]


class PartialAnswers:
    """The answers of one unfinished comparison, and the file that stores them; only this process may use it.

    Args:
        file: path of the file; its answers are reused if it has the same key.
        key: identifies what all answers depend on: adapters, base, settings, versions.
        models: models that answer.
        rows: unique name of each row of the comparison, see `row_names`.
    """

    def __init__(self, file: Path, key: str, models: Collection[str], rows: Sequence[str]) -> None:
        self.file, self.models, self.rows = file, list(models), list(rows)
        self._header = json.dumps({"format": FORMAT, "key": key, "num_rows": len(self.rows)})
        self._known: dict[str, _Row] = {}
        lines = list(self._sound_lines(key))
        self._replace([self._header, *lines])

    def of(self, rows: Sequence[str]) -> Answers | None:
        """Return the answers of every model to some rows; None if any of them is not answered yet."""
        if not all(row in self._known for row in rows):
            return None
        return {
            model: ModelAnswers(
                **{
                    part.name: [self._known[row][model][part.name] for row in rows]
                    for part in fields(ModelAnswers)
                }
            )
            for model in self.models
        }

    def add(self, rows: Sequence[str], answers: Answers) -> None:
        """Store the answers of every model to some rows.

        Raises:
            RunError: the file cannot be written.
        """
        content = {"rows": list(rows), "answers": {model: asdict(own) for model, own in answers.items()}}
        line = line_with_digest(content)
        try:
            with self.file.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise self._unwritable(error) from None

    def _sound_lines(self, key: str) -> Iterator[str]:
        """Yield the chunks of the file that can be reused, and record their rows."""
        disputed: set[str] = set()
        chunks: list[tuple[str, dict[str, _Row]]] = []
        for line in self._lines_of(key):
            chunk = self._read(line)
            for row, own in chunk.items():
                if self._known.setdefault(row, own) != own:
                    disputed.add(row)
            chunks.append((line, chunk))
        for row in disputed:
            del self._known[row]
        kept: set[str] = set()
        for line, chunk in chunks:
            if chunk.keys() <= self._known.keys() and not chunk.keys() <= kept:
                kept |= chunk.keys()
                yield line
        for row in self._known.keys() - kept:  # from a chunk that is partly inconsistent
            del self._known[row]

    def _lines_of(self, key: str) -> list[str]:
        """Return the lines after the header; [] if the file is unreadable or has another key or format."""
        try:
            first, *lines = self.file.read_text(encoding="utf-8", errors="replace").split("\n")
            header = json.loads(first)
            is_same = header["format"] == FORMAT and header["key"] == key
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return []
        return lines if is_same else []

    def _read(self, line: str) -> dict[str, _Row]:
        """Read the rows of a chunk; {} if it is damaged, has other models, or has unknown rows."""
        try:
            chunk = json.loads(line)
            if not is_intact(chunk) or not set(chunk["rows"]) <= set(self.rows):
                return {}
            answers: Mapping[str, Mapping[str, list[Any]]] = chunk["answers"]
            if set(answers) != set(self.models):
                return {}
            names = [part.name for part in fields(ModelAnswers)]
            if any(len(answers[m][name]) != len(chunk["rows"]) for m in self.models for name in names):
                return {}
            return {
                row: {m: {name: answers[m][name][number] for name in names} for m in self.models}
                for number, row in enumerate(chunk["rows"])
            }
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}

    def _replace(self, lines: Sequence[str]) -> None:
        try:
            self.file.parent.mkdir(exist_ok=True)
            replace_text(self.file, "\n".join(lines) + "\n")
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> RunError:
        what = Message("cannot be written: {strerror}", strerror=(error.strerror or error))
        return RunError(
            what,
            where=str(self.file),
            fix=Message("Free some space, and run the same command again to resume."),
        )


def row_names(
    prompts: Sequence[Prompt], sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
) -> list[str]:
    """Name each row by a digest of its number, texts, target language, and source and answer tokens.

    Args:
        prompts: the rows.
        sources: token ids of each row's source.
        targets: token ids of each row's known answer; an empty list for a row without one.
    """
    return [
        digest_of_json(
            [
                number,
                row.source,
                row.response,
                list(map(int, source)),
                list(map(int, target)),
                *filter(None, [row.target_lang]),  # decides how an answer begins if none is known
            ]
        )
        for number, (row, source, target) in enumerate(zip(prompts, sources, targets, strict=True))
    ]
