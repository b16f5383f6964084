"""The `data` section of the recipe for a script: files, parts, columns, lengths, languages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loraloom.recipe.yaml_tree import Node
from loraloom.scripts.facts import Facts
from loraloom.scripts.script_values import MISSING, Call, Item
from loraloom.scripts.source_text import columns_in, pieces_of, template_of
from loraloom.text.message import Message

PLACEHOLDER = "data.json"
_FORMATS = ("json", "csv", "text", "parquet", "arrow", "pandas")
_READERS = (
    "read_csv",
    "read_json",
    "read_excel",
    "read_parquet",
    "read_table",
    "from_csv",
    "from_json",
    "open",
)
_LOADERS = ("load_dataset", "load_from_disk", *_READERS)
_PARTS = {
    "train": "train",
    "validation": "eval",
    "valid": "eval",
    "dev": "eval",
    "eval": "eval",
    "test": "test",
}

Given = tuple[str, Node]
"""A key of `data`, and its value."""


class DataMeaning:
    """What a script specifies about its data.

    Args:
        facts: facts of the script.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts, self.script = facts, facts.script
        self.unread: list[tuple[str, str]] = []  # place and reason

    def settings(self) -> dict[str, Node]:
        """Return the keys of `data` that could be read, with replacements for those that could not."""
        found = dict(self._files())
        if "train" not in found:
            place = self.script.where(self.facts.trainer)
            found["train"] = Node(PLACEHOLDER, place)
            self.unread.append(
                (place, Message("the file with the rows; `{name}` is a placeholder", name=PLACEHOLDER))
            )
        if "eval" not in found:
            found |= self._held_out(has_test="test" in found)
        found |= dict(self._columns())
        found |= dict(self._lengths())
        found |= dict(self._languages())
        return found

    def _files(self) -> Iterator[Given]:
        loader = self._loader()
        if loader is None:
            return
        where = self.script.where(loader)
        first = self.script.value(loader, "path", 0)
        if loader.function != "load_dataset":
            if isinstance(first, str):
                yield "train", Node(first, where)
            return
        files = self.script.value(loader, "data_files")
        if isinstance(files, dict):
            for part, value in files.items():
                if part in _PARTS and isinstance(value, str | list):
                    yield _PARTS[part], Node(value, where)
        elif isinstance(files, str | list):
            yield "train", _node(files, where)
        elif isinstance(first, str) and first not in _FORMATS:
            yield "train", Node(f"hub:{first}", where)
            config, split = self.script.value(loader, "name", 1), self.script.value(loader, "split")
            if isinstance(config, str):
                yield "hub_config", Node(config, where)
            if isinstance(split, str) and split.isidentifier():
                yield "hub_split", Node(split, where)

    def _loader(self) -> Call | None:
        """Return the call that loads the trainer's rows, or else the first call that loads any."""
        value = self.facts.root(self.script.value(self.facts.trainer, "train_dataset", 3))
        for _ in range(10):
            if isinstance(value, Call) and value.function in _LOADERS:
                return value
            if not isinstance(value, Call) or not value.arguments:
                break
            value = self.facts.root(self.script.read(value.arguments[0]))  # Dataset.from_pandas(rows)
        return next(
            (call for call in self.script.calls if call.function in _LOADERS and self._is_named(call)), None
        )

    def _is_named(self, call: Call) -> bool:
        name = self.script.value(call, "path", 0)
        return isinstance(name, str) and (
            call.function != "open" or name.endswith((".json", ".jsonl", ".csv", ".tsv"))
        )

    def _held_out(self, *, has_test: bool) -> dict[str, Node]:
        splits = self.script.calls_of("train_test_split")
        for call in splits:
            size = self.script.value(call, "test_size")
            found = {}
            if isinstance(size, int | float) and not isinstance(size, bool):
                found["eval"] = Node(size, self.script.where(call))
            seed = self.script.value(call, "seed")
            seed = self.script.value(call, "random_state") if seed is MISSING else seed
            if isinstance(seed, int):
                found["split_seed"] = Node(seed, self.script.where(call))
            if found:
                return found
        held_out = None if self.facts.trainer is None else self.facts.trainer.argument("eval_dataset", 4)
        if held_out is not None:
            place = self.script.where(held_out)
            value = self.script.read(held_out)
            name = value.key if isinstance(value, Item) and isinstance(value.key, str) else ""
            if has_test and _PARTS.get(name) == "test":
                said = Message(
                    "the part `{part}`, which selects the checkpoint in the script: a recipe uses it only "
                    "for final figures, so a tenth of the rows is held out instead",
                    part=name,
                )
            elif name:
                said = Message(
                    "rows of the part `{part}`; a tenth of the rows is held out instead", part=name
                )
            else:
                said = Message("which rows are held out; a tenth of all rows is held out instead")
            self.unread.append((place, said))
            return {}
        return {"eval": Node(0, self.script.where(self.facts.trainer))} if self.facts.trainer else {}

    def _columns(self) -> Iterator[Given]:
        columns: dict[str, Node] = {}
        for call in self.facts.sources[:1]:
            text = call.argument("text", 0)
            pieces = None if text is None else pieces_of(self.script, text)
            where = self.script.where(call)
            if not pieces or not columns_in(pieces):
                self.unread.append((where, Message("which columns a source is made of")))
                continue
            columns["instruction"] = Node(columns_in(pieces)[0], where)
            if template := template_of(pieces):
                yield "source_prefix", Node(template, where)
        for call in self.facts.targets[:1]:
            text = call.argument("text_target") or call.argument("text", 0)
            pieces = None if text is None else pieces_of(self.script, text)
            where = self.script.where(call)
            if pieces and len(pieces) == 1 and columns_in(pieces):
                columns["response"] = Node(columns_in(pieces)[0], where)
            else:
                self.unread.append((where, Message("which column contains the answer")))
        if columns:
            yield "columns", Node(columns, next(iter(columns.values())).where)

    def _lengths(self) -> Iterator[Given]:
        for key, calls in (
            ("max_source_length", self.facts.sources),
            ("max_target_length", self.facts.targets),
        ):
            for call in calls[:1]:
                own = "max_target_length" if key == "max_target_length" else ""
                limit = self.script.value(call, own) if own and own in call.keywords else None
                limit = self.script.value(call, "max_length") if limit is None else limit
                if isinstance(limit, int) and not isinstance(limit, bool):
                    yield key, Node(limit, self.script.where(call))

    def _languages(self) -> Iterator[Given]:
        for name, key in (("src_lang", "source_lang"), ("tgt_lang", "target_lang")):
            for node in self.facts.given(name):
                value = self.script.read(node)
                if isinstance(value, str) and self.facts.known and self.facts.known.languages:
                    yield key, Node(value, self.script.where(node))
                    break


def _node(value: Any, where: str) -> Node:
    return Node([Node(each, where) for each in value] if isinstance(value, list) else value, where)
