"""Types of values that several sections of a recipe use: numbers, counts and seeds.

`'5e-5'` for a number and `q, v` for a list can mean only one thing, so they are accepted; `true` for a number
means nothing, so it is refused. Messages state what a setting *must* be; the name of the setting is added
where a message is shown. A type that only one section uses is defined next to that section.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from loraloom.text.message import Message


class SettingError(ValueError):
    """Error about a setting that is invalid, mostly because of the value of another setting.

    Args:
        message: what is wrong, without the setting's name.
        path: path of the setting, relative to the pydantic model that raises the error.
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


def no_bool(value: Any) -> Any:
    """Refuse true and false, which pydantic reads as 1 and 0; in a recipe that is a mistake."""
    if isinstance(value, bool):
        raise ValueError(Message("must be a number, not true or false"))
    return value


def _count(value: Any) -> Any:
    # `max_steps: 1e3` is a float in YAML, `'1e3'` is text; both mean a thousand.
    if isinstance(value, str):
        number = as_number(value)
        return value if number is None else number
    return no_bool(value)


Number = Annotated[float, BeforeValidator(no_bool)]
Count = Annotated[int, BeforeValidator(_count)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1), BeforeValidator(_count)]
