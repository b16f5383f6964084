"""The files of a hub model at one revision: `owner/name@revision` becomes a folder of the hub's cache.

Everything is then read from this folder, so that config, tokenizer and weights come from one commit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from loraloom.base.safety import CONFIG, describe_source, file_beside
from loraloom.base.weights import only_pickles
from loraloom.errors import ModelError
from loraloom.text.hub_name import split_hub_name
from loraloom.text.message import Message

SAFETENSORS, PICKLES = "*.safetensors", "*.bin"
# Files that a base is read from. Its repository may have the same weights for other frameworks too.
READ = ("*.json", "*.model", "*.spm", "*.txt", "*.jinja", SAFETENSORS)

_SNAPSHOT = re.compile(r"/models--[^/]+/snapshots/([0-9a-f]{40})$")


def snapshot_of(name: str, *, allow_bin_weights: bool) -> str:
    """Return the folder of `owner/name@revision`, downloading it if needed; return other names unchanged.

    Args:
        name: a folder, a hub name, or `owner/name@revision`.
        allow_bin_weights: whether to download .bin weights if there are no others.

    Raises:
        ModelError: the repository or revision does not exist, has only .bin weights that are not allowed, or
            is not in the cache while the hub cannot be reached.
    """
    repository, revision = split_hub_name(name)
    if revision is None or Path(name).is_dir():
        return name
    return _download(name, repository, revision, allow_bin_weights=allow_bin_weights)


def commit_of(path: str) -> str | None:
    """Return the commit of a model's files, given a hub name or a folder of the hub's cache; else None."""
    file = file_beside(path, CONFIG)
    found = None if file is None else _SNAPSHOT.search(file.parent.as_posix())
    return None if found is None else found[1]


@cache
def _download(name: str, repository: str, revision: str, *, allow_bin_weights: bool) -> str:
    try:
        folder = _snapshot(repository, revision, READ)
        if not any(Path(folder).glob(SAFETENSORS)) and _has_pickles(repository, revision):
            if not allow_bin_weights:
                raise only_pickles(name)
            folder = _snapshot(repository, revision, (*READ, PICKLES))
        return folder
    except RepositoryNotFoundError:
        what = Message("the hub has no such model, or the model requires a login")
        fix = Message("Check the name; for a private model, log in with `hf auth login`.")
    except RevisionNotFoundError:
        what = Message("the hub has no revision `{revision}` of this model", revision=revision)
        fix = Message("Give a branch, a tag, a commit, or a pull request such as refs/pr/1.")
    except LocalEntryNotFoundError:
        what = Message("the hub cannot be reached, and this revision is not in the local cache")
        fix = Message("Connect to the hub once, or give a local folder or `starter`.")
    except (OSError, ValueError) as error:  # a full disk, an invalid name
        what = Message("cannot be loaded from the hub ({found})", found=describe_source(error))
        fix = Message("A hub name has the form owner/name, or owner/name@revision.")
    raise ModelError(what, where=name, fix=fix)


def _snapshot(repository: str, revision: str, patterns: Sequence[str]) -> str:
    # At the top of the repository alone: folders contain exports and checkpoints.
    return snapshot_download(
        repository, revision=revision, allow_patterns=list(patterns), ignore_patterns="*/*"
    )


def _has_pickles(repository: str, revision: str) -> bool:
    try:
        files = HfApi().list_repo_files(repository, revision=revision)
    except Exception:  # offline, the cache stays as it is, and loading reports what is missing
        return False
    return any(fnmatch(file, PICKLES) for file in files)
