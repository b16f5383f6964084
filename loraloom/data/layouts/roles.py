"""Whose turns the roles of a conversation name."""

from __future__ import annotations

import re
from collections.abc import Mapping

SYSTEM, USER, ASSISTANT, IGNORED = "system", "user", "assistant", "ignored"
# Names of roles in data sets that are shared, in any case of letters. Those of tools are not among
# them: whether their turns are asked, learnt or left out differs from one data set to the next.
ROLES: dict[str, tuple[str, ...]] = {
    SYSTEM: ("system", "developer", "系统"),
    USER: ("user", "human", "prompter", "用户"),
    ASSISTANT: ("assistant", "gpt", "bot", "model", "chatgpt", "bing", "bard", "ai", "chatbot", "助手"),
}
_SHOWN = re.compile(r"[\w .-]{1,30}")


def role_names(own: Mapping[str, list[str]]) -> dict[str, str]:
    """Each known role, folded -> whose turns it names.

    Args:
        own: the recipe's `data.roles`, which comes first.
    """
    known = {name: speaker for speaker, names in ROLES.items() for name in names}
    return known | {folded(name): speaker for speaker, names in own.items() for name in names}


def folded(role: str) -> str:
    """A role without what makes no difference to it: case, and white space around it."""
    return role.strip().casefold()


def shown_role(role: str) -> str:
    """A role for messages; what is no name may be a row's text, so it is not shown."""
    return f"`{role}`" if _SHOWN.fullmatch(role) else f"a text of {len(role)} characters"
