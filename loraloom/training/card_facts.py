"""The facts in an adapter's card, which do not change if the same training is repeated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from loraloom.architectures.families import family_of
from loraloom.architectures.family import Family
from loraloom.data.formats.parquet import HUB_PREFIX
from loraloom.data.languages.codes import pairs_of_origin
from loraloom.recipe import Experiment, Recipe
from loraloom.recipe.reading import read_run_recipe
from loraloom.run.documents.split import SplitRecord
from loraloom.run.folder import Run

PARTS = ("train", "eval", "test")
PACKAGES = ("loraloom", "torch", "transformers", "peft")
_Content = TypeVar("_Content")


@dataclass(frozen=True)
class Facts:
    """The facts in a card.

    Args:
        recipe: recipe of the run.
        experiment: experiment of the adapter.
        origin: contents of loraloom.json, such as the base, its fingerprint, the best step and its metric.
        target_modules: as in adapter_config.json.
        files: name and sha256 of each data file.
        num_rows: number of train, eval and test rows.
        versions: versions of the packages.
        has_run: whether the run is available; if not, nothing is known about the training.
    """

    recipe: Recipe
    experiment: Experiment
    origin: Mapping[str, Any]
    target_modules: Sequence[str]
    files: Sequence[tuple[str, str]]
    num_rows: Mapping[str, int]
    versions: Mapping[str, str]
    has_run: bool = True

    @property
    def base(self) -> str:
        """The base's name, without a local path."""
        return str(self.origin["base"])

    @property
    def family(self) -> Family | None:
        """The family of the base."""
        return family_of(self.origin.get("model_type"))

    @property
    def languages(self) -> list[tuple[str, str]]:
        """The language pairs that the adapter was trained on; if they are unknown, the recipe's pair."""
        source, target = self.recipe.data.source_lang, self.recipe.data.target_lang
        return pairs_of_origin(self.origin) or ([(source, target)] if source and target else [])

    @property
    def flag_matters(self) -> bool:
        """Whether the installed transformers scales logits wrongly unless `tie_word_embeddings` is False."""
        return self.flag_matters_before != "" and self.family is not None and self.family.flag_scales_logits()

    @property
    def flag_matters_before(self) -> str:
        """The first transformers version in which the flag no longer scales logits; "" if it never did."""
        is_separate = self.origin.get("head_is_tied") is False
        return self.family.own_scale_since if self.family is not None and is_separate else ""


def read_facts(
    run: Run,
    name: str,
    origin: Mapping[str, Any],
    target_modules: Sequence[str],
    versions: Mapping[str, str] | None = None,
) -> Facts:
    """Read the facts of one adapter from its run's recipe.yaml and split.json.

    Args:
        run: the run.
        name: name of the experiment.
        origin, target_modules: as in `Facts`.
        versions: as in `Facts`; by default those of the installed packages.

    Raises:
        RunError: a file cannot be read.
    """
    recipe = _read_once(read_run_recipe, run.recipe_file)
    split = _read_once(SplitRecord.read, run.split_file)
    return Facts(
        recipe=recipe,
        experiment=next(e for e in recipe.resolved_experiments if e.name == name),
        origin=origin,
        target_modules=target_modules,
        files=[(_portable(file), sha256) for file, sha256 in split.files.items()],
        num_rows=split.num_rows,
        versions=versions or installed_versions(),
    )


def installed_versions() -> dict[str, str]:
    """Return the versions of the packages, looked up once for many adapters."""
    return dict(_installed_versions())


@cache
def _installed_versions() -> tuple[tuple[str, str], ...]:
    return tuple((package, version(package)) for package in PACKAGES)


def _read_once(read: Callable[[Path], _Content], file: Path) -> _Content:
    """Read a file of a run once for many adapters: reuse what was read unless the file has changed."""
    try:
        found = file.stat()
    except OSError:  # reported by the code that reads it
        return read(file)
    content: _Content = _read_again(read, file.absolute(), (found.st_ino, found.st_mtime_ns, found.st_size))
    return content


@lru_cache(maxsize=2)
def _read_again(read: Callable[[Path], Any], file: Path, state: tuple[int, ...]) -> Any:
    return read(file)


def _portable(file: str) -> str:
    return file if file.startswith(HUB_PREFIX) else Path(file).name
