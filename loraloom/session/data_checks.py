"""Checks of the data, before a model is loaded: `check --data-only`, and the first part of every check."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from loraloom.checks.allowances import apply_allowed
from loraloom.checks.data.data_suite import run_data_checks
from loraloom.checks.data.data_view import DataView, of_sample
from loraloom.checks.data.light_tokenizer import CONFIG_FILE, TOKENIZER_FILE, NoTokenizerError, TextTokenizer
from loraloom.checks.data.stored_repeats import stored_parts
from loraloom.checks.finding import Finding
from loraloom.data.example import count_entries
from loraloom.data.files.data_names import shown_data
from loraloom.data.files.part_files import PartContents
from loraloom.data.retain import read_retained
from loraloom.data.splitting.split import PARTS, STARTER, Split
from loraloom.data.stored.example_file import count_entries_together
from loraloom.errors import ModelError
from loraloom.recipe import Recipe
from loraloom.text.hub_name import split_hub_name
from loraloom.text.message import Message, said_by


@dataclass(frozen=True)
class DataCheckReport:
    """Input and findings of the data checks.

    Args:
        seen: the rows, and the base's tokenizer if it is available without the base.
        findings: notes on reading, the size of each part, and the findings of the checks.
        allowed: names of checks whose errors the user allows.
    """

    seen: DataView
    findings: list[Finding]
    allowed: Collection[str]

    @property
    def without_tokens(self) -> list[Finding]:
        """A note on the checks that were skipped, if the base will not be loaded to run them later."""
        if self.seen.tokenizer is not None:
            return []
        message = Message(
            "lengths and unknown tokens were not checked: {without_tokenizer}",
            without_tokenizer=self.seen.without_tokenizer,
        )
        return [
            Finding(
                "note",
                "lengths",
                "model_name_or_path",
                message,
                Message("Run the check without --data-only."),
            )
        ]


def check_data(
    recipe: Recipe,
    split: Split,
    allowed: Collection[str] = (),
    *,
    loads_tokenizer: bool = False,
    retained: PartContents | None = None,
) -> DataCheckReport:
    """Run all checks of the data; without the base's tokenizer on this machine, checks of tokens are skipped.

    Args:
        recipe: the recipe to check.
        split: the recipe's rows.
        allowed: names of checks whose errors become warnings.
        loads_tokenizer: whether to import transformers for a tokenizer without a tokenizer.json, because no
            base will be loaded.
        retained: the rows of `data.retain`, if they are already read.
    """
    from loraloom.checks.answer_metrics import check_metrics  # imports sacrebleu

    retained = retained or read_retained(recipe.data)
    seen = _see(recipe, split, loads_tokenizer)
    seen = replace(seen, retained=retained.examples if retained else ())
    notes = [Finding("note", "data", shown_data(recipe.data.train), note) for note in split.notes]
    sizes = Message(
        "rows: {num_train} train, {num_eval} eval, {num_test} test",
        num_train=len(split.train),
        num_eval=len(split.eval),
        num_test=len(split.test),
    )
    sizes += _entries(split)
    if looked_at := of_sample(len(seen.rows), seen.num_rows()):
        what = Message(
            "texts were checked in an evenly spread sample of the rows{looked_at}", looked_at=looked_at
        )
        notes.append(Finding("note", "data", shown_data(recipe.data.train), what))
    found = apply_allowed(run_data_checks(seen), allowed)
    selecting = {each.training.metric_for_best_model for each in recipe.resolved_experiments}
    findings = [*notes, Finding("ok", "split", "data", sizes), *found, *check_metrics(seen.split, selecting)]
    return DataCheckReport(seen, findings, allowed)


def _entries(split: Split) -> str:
    """Describe how many conversations or articles the rows come from; "" if each is a separate entry."""
    if split.is_stored:
        entries = count_entries_together(stored_parts(split).values())
    else:
        entries = count_entries([example for part in PARTS for example in getattr(split, part)])
    return (
        Message("; each row is one answer, from {num_entries:,} entries of the file", num_entries=entries)
        if entries
        else ""
    )


def _see(recipe: Recipe, split: Split, loads_tokenizer: bool) -> DataView:
    tokenizer, why = None, ""
    try:
        tokenizer = recipe_tokenizer(recipe, loads_tokenizer)
    except NoTokenizerError as error:
        why = said_by(error)
    limit = recipe.generation.max_new_tokens
    view = DataView(split, recipe.data, tokenizer, without_tokenizer=why, max_new_tokens=limit)
    return view.of_sample() if split.is_stored else view


def recipe_tokenizer(recipe: Recipe, may_load: bool) -> TextTokenizer:
    """Load the tokenizer of a recipe's base, without the base.

    Args:
        may_load: whether to import transformers for a tokenizer without a tokenizer.json.

    Raises:
        NoTokenizerError: it is not on this machine, or has no tokenizer.json and `may_load` is False.
    """
    return _tokenizer(tokenizer_folder(recipe), may_load)


def _tokenizer(model: Path, may_load: bool) -> TextTokenizer:
    """Load the tokenizer from a model's folder.

    Raises:
        NoTokenizerError: the folder has no tokenizer.json, and transformers may not or cannot load it.
    """
    try:
        return TextTokenizer.of_folder(model)
    except NoTokenizerError:
        if not may_load or not (model / CONFIG_FILE).is_file() or (model / TOKENIZER_FILE).is_file():
            raise
    from loraloom.base.tokenizer_loading import load_tokenizer

    try:
        return TextTokenizer.of_transformers(load_tokenizer(str(model), str(model))[0])
    except ModelError as error:
        raise NoTokenizerError(error.problems[0].as_message()) from None


def tokenizer_folder(recipe: Recipe) -> Path:
    """Return the folder of the base's tokenizer, without loading the base.

    Raises:
        NoTokenizerError: the base is on the hub, and not in this machine's cache.
    """
    if recipe.locations.base is not None:
        return recipe.locations.base
    if (name := recipe.model_name_or_path) == STARTER:
        from loraloom.starter import model_folder

        return model_folder()
    if (path := recipe.locations.path_of(name)).is_dir():
        return path
    from huggingface_hub import try_to_load_from_cache

    repository, revision = split_hub_name(name)
    try:
        found = [
            try_to_load_from_cache(repository, file, revision=revision)
            for file in (TOKENIZER_FILE, CONFIG_FILE)
        ]
    except ValueError:  # not a valid hub name, which loading the base reports
        found = []
    cached = next((path for path in found if isinstance(path, str)), None)
    if cached is None:
        raise NoTokenizerError(Message("the base's tokenizer is not on this machine yet"))
    return Path(cached).parent
