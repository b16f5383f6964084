"""Names of models and datasets on the Hugging Face hub: `owner/name`, or `owner/name@revision`."""

from __future__ import annotations

import re
from typing import NamedTuple

_REPOSITORY = re.compile(r"[\w.\-]+(?:/[\w.\-]+)?")
# A revision is a branch, a tag, a commit, or a pull request such as refs/pr/3.
_PINNED = re.compile(rf"(?P<repository>{_REPOSITORY.pattern})@(?P<revision>[\w.\-]+(?:/[\w.\-]+)*)")


class HubName(NamedTuple):
    """A repository, and its revision if the name contains one."""

    repository: str
    revision: str | None


def split_hub_name(name: str) -> HubName:
    """Split a name into repository and revision; a name of any other form is returned as the repository.

    >>> split_hub_name("google/mt5-small@refs/pr/3")
    HubName(repository='google/mt5-small', revision='refs/pr/3')
    >>> split_hub_name("google/mt5-small").revision is None
    True
    """
    found = _PINNED.fullmatch(name)
    return HubName(name, None) if found is None else HubName(found["repository"], found["revision"])


def repository_of(name: str) -> str:
    """Return a name without its revision."""
    return split_hub_name(name).repository


def is_hub_name(name: str) -> bool:
    """Return whether a name has the form of a repository name, with or without a revision."""
    return _REPOSITORY.fullmatch(repository_of(name)) is not None


def looks_local(name: str) -> bool:
    """Return whether a name is written like a path, and not like a name on the hub.

    >>> looks_local("models/t5/small"), looks_local("google/mt5-small@refs/pr/3")
    (True, False)
    """
    return name.startswith((".", "/", "~")) or repository_of(name).count("/") > 1
