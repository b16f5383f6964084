"""Verification that a run continues with the base that it was trained on."""

from __future__ import annotations

from loraloom.base.loading import Base
from loraloom.errors import RunError
from loraloom.run.documents.provenance import BaseIdentity, Provenance
from loraloom.text.hub_name import repository_of
from loraloom.text.message import Message


def check_same_base(provenance: Provenance, base: Base) -> None:
    """Refuse to continue with a base other than the run's.

    Raises:
        RunError: the base or the tokenizer differs.
    """
    known = provenance.base
    if known is None:
        return
    for what, recorded, own in (
        (Message("base model"), known.fingerprint, base.fingerprint),
        (Message("tokenizer"), known.tokenizer_fingerprint, base.tokenizer_fingerprint),
    ):
        if recorded != own:
            raise RunError(
                Message("the run was trained on another {what}", what=what),
                where="model_name_or_path",
                found=f"{own[:12]} ({base.name})",
                allowed=f"{recorded[:12]} ({known.name})",
                fix=_of_that_commit(known),
            )


def _of_that_commit(known: BaseIdentity) -> str:
    """Explain how to get the revision of a hub model that the run was trained on; "" for any other base."""
    if known.commit is None:
        return ""
    name = f"{repository_of(known.name)}@{known.commit}"
    return Message("If the hub's files have changed since, use the earlier ones: --base {name}", name=name)
