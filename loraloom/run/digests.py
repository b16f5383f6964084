"""SHA-256 of what a run writes, in one form for files, folders, lines and logs: nothing changes unsaid.

Files are listed in a manifest, `.sums.json` of a run and `MANIFEST.json` of a checkpoint:

    {"format": 1, "files": {"recipe.yaml": {"bytes": 712, "sha256": …}, …}, "sha256": of `files`}

A line of JSON that stands for itself ends with the sha256 of its other keys; the line of a save ends with
that of the log up to it. `.sums.json` of 0.1 has lists of sums instead of entries, and is still read.
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
# How the line of a save ends.
_LOG_END = re.compile(rb', "log": "(.*)"\}\n$')


def digest_of(content: bytes) -> str:
    """Of bytes."""
    return hashlib.sha256(content).hexdigest()


def digest_of_json(value: Any) -> str:
    """Of a JSON value, in whatever order its keys are."""
    return digest_of(json.dumps(value, sort_keys=True).encode())


@dataclass(frozen=True)
class FileDigest:
    """What a file is.

    Args:
        sha256: of its content.
        num_bytes: its size; None if it was listed by 0.1.
        before: the sha256 of the content that it replaces: whichever a crash leaves is right.
    """

    sha256: str
    num_bytes: int | None = None
    before: str | None = None

    @classmethod
    def of(cls, content: bytes, before: str | None = None) -> Self:
        """Of a file with this content."""
        return cls(digest_of(content), len(content), before)

    def matches(self, content: bytes) -> bool:
        """Whether the file may have this content."""
        return digest_of(content) in (self.sha256, self.before)

    def to_json(self) -> JsonObject:
        """The manifest's entry."""
        size = {} if self.num_bytes is None else {"bytes": self.num_bytes}
        before = {} if self.before is None else {"before": self.before}
        return {**size, KEY: self.sha256, **before}

    @classmethod
    def parse(cls, entry: Any) -> Self:
        """From a manifest's entry.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        if isinstance(entry, list):  # as 0.1 wrote them: the sum before, if there was one, and the sum
            *before, sha256 = map(str, entry)
            return cls(sha256, before=before[-1] if before else None)
        return cls(str(entry[KEY]), int(entry["bytes"]) if "bytes" in entry else None, entry.get("before"))


@dataclass(frozen=True)
class Manifest:
    """What several files are.

    Args:
        files: by their paths in the folder that the manifest is about.
    """

    files: Mapping[str, FileDigest]

    @classmethod
    def of(cls, contents: Mapping[str, bytes]) -> Self:
        """Of files with these contents."""
        return cls({name: FileDigest.of(content) for name, content in sorted(contents.items())})

    def to_json(self) -> JsonObject:
        """What the file of the manifest has."""
        files = {name: entry.to_json() for name, entry in self.files.items()}
        return {"format": FORMAT, "files": files, KEY: digest_of_json(files)}

    @classmethod
    def parse(cls, content: bytes) -> Self | None:
        """From the content of its file; None if that was changed, or is of another format.

        Raises:
            KeyError, TypeError, ValueError, AttributeError, RecursionError: it is no manifest.
        """
        values = json.loads(content)
        files, own, version = values["files"], values[KEY], values.get("format", FORMAT)
        if own != digest_of_json(files) or version != FORMAT:
            return None
        return cls({str(name): FileDigest.parse(entry) for name, entry in files.items()})


def line_with_digest(values: Mapping[str, Any]) -> str:
    """A line of JSON that can be verified by itself."""
    return json.dumps({**values, KEY: _line_digest(values)})


def is_intact(values: Mapping[str, Any]) -> bool:
    """Whether a parsed line of `line_with_digest` has what it was written with."""
    return bool(values[KEY] == _line_digest({key: own for key, own in values.items() if key != KEY}))


def _line_digest(values: Mapping[str, Any]) -> str:
    return digest_of(json.dumps(values).encode())


class LogDigest:
    """The running digest of a log, which the line of a save has at its end.

    Args:
        started: when the run was begun: what tells its log from another run's.
        content: the log so far.
    """

    def __init__(self, started: str, content: bytes = b"") -> None:
        self._so_far = hashlib.sha256(started.encode() + content)

    def closed(self, line: str) -> str:
        """A save's line, a JSON object, with the digest of the log up to it."""
        return f'{line[:-1]}, "log": "{self._with(line.encode())}"}}'

    def is_closed(self, line: bytes) -> bool:
        """Whether a line has a digest at all."""
        return _LOG_END.search(line) is not None

    def verifies(self, line: bytes) -> bool:
        """Whether the digest of a line is that of the log up to it."""
        end = _LOG_END.search(line)
        return end is not None and self._with(line[: end.start()] + b"}").encode() == end[1]

    def add(self, line: bytes) -> None:
        """Go on behind a line."""
        self._so_far.update(line)

    def _with(self, line: bytes) -> str:
        digest = self._so_far.copy()
        digest.update(line)
        return digest.hexdigest()
