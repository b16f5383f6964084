"""Reading, validating and writing the JSON files of a run: what all of them have in common."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainValidator,
    TypeAdapter,
    ValidationError,
)

from loraloom.errors import RunError
from loraloom.run.patience import read_bytes_patiently
from loraloom.text.message import Message, from_data, to_data

JsonObject = dict[str, Any]
"""A JSON object, read from a file or to be written to one."""


def to_json(value: Any) -> str:
    """Return a value as indented JSON without ASCII escapes; messages become text, and NaN is refused."""
    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False, default=_part_to_json)
    return text + "\n"


def to_stored_json(value: Any) -> str:
    """Return JSON for the files of a run: like `to_json`, but messages stay data instead of becoming text.

    Machine-readable output on stdout uses `to_json`, and so contains the text of messages.
    """
    return to_json(to_data(value))


def _part_to_json(value: object) -> JsonObject:
    if isinstance(value, Part):
        return {key: to_data(inner) for key, inner in value.to_json().items()}
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file of a run.

    Raises:
        RunError: the file is missing or is not JSON.
    """
    try:
        return json.loads(read_bytes_patiently(path).decode())
    except FileNotFoundError:
        raise RunError(
            Message("the run has no {name}", name=path.name),
            where=str(path.parent),
            fix=Message("Check that this is a run directory."),
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(Message("cannot be read"), where=str(path), found=str(error)) from None


def damage(error: ValidationError, path: Path, fix: str = "") -> RunError:
    """Return the error for a file of a run whose content is invalid."""
    first = error.errors(include_url=False, include_input=False)[0]
    key, msg = ".".join(map(str, first["loc"])), first["msg"]
    what = (
        Message("is damaged: `{key}`: {msg}", key=key, msg=msg)
        if key
        else Message("is damaged: {msg}", msg=msg)
    )
    return RunError(what, where=str(path), fix=fix)


def parse(adapter: TypeAdapter[Any], path: Path, fix: str = "") -> Any:
    """Return the content of a JSON file, validated by a `TypeAdapter`.

    Raises:
        RunError: the file is missing, is not JSON, or is invalid.
    """
    values = read_json(path)
    try:
        return adapter.validate_python(values)
    except ValidationError as error:
        raise damage(error, path, fix) from None


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("text without control characters is needed")
    return text


def _integer(value: Any) -> Any:
    if isinstance(value, bool | str | bytes):
        raise ValueError("a whole number is needed")
    return value


Printable = Annotated[str, AfterValidator(_printable)]
"""A path or name from an untrusted file, which is shown on terminals."""

Text = Annotated[str, PlainValidator(from_data)]
"""Text for people: a message, stored as its data; files of older versions have its text."""

Integer = Annotated[int, BeforeValidator(_integer)]
"""A whole number; text and booleans are not converted."""


class Part(BaseModel):
    """A part of a document; unknown keys, which newer versions may have written, are kept."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    def to_json(self) -> JsonObject:
        """Return the values that were set, in the order of the fields; defaults are omitted."""
        return self.model_dump(exclude_unset=True)


class Document(Part):
    """A JSON file of a run: written by one command, read by others, and possibly edited in between.

    A document with a `format` that this version does not know is refused. `REMEDY` is the fix that the error
    message suggests then, or if the file is damaged.
    """

    FORMATS: ClassVar[tuple[int, ...]] = ()
    REMEDY: ClassVar[str] = ""

    @classmethod
    def read(cls, path: Path, fix: str | None = None) -> Self:
        """Read a file.

        Args:
            path: the file.
            fix: what the user should do if the file cannot be used; by default `REMEDY`.

        Raises:
            RunError: the file is missing, damaged, or in an unknown format.
        """
        fix = cls.REMEDY if fix is None else fix
        values = read_json(path)
        if cls.FORMATS and isinstance(values, dict):
            format = values.get("format")
            if isinstance(format, int) and format not in cls.FORMATS:
                raise RunError(
                    Message("was written by another version of LoRALoom"),
                    where=str(path),
                    found=Message("format {format}", format=format),
                    allowed=", ".join(map(str, cls.FORMATS)),
                    fix=fix,
                )
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise damage(error, path, fix) from None

    def text(self) -> str:
        """Return the file's content."""
        return to_stored_json(self.to_json())

    def replaced(self, **changes: Any) -> Self:
        """Return a copy of this document with some values replaced."""
        return self.model_copy(update=changes)
