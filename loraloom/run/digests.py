"""SHA-256 of everything that a run writes, in one format for files, folders, lines and logs.

A manifest lists files: `.sums.json` those of a run, `MANIFEST.json` those of a checkpoint. Its last value is
the sha256 of `files`:

    {"format": 1, "files": {"recipe.yaml": {"bytes": 712, "sha256": …}, …}, "sha256": …}

A line of JSON with a digest of its own ends with the sha256 of its other keys. In a log, the line of each
saved checkpoint ends with the sha256 of the log up to there. In a `.sums.json` from version 0.1, each entry
is a list of sha256 values instead of an object; it can still be read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from loraloom.run.documents.document import JsonObject

FORMAT = 1
KEY = "sha256"
# The end of the line of a save.
_LOG_END = re.compile(rb', "log": "(.*)"\}\n$')


def digest_of(content: bytes) -> str:
    """Return the sha256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def digest_of_json(value: Any) -> str:
    """Return the sha256 of a JSON value, independent of the order of its keys."""
    return digest_of(json.dumps(value, sort_keys=True).encode())


@dataclass(frozen=True)
class FileDigest:
    """Size and sha256 of a file.

    Args:
        sha256: sha256 of its content.
        num_bytes: size of the file; None if the entry is from version 0.1, which did not store sizes.
        before: sha256 of the previous content, if any; after a crash, either content is valid.
    """

    sha256: str
    num_bytes: int | None = None
    before: str | None = None

    @classmethod
    def of(cls, content: bytes, before: str | None = None) -> Self:
        """Compute the digest of a file with this content."""
        return cls(digest_of(content), len(content), before)

    def matches(self, content: bytes) -> bool:
        """Return whether this is valid content of the file: the current or the previous one."""
        return digest_of(content) in (self.sha256, self.before)

    def to_json(self) -> JsonObject:
        """Return the file's entry in a manifest."""
        size = {} if self.num_bytes is None else {"bytes": self.num_bytes}
        before = {} if self.before is None else {"before": self.before}
        return {**size, KEY: self.sha256, **before}

    @classmethod
    def parse(cls, entry: Any) -> Self:
        """Parse an entry of a manifest.

        Raises:
            KeyError, TypeError, ValueError: the entry is invalid.
        """
        if isinstance(entry, list):  # as written by 0.1: the previous sum, if any, and the sum
            *before, sha256 = map(str, entry)
            return cls(sha256, before=before[-1] if before else None)
        return cls(str(entry[KEY]), int(entry["bytes"]) if "bytes" in entry else None, entry.get("before"))


@dataclass(frozen=True)
class Manifest:
    """Digests of several files.

    Args:
        files: digests by path, relative to the folder that the manifest describes.
    """

    files: Mapping[str, FileDigest]

    @classmethod
    def of(cls, contents: Mapping[str, bytes]) -> Self:
        """Compute the manifest of files with these contents."""
        return cls({name: FileDigest.of(content) for name, content in sorted(contents.items())})

    def to_json(self) -> JsonObject:
        """Return the content of the manifest file."""
        files = {name: entry.to_json() for name, entry in self.files.items()}
        return {"format": FORMAT, "files": files, KEY: digest_of_json(files)}

    @classmethod
    def parse(cls, content: bytes) -> Self | None:
        """Parse the content of a manifest file; return None if it was changed or has another format.

        Raises:
            KeyError, TypeError, ValueError, AttributeError, RecursionError: the content is not a manifest.
        """
        values = json.loads(content)
        files, own, version = values["files"], values[KEY], values.get("format", FORMAT)
        if own != digest_of_json(files) or version != FORMAT:
            return None
        return cls({str(name): FileDigest.parse(entry) for name, entry in files.items()})


def line_with_digest(values: Mapping[str, Any]) -> str:
    """Return a line of JSON that ends with its own digest and can be verified with it."""
    return json.dumps({**values, KEY: _line_digest(values)})


def is_intact(values: Mapping[str, Any]) -> bool:
    """Return whether a line from `line_with_digest`, parsed as JSON, is unchanged.

    Raises:
        KeyError: the line has no digest.
    """
    return bool(values[KEY] == _line_digest({key: own for key, own in values.items() if key != KEY}))


def _line_digest(values: Mapping[str, Any]) -> str:
    return digest_of(json.dumps(values).encode())


class LogDigest:
    """The running digest of a log; the line of each saved checkpoint ends with it.

    Args:
        started: time at which the run was started; it distinguishes this run's log from those of other runs.
    """

    def __init__(self, started: str) -> None:
        self._so_far = hashlib.sha256(started.encode())

    def closed(self, line: str) -> str:
        """Return a saved checkpoint's line, a JSON object, with the digest of the log up to it appended."""
        return f'{line[:-1]}, "log": "{self._with(line.encode())}"}}'

    def is_closed(self, line: bytes) -> bool:
        """Return whether a line has a digest."""
        return _LOG_END.search(line) is not None

    def verifies(self, line: bytes) -> bool:
        """Return whether the digest at the end of a line matches the log up to that line."""
        end = _LOG_END.search(line)
        return end is not None and self._with(line[: end.start()] + b"}").encode() == end[1]

    def add(self, content: bytes) -> None:
        """Update the digest with the next part of the log: a line, or any other number of bytes."""
        self._so_far.update(content)

    def _with(self, line: bytes) -> str:
        digest = self._so_far.copy()
        digest.update(line)
        return digest.hexdigest()
