"""The language settings that `init` writes into a recipe for a multilingual base, inferred from the data."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loraloom.base.recipe_limits import check_recipe_languages
from loraloom.data.languages.codes import Languages
from loraloom.data.languages.known import shown_codes, unknown_language
from loraloom.data.languages.names import suggest
from loraloom.data.preview import Preview
from loraloom.errors import DataError
from loraloom.recipe import Recipe
from loraloom.recipe.data_settings import LANGUAGE_KEYS
from loraloom.run.events import Note, Report
from loraloom.session.folder_languages import family_of_folder
from loraloom.text.message import Message, joined

_MULTILINGUAL_NAME = re.compile(r"nllb|mbart|m2m", re.IGNORECASE)
# Usual names of columns with the languages of source and answer.
COLUMNS = (
    ("source_lang", "target_lang"),
    ("src_lang", "tgt_lang"),
    ("source_language", "target_language"),
    ("src", "tgt"),
    ("lang_from", "lang_to"),
)


def check_stated_languages(recipe: Recipe, languages: Languages | None) -> None:
    """Refuse languages that the base does not know, if its folder is on this machine.

    Args:
        recipe: settings that the options state.
        languages: languages of its base; None if it has none.

    Raises:
        RecipeError: lists every such setting.
    """
    model = Path(recipe.model_name_or_path)
    if model.is_dir():
        family = family_of_folder(model)
        if family is not None:
            check_recipe_languages(recipe, family, languages)


def language_columns(
    languages: Languages | None, stated: Mapping[str, Any], columns: Sequence[str]
) -> dict[str, str]:
    """Return settings that name the language columns; {} if there are none, or the options state languages.

    Args:
        languages: languages of the base; None if it has none or is not on this machine.
        stated: settings of `data` that the options state.
        columns: columns of the files.
    """
    if languages is None or stated.keys() & set(LANGUAGE_KEYS):
        return {}
    found = next((pair for pair in COLUMNS if set(pair) <= set(columns)), None)
    return {"source_lang_column": found[0], "target_lang_column": found[1]} if found else {}


def stated_languages(
    languages: Languages | None,
    model: str,
    named: Sequence[str],
    stated: Mapping[str, Any],
    seen: Preview,
    report: Report,
) -> dict[str, Any]:
    """Return the language settings to add to the recipe of a multilingual base; {} if none need to be added.

    Args:
        languages: languages of the base, if it is on this machine.
        model, named: the base and the files, for messages.
        stated: settings of `data` that the options state.
        seen: the files, read with `language_columns`.
        report: called with a note on where the languages come from.

    Raises:
        DataError: the languages are not stated anywhere, or the base lacks one of them.
    """
    if languages is None:
        if _MULTILINGUAL_NAME.search(model) and not Path(model).is_dir():
            how = _how(named, model, ("deu_Latn", "eng_Latn"))
            report(
                Note(
                    message=Message(
                        "{model} is not on this machine; if it is multilingual, {how}", model=model, how=how
                    )
                )
            )
        return {}
    if stated.keys() & set(LANGUAGE_KEYS):
        return {}
    found: dict[str, Any] = dict(language_columns(languages, stated, seen.columns))
    names = list(dict.fromkeys(name for pair in seen.languages for name in pair))
    if "" in names:
        usual = [suggest(code, languages.codes) or next(iter(languages.codes)) for code in ("de", "en")]
        example = _how(named, model, (usual[0], usual[1]))
        raise DataError(
            Message(
                "{model} has {num_codes} languages, and the data does not state which of them it is in",
                model=model,
                num_codes=len(languages.codes),
            ),
            where=", ".join(named),
            allowed=shown_codes(languages),
            fix=f"{example[0].upper()}{example[1:]}.",
        )
    codes = {name: name if name in languages.codes else suggest(name, languages.codes) for name in names}
    if unknown := [name for name, code in codes.items() if not code]:
        where = ", ".join(named)
        raise DataError([unknown_language(name, languages, where=where, in_data=True) for name in unknown])
    if not found and len(seen.languages) == 1:
        ((source, target),) = seen.languages
        found = {"source_lang": codes[source], "target_lang": codes[target]}
    elif renamed := {name: code for name, code in codes.items() if name != code}:
        found["language_codes"] = renamed
    said = joined(
        ", ",
        (
            (Message("{name} as {code}", name=name, code=code) if name != code else code)
            for name, code in codes.items()
        ),
    )
    report(
        Note(
            message=Message(
                "languages of the data: {said}; check that the codes are the right ones", said=said
            )
        )
    )
    return found


def _how(named: Sequence[str], model: str, codes: tuple[str, str]) -> str:
    """Return an instruction to state the languages, with an example command."""
    command = ["loraloom", "init", *named, "--model", model]
    languages = Message(
        "--set data.source_lang={codes} --set data.target_lang={codes_2}", codes=codes[0], codes_2=codes[1]
    )
    return Message(
        "give the languages as codes of its tokenizer, for example: {command} {languages}",
        command=shlex.join(command),
        languages=languages,
    )
