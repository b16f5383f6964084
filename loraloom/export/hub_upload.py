"""Upload of files to a repository on the Hugging Face hub, in one commit."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraloom.errors import LoRALoomError, RecipeError, RunError
from loraloom.run.events import Note, Report
from loraloom.text.message import Message

AGAIN = Message("Nothing was committed. Check the connection and try again.")
SIGN_IN = Message("Sign in with `hf auth login`, or set HF_TOKEN to a token with write access.")


@dataclass(frozen=True)
class HubFile:
    """A file to upload.

    Args:
        path: path in the repository.
        content: the file's bytes, or the path of a local file.
    """

    path: str
    content: bytes | Path

    @property
    def size(self) -> int:
        """The size in bytes."""
        return self.content.stat().st_size if isinstance(self.content, Path) else len(self.content)


@dataclass(frozen=True)
class Sent:
    """A finished upload: the commit's address, and whether only the repository's owners can see it."""

    url: str
    is_private: bool


def check_name(repository: str) -> None:
    """Refuse a name that is not of the form `owner/name`.

    Raises:
        RecipeError: the name has another form.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(repository)
        if repository.count("/") != 1:
            raise HFValidationError
    except HFValidationError as error:
        raise RecipeError(
            Message("this is not the name of a repository"),
            where="OWNER/NAME",
            found=repository,
            allowed=Message("owner/name, of letters, digits, `-`, `_` and `.`"),
        ) from error


def send(repository: str, files: Sequence[HubFile], *, title: str, is_public: bool, report: Report) -> Sent:
    """Create the repository if it does not exist, and commit the files. Other files in it are kept.

    Args:
        repository: `owner/name`.
        files: files to add or replace.
        title: title of the commit.
        is_public: whether a new repository is public. If False, an existing public repository is refused.
        report: called with notes.

    Raises:
        RunError: the hub cannot be reached or refuses the files, or the repository is public although
            `is_public` is False.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token
    from huggingface_hub.errors import RepositoryNotFoundError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if constants.HF_HUB_OFFLINE:
        raise RunError(
            Message("access to the hub is disabled: HF_HUB_OFFLINE is set"),
            where=repository,
            fix=Message("Unset HF_HUB_OFFLINE, or omit `--send` to see what would be sent."),
        )
    if get_token() is None:
        raise RunError(Message("there is no hub token on this machine"), where=repository, fix=SIGN_IN)
    if not sys.stderr.isatty():
        disable_progress_bars()
    api = HfApi()
    with _refusals(repository):
        try:
            existing: Any = api.model_info(repository)
        except RepositoryNotFoundError:  # or another user's private one; creating it then fails
            existing, is_private = None, not is_public
            api.create_repo(repository, private=is_private)
        else:
            is_private = existing.private is not False
            _check_visibility(repository, existing, is_public=is_public)
            report(Note(message=_about_existing(existing, files)))
        commit = api.create_commit(
            repository,
            [CommitOperationAdd(path_in_repo=file.path, path_or_fileobj=file.content) for file in files],
            commit_message=title,
            parent_commit=None if existing is None else existing.sha,  # refused if it has changed since
        )
    return Sent(str(commit.commit_url), is_private)


def _check_visibility(repository: str, existing: Any, *, is_public: bool) -> None:
    if existing.private is not False or is_public:
        return
    raise RunError(
        Message("this repository exists and is public"),
        where=repository,
        fix=Message("Add `--public` to send the files there, or name another repository."),
    )


def _about_existing(existing: Any, files: Sequence[HubFile]) -> str:
    there = {sibling.rfilename for sibling in existing.siblings or []}
    ours = {file.path for file in files}
    return Message(
        "the repository exists: {num_replaced} of its files will be replaced and {num_kept} will be kept",
        num_replaced=len(there & ours),
        num_kept=len(there - ours),
    )


@contextmanager
def _refusals(repository: str) -> Iterator[None]:
    """Convert errors from the hub's client to a RunError.

    Raises:
        RunError: the hub refused the request or could not be reached; the message contains the hub's answer.
    """
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        what = {
            401: Message("the hub does not accept the token"),
            403: Message("the token does not allow writing to this repository"),
            409: Message("the repository was changed by others at the same time"),
            412: Message("the repository was changed by others at the same time"),
        }.get(status, Message("the hub refused the files"))
        fix = SIGN_IN if status in (401, 403) else AGAIN
        answer = error.server_message or f"HTTP {status}"
        raise RunError(what, where=repository, found=answer.split("\n")[0], fix=fix) from error
    except LoRALoomError:
        raise
    except Exception as error:  # no connection, a card refused, the storage's client: they share no class
        raise RunError(
            Message("the files could not be sent"),
            where=repository,
            found=str(error).split("\n")[0] or type(error).__name__,
            fix=AGAIN,
        ) from error
