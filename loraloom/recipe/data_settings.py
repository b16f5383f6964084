"""The section `data` of a recipe: the rows, and how they become tokens."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from loraloom.recipe.relative_paths import LocatedSection
from loraloom.recipe.settings import MAX_TOKENS
from loraloom.recipe.values import Count, Number, SettingError, as_number, no_bool
from loraloom.text.message import Message

# Settings of `data` about the languages of rows, which only a multilingual base has.
LANGUAGE_KEYS = (
    "source_lang",
    "target_lang",
    "source_lang_column",
    "target_lang_column",
    "language_codes",
    "language_temperature",
)


def _files(value: Any) -> Any:
    """Parse the name of a file or dataset, or a list of such names."""
    for name in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(name, str):
            raise ValueError(
                Message("must be a file name or a list of file names, as in `data.train: data.json`")
            )
        if not name.strip():
            raise ValueError(Message("contains no file name"))
    if isinstance(value, str):
        return value
    if not value:
        raise ValueError(Message("is an empty list; it must contain at least one file name"))
    return list(value)


def _files_or_none(value: Any) -> Any:
    return None if value is None else _files(value)


Files = Annotated[str | list[str], BeforeValidator(_files)]
FilesOrNone = Annotated[str | list[str] | None, BeforeValidator(_files_or_none)]


def _part(value: Any) -> Any:
    """Parse a share, a count or files; text that looks like a number is a number."""
    if isinstance(value, list | tuple):
        return _files(value)
    read = as_number(value) if isinstance(value, str) else no_bool(value)
    if read is None and isinstance(value, str):
        if not value.strip():
            raise ValueError(Message("contains no file name"))
        return value
    if not isinstance(read, int | float) or not _is_part(read):
        raise ValueError(
            Message(
                "must be a share of at least 0 and below 1, a whole number of rows, or a file or "
                "list of files"
            )
        )
    if isinstance(read, float) and read == 1.0:
        raise ValueError(
            Message("must be less than 1 if it is a share, because 1.0 leaves no row to train on")
        )
    return int(read) if float(read).is_integer() else read


def _is_part(number: int | float) -> bool:
    if isinstance(number, int):
        return 0 <= number < 2**53
    return math.isfinite(number) and 0 <= number < 2**53 and (number < 1 or number.is_integer())


Part = Annotated[float | int | str | list[str], BeforeValidator(_part)]


def _delimiter(value: Any) -> Any:
    """Parse a separator of one character; a tab may be spelled out, as it is hard to type and to see."""
    if value in ("tab", "\\t", "\t"):
        return "tab"
    if not isinstance(value, str) or len(value) != 1 or value in '"\r\n':
        raise ValueError(
            Message(
                "must be `tab`, or one character in quotes that is neither a double quote nor a line break"
            )
        )
    return value


Delimiter = Annotated[str, BeforeValidator(_delimiter)]


class DataSettings(LocatedSection):
    """The rows, and how they become tokens."""

    train: Files = Field(
        description=Message(
            "A file (json, jsonl, csv, tsv, parquet, arrow; text formats also as .gz, .bz2, .xz), a folder "
            "of such files or one written by save_to_disk, a pattern (data/*.jsonl), a hub dataset "
            "(hub:owner/name, or hub:owner/name@revision), or `starter`; or a list of these."
        )
    )
    eval: Part = Field(
        default=0.1,
        description=Message(
            "Rows used to select checkpoints and to stop early: a share, a count, or files as in `train`."
        ),
    )
    test: Part = Field(
        default=0, description=Message("Rows held out for final figures; same formats as `eval`.")
    )
    retain: FilesOrNone = Field(
        default=None,
        description=Message(
            "Rows to measure forgetting on: files as in `train`, or `starter` for the built-in probe."
        ),
    )
    split_seed: Count = Field(
        default=42,
        description=Message(
            "Seed of the split, separate from `seed`, so that all training seeds use the same rows."
        ),
    )
    columns: dict[Literal["instruction", "input", "response", "system", "history"], str] = Field(
        default_factory=dict,
        description=Message(
            "Columns for each role, if not recognised automatically; `translation.de` and `answers.text[0]` "
            "refer to values inside columns."
        ),
    )
    labels: list[str] = Field(
        default_factory=list,
        description=Message("Names of the classes in a numeric label column, starting at 0."),
    )
    roles: dict[Literal["system", "user", "assistant", "ignored"], list[str]] = Field(
        default_factory=dict,
        description=Message(
            "Speakers in conversations whose roles are not recognised automatically: `{{user: [tool]}}`."
        ),
    )
    answer_weights: bool = Field(
        default=True,
        description=Message(
            "Use an answer with `weight: 0`, `loss: false` or `train: false`, or one that only calls a tool, "
            "as context and not as a target."
        ),
    )
    context_columns: bool = Field(
        default=True,
        description=Message("Prepend the columns `system` and `history` to the question in the same row."),
    )
    source_lang: str | None = Field(
        default=None,
        description=Message(
            "Language of all sources, as a code of a multilingual base's tokenizer: `deu_Latn` (NLLB), "
            "`de_DE` (mBART), `de` (M2M100). By default, the key of the translation pair."
        ),
    )
    target_lang: str | None = Field(
        default=None, description=Message("Language of all answers, in the same form as `source_lang`.")
    )
    source_lang_column: str | None = Field(
        default=None,
        description=Message("Column with the language of each source, instead of `source_lang`."),
    )
    target_lang_column: str | None = Field(
        default=None,
        description=Message("Column with the language of each answer, instead of `target_lang`."),
    )
    language_codes: dict[str, str] = Field(
        default_factory=dict,
        description=Message(
            "Names of languages in the data and the codes of the tokenizer that they stand for: "
            "`{{de: deu_Latn}}`."
        ),
    )
    language_temperature: Number = Field(
        default=1,
        ge=1,
        le=100,
        description=Message(
            "Repeat training rows of small language pairs: a pair with n rows counts as n^(1/T) relative to "
            "the largest. 1 repeats none, 5 is the value used for M2M100, 100 makes all nearly equal."
        ),
    )
    source_prefix: str = Field(
        default="",
        description=Message(
            "Text before every source, or a template over the columns: `translate: {{text}}`."
        ),
    )
    conversation_history: bool = Field(
        default=False,
        description=Message("Add the earlier turns of a conversation to each source as context."),
    )
    max_source_length: Count = Field(
        default=256,
        ge=4,
        le=MAX_TOKENS,
        description=Message("Maximum number of source tokens, including EOS."),
    )
    max_target_length: Count = Field(
        default=256,
        ge=2,
        le=MAX_TOKENS,
        description=Message("Maximum number of target tokens, including EOS."),
    )
    source_truncation: Literal["context", "right"] = Field(
        default="context",
        description=Message(
            "What to cut from a source that is too long: `context`, the oldest history first, then "
            "the longest context, and the question last; `right`, the source's end."
        ),
    )
    encoding: str = Field(default="utf-8", description=Message("Character encoding of text files."))
    delimiter: Delimiter | None = Field(
        default=None,
        description=Message(
            "Separator of cells in csv and tsv files: a character, or `tab`. Detected if null."
        ),
    )
    quoting: Literal["auto", "csv", "none"] = Field(
        default="auto",
        description=Message(
            "Double quotes in csv and tsv files: `csv`, around cells; `none`, part of the text. "
            "`auto` means `csv`, but is detected from the file if cells are separated by tabs."
        ),
    )
    stringify: bool = Field(
        default=False, description=Message("Accept numbers, booleans and dates where text is expected.")
    )
    number_format: Literal["written", "python"] = Field(
        default="written",
        description=Message(
            "`written`: numbers as in the file, or the shortest form that reads back as the same "
            "value of their type; class labels as names. `python`: as Python prints them, as in "
            "LoRALoom 0.1."
        ),
    )
    on_empty: Literal["error", "drop"] = Field(
        default="error", description=Message("What to do with empty rows.")
    )
    on_invalid: Literal["error", "drop"] = Field(
        default="error",
        description=Message(
            "What to do with rows that cannot be read or used, and with empty ones unless "
            "`on_empty` drops them; dropped rows are counted and listed in split.json."
        ),
    )
    keep_rows: Literal["auto", "memory", "disk"] = Field(
        default="auto",
        description=Message(
            "Where rows and their tokens are kept: in memory, or in files of the run that are mapped into "
            "memory. `auto` uses files if the data is larger than 100 MiB uncompressed."
        ),
    )
    hub_config: str | None = Field(default=None, description=Message("Configuration of a hub dataset."))
    hub_split: str = Field(
        default="train",
        description=Message(
            "Split of a hub dataset to read; for a saved DatasetDict, the split for data.train and "
            "data.retain."
        ),
    )

    @model_validator(mode="after")
    def _languages_once(self) -> Self:
        for side in ("source_lang", "target_lang"):
            if getattr(self, side) is not None and getattr(self, f"{side}_column") is not None:
                raise SettingError(
                    Message("cannot be combined with {side}_column; remove one of them", side=side), side
                )
        return self

    @model_validator(mode="after")
    def _rows_left(self) -> Self:
        shares = [part for part in (self.eval, self.test) if isinstance(part, float)]
        if sum(shares) >= 1:
            raise SettingError(
                Message("and data.test together use every row, so none is left to train on"), "eval"
            )
        return self
