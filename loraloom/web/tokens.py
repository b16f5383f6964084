"""A server's secrets: the token from its file, the session cookies and the form tokens."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
import time
from pathlib import Path

from loraloom.errors import RecipeError
from loraloom.text.message import Message

MIN_TOKEN_LENGTH = 16
MAX_TOKEN_BYTES = 4096
SESSION_SECONDS = 12 * 3600


def read_token(file: Path) -> str:
    """Read the token that a server requires.

    Args:
        file: file with the token and at most a line break after it; only its owner may be able to read it.

    Raises:
        RecipeError: the file is unusable, other users may read it, or the token is invalid or too short.
    """
    where = f"--token-file {file}"
    try:
        with open(file, "rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            content = opened.read(MAX_TOKEN_BYTES + 1)
    except OSError as error:
        raise RecipeError(
            Message("the token file cannot be read: {reason}", reason=error.strerror or str(error)),
            where=where,
        ) from error
    if os.name == "posix" and stat.S_ISREG(mode) and mode & 0o077:
        raise RecipeError(
            Message("other users can read the token file"),
            where=where,
            found=stat.filemode(mode),
            fix=Message("Run `chmod 600 {file}`.", file=str(file)),
        )
    token = content.decode("ascii", errors="replace").strip()
    if len(content) > MAX_TOKEN_BYTES or not token.isprintable() or not token.isascii() or " " in token:
        raise RecipeError(
            Message("a token is one line of ASCII letters, digits and punctuation, without spaces"),
            where=where,
            fix=_advice(file),
        )
    if len(token) < MIN_TOKEN_LENGTH:
        raise RecipeError(
            Message("the token is too short, so it could be guessed"),
            where=where,
            found=Message("{num} characters", num=len(token)),
            allowed=Message("at least {num} characters", num=MIN_TOKEN_LENGTH),
            fix=_advice(file),
        )
    return token


def _advice(file: Path) -> str:
    return Message(
        "Make one with `python -c 'import secrets; print(secrets.token_urlsafe(32))' > {file}`.",
        file=str(file),
    )


class SignedTokens:
    """Values that this process issued for one purpose, recognised by their signature until they expire.

    Example:
        forms = SignedTokens("form")
        hidden_field = forms.issue(bound_to=session_cookie)
        forms.accepts(submitted, bound_to=session_cookie)  # True until it expires

    Args:
        purpose: purpose of the values; values for another purpose are not accepted.
        seconds: how long a value is valid, in seconds.
    """

    def __init__(self, purpose: str, seconds: float = SESSION_SECONDS) -> None:
        self._purpose = purpose
        self._seconds = seconds
        self._key = secrets.token_bytes(32)  # key of this process, so that a restart ends all sessions

    def issue(self, bound_to: str = "") -> str:
        """Issue a value that is accepted only together with `bound_to`."""
        expires = f"{int(time.time() + self._seconds)}"
        return f"{expires}.{self._signature(expires, bound_to)}"

    def accepts(self, value: str | None, bound_to: str = "") -> bool:
        """Return whether this object issued a value for `bound_to`, and the value has not expired."""
        expires, _, signature = (value or "").partition(".")
        if not expires.isdecimal() or len(expires) > 12:
            return False
        is_ours = is_same(signature, self._signature(expires, bound_to))
        return is_ours and int(expires) >= time.time()

    def _signature(self, expires: str, bound_to: str) -> str:
        text = f"{self._purpose}\0{expires}\0{bound_to}"
        return hmac.new(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def is_same(given: str, expected: str) -> bool:
    """Return whether two secrets are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode("utf-8"))
