"""What must be equal on all ranks in addition to the recipe: rows, base, tokens, versions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from loraloom.base.loading import Base
from loraloom.data.encoding import EncodedSet
from loraloom.data.splitting.split import Split
from loraloom.errors import Problem, RunError
from loraloom.session.material import Material
from loraloom.session.provenance import versions
from loraloom.text.message import Message


def require_same(own: Mapping[str, str], leaders: Mapping[str, str]) -> None:
    """Raise an error if anything on this rank differs from the leader's.

    Raises:
        RunError: names every key that differs.
    """
    problems = [
        differing(
            Problem(
                "",
                where=key,
                found=str(own.get(key, "none"))[:40],
                allowed=str(leaders.get(key, "none"))[:40],
            )
        )
        for key in sorted(own.keys() | leaders.keys())
        if own.get(key) != leaders.get(key)
    ]
    if problems:
        raise RunError(problems)


def require_same_versions(leaders: Mapping[str, str]) -> None:
    """Require the same package versions as the leader's, including packages that the leader's base needs.

    Raises:
        RunError: names every package that differs.
    """
    require_same(versions(*(leaders.keys() - {"python"})), leaders)


def differing(problem: Problem) -> Problem:
    """Reword a problem as a difference between this rank and rank 0."""
    return Problem(
        Message("differs from rank 0"),
        where=problem.where,
        found=problem.found,
        allowed=problem.allowed,
        fix=Message("Give every rank the same recipe, data, base and versions."),
    )


def rows_identity(split: Split) -> dict[str, str]:
    """Return what identifies the rows of a run: the sha256 of each file and of the split."""
    return {**split.files, "split": hashlib.sha256(split.record().text().encode()).hexdigest()}


def base_identity(base: Base) -> dict[str, str]:
    """Return what identifies a base: everything that computations with it depend on."""
    return {
        "base": base.fingerprint,
        "tokenizer": base.tokenizer_fingerprint,
        "dtype": base.choices["dtype"].value,
        "device": base.device.type,
    }


def material_identity(material: Material) -> dict[str, str]:
    """Return what identifies the material: base, encoded rows, and experiments with an initial adapter."""
    return {
        **base_identity(material.base),
        "train_rows": _digest(material.train_set),
        "eval_rows": _digest(material.eval_set),
        "retain_rows": _digest(material.retain_set),
        "initial_adapters": ", ".join(sorted(material.initial)),
    }


def _digest(rows: EncodedSet) -> str:
    digest = hashlib.sha256()
    for part in rows.arrays:
        digest.update(np.ascontiguousarray(part).data)  # not a copy: these may be large
    return digest.hexdigest()
