"""Parsing of single values of a recipe: numbers, shares, target names.

People write `'5e-5'` for a number and `q, v` for a list, which have only one meaning; they also write
`true` for a number, which has none. Messages state what a setting *must* be, without its name, which is
added where they are shown.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from loraloom.recipe.module_patterns import read_layer_names, read_layers, read_pattern
from loraloom.recipe.target_names import read_target_modules
from loraloom.recipe.tracker_names import TrackerName, read_trackers
from loraloom.text.message import Message
from loraloom.text.visible import quoted


class SettingError(ValueError):
    """A value that is invalid in combination with another one.

    Args:
        message: what is wrong, without the setting's name.
        path: location of the setting, relative to the model that raises.
    """

    def __init__(self, message: str, *path: str) -> None:
        super().__init__(message)
        self.message, self.path = message, path


def as_number(text: str) -> int | float | None:
    """Parse a text as a number; return None if it is not one."""
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return None


def _no_bool(value: Any) -> Any:
    # pydantic reads True as 1; in a recipe that is a mistake, not a number.
    if isinstance(value, bool):
        raise ValueError(Message("must be a number, not true or false"))
    return value


def _count(value: Any) -> Any:
    # `max_steps: 1e3` is a float in YAML, `'1e3'` is text; both mean a thousand.
    if isinstance(value, str):
        number = as_number(value)
        return value if number is None else number
    return _no_bool(value)


Number = Annotated[float, BeforeValidator(_no_bool)]
Count = Annotated[int, BeforeValidator(_count)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1), BeforeValidator(_count)]


def _files(value: Any) -> Any:
    """Parse one name of a file or dataset, or a list of names."""
    for name in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(name, str):
            raise ValueError(
                Message("must be a file name or a list of file names. Write it as in `data.train: data.json`")
            )
        if not name.strip():
            raise ValueError(Message("contains no file name"))
    if isinstance(value, str):
        return value
    if not value:
        raise ValueError(Message("is an empty list, without file names"))
    return list(value)


def _files_or_none(value: Any) -> Any:
    return None if value is None else _files(value)


Files = Annotated[str | list[str], BeforeValidator(_files)]
FilesOrNone = Annotated[str | list[str] | None, BeforeValidator(_files_or_none)]


def _part(value: Any) -> Any:
    """Parse a share, a count or files; text that looks like a number is a number."""
    if isinstance(value, list | tuple):
        return _files(value)
    read = as_number(value) if isinstance(value, str) else _no_bool(value)
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
    """Parse one character; a tab may be spelled out, because it is hard to type and to see."""
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


def _base_dropout(value: Any) -> Any:
    if value == "model":
        return value
    number = as_number(value) if isinstance(value, str) else _no_bool(value)
    if not isinstance(number, int | float) or not 0 <= number < 1:
        raise ValueError(Message("must be a probability of at least 0 and below 1, or `model`"))
    return float(number)


BaseDropout = Annotated[
    Annotated[float, Field(ge=0, lt=1)] | Literal["model"], BeforeValidator(_base_dropout)
]


RankPattern = Annotated[dict[str, Annotated[Count, Field(ge=1, le=4096)]], BeforeValidator(read_pattern)]
AlphaPattern = Annotated[dict[str, Annotated[Number, Field(gt=0, le=1e6)]], BeforeValidator(read_pattern)]
Layers = Annotated[list[Annotated[Count, Field(ge=0)]] | None, BeforeValidator(read_layers)]


def _token_indices(value: list[int] | None) -> list[int] | None:
    """Sort token ids; refuse repeated ones."""
    if value and len(set(value)) < len(value):
        twice = min(token for token in value if value.count(token) > 1)
        raise ValueError(Message("has {twice} twice; name each token id once", twice=twice))
    return sorted(value) if value else None


def is_norm_name(name: str) -> bool:
    """Return whether a name in `modules_to_save` can be that of a norm: all families have "norm" in it."""
    return "norm" in name.lower()


def _modules_to_save(value: Any) -> Any:
    """Parse the names of norms; other modules cannot be trained whole."""
    names = [value] if isinstance(value, str) else value or None
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(Message("must be a list of names of norms, such as [layer_norm]"))
    others = [name for name in names if not is_norm_name(name)]
    if others:
        raise ValueError(
            Message(
                "has {name}, but only norms can be trained whole, because adapters share the base's other "
                "weights; use trainable_token_indices for tokens, and target_modules for linears",
                name=quoted(others[0]),
            )
        )
    return sorted(set(names))


def _init_lora_weights(value: Any) -> Any:
    """Parse the start of A and B: True is PEFT's default."""
    if value in (True, None, "default", "true", "True"):
        return True
    text = value.lower() if isinstance(value, str) else ""
    if text in ("pissa", "olora") or re.fullmatch(r"pissa_niter_[1-9]\d{0,3}", text):
        return text
    raise ValueError(Message("must be true, `pissa`, `pissa_niter_16` (or another number), or `olora`"))


InitLoraWeights = Annotated[bool | str, BeforeValidator(_init_lora_weights)]
ModulesToSave = Annotated[list[str] | None, BeforeValidator(_modules_to_save)]
TokenIndices = Annotated[list[Annotated[Count, Field(ge=0)]] | None, AfterValidator(_token_indices)]
LayerNames = Annotated[list[str] | None, BeforeValidator(read_layer_names)]
TargetModules = Annotated[str | list[str], BeforeValidator(read_target_modules)]
Trackers = Annotated[list[TrackerName], BeforeValidator(read_trackers)]


def _dtype(value: Any) -> Any:
    if value in ("float16", "fp16", "half"):
        # Measured and reported many times: the activations of wo exceed 65,504.
        raise ValueError(Message("must not be float16, which overflows on T5-family models (loss 0 or NaN)"))
    return value


# The value of `quantization` for weights of the base's dtype.
UNQUANTIZED: Final = "none"


def _quantization(value: Any) -> Any:
    """Parse how the base is quantized; `null` and `false` mean that it is not."""
    return UNQUANTIZED if value in (None, False, "") else value


Quantization = Annotated[Literal["none", "int8", "nf4", "torchao_int8"], BeforeValidator(_quantization)]

Device = Annotated[
    str,
    Field(pattern=r"^(cpu|cuda:\d+)$"),
    BeforeValidator(lambda value: f"cuda:{value}" if type(value) is int and value >= 0 else value),
]
"""One of several devices; the number is that of a GPU."""

Dtype = Annotated[Literal["auto", "float32", "bfloat16"], BeforeValidator(_dtype)]
