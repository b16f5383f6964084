"""provenance.json as it is read back: a file that anybody may have changed, so its shape is checked once."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from loraloom.errors import RunError
from loraloom.recipe import Recipe
from loraloom.run.folder import Run


def _path(text: str) -> str:
    if not text.isprintable():
        raise ValueError("a path without control characters is needed")
    return text


def _count(text: str) -> str:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 2**31:
        raise ValueError("a count above 0 is needed")
    return text


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Choice(_Part):
    value: str
    reason: str


class _Count(_Choice):
    value: Annotated[str, AfterValidator(_count)]


class _Dtype(_Choice):
    value: Literal["float32", "bfloat16"]


class _Choices(_Part):
    model_config = ConfigDict(strict=True, extra="allow")
    __pydantic_extra__: dict[str, _Choice]
    threads: _Count | None = None
    pass_tokens: _Count | None = None
    dtype: _Dtype | None = None


class _Base(_Part):
    name: str
    fingerprint: str
    tokenizer_fingerprint: str


class _Session(_Part):
    started: str
    versions: dict[str, str]


class _Provenance(_Part):
    """What other code relies on; all else is for people."""

    folder: Annotated[str, AfterValidator(_path)]
    started: str
    versions: dict[str, str]
    seeds: dict[str, int]
    allowed: list[str] = []
    choices: _Choices
    base: _Base | None = None
    waves: list[list[str]] = []
    sessions: Annotated[list[_Session], Field(min_length=1)] | None = None  # before any resume there is none


def read_provenance(run: Run, recipe: Recipe | None = None) -> dict[str, Any]:
    """What provenance.json holds.

    Args:
        recipe: the run's; the experiments that train together must be its own.

    Raises:
        RunError: it is missing, or not what a run's is.
    """
    where = str(run.provenance_file)
    values = run.read_json(run.provenance_file)
    try:
        read = _Provenance.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"])) or "it"
        raise RunError(f"is damaged: `{key}`: {first['msg']}", where=where) from None
    names = None if recipe is None else {e.name for e in recipe.resolved_experiments}
    strangers = [name for wave in read.waves for name in wave if names is not None and name not in names]
    if strangers:
        raise RunError(f"is damaged: its recipe has no experiment `{strangers[0]}`", where=where)
    assert isinstance(values, dict)
    return values
