"""Roles in conversations, and the speaker that each one denotes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from loraloom.text.message import Message

SYSTEM, USER, ASSISTANT, IGNORED = "system", "user", "assistant", "ignored"
# Role names in published datasets, in any letter case. Roles of tools are not among them: whether their
# turns are a question, learnt or skipped differs from one dataset to the next.
ROLES: dict[str, tuple[str, ...]] = {
    SYSTEM: ("system", "developer", "系统"),
    USER: ("user", "human", "prompter", "用户"),
    ASSISTANT: ("assistant", "gpt", "bot", "model", "chatgpt", "bing", "bard", "ai", "chatbot", "助手"),
}
_SHOWN = re.compile(r"[\w .-]{1,30}")


def role_names(own: Mapping[str, list[str]]) -> dict[str, str]:
    """Map each known role, in the form that `folded` returns, to the speaker that it denotes.

    Args:
        own: the recipe's `data.roles`, which take precedence over the built-in roles.
    """
    known = {name: speaker for speaker, names in ROLES.items() for name in names}
    return known | {folded(name): speaker for speaker, names in own.items() for name in names}


def folded(role: str) -> str:
    """Remove differences that do not distinguish roles: case, and white space around them."""
    return role.strip().casefold()


def shown_role(role: str) -> str:
    """Format a role for messages; unless it is a plain name, it may be text from a row and is not shown."""
    return (
        f"`{role}`"
        if _SHOWN.fullmatch(role)
        else Message("a text of {num_role} characters", num_role=len(role))
    )
