"""The recipe equivalent to a script, as a document that `recipe/settings_tree.py` reads like any other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from loraloom.architectures.known_models import KnownModel, with_gated_names
from loraloom.recipe.aliases import ALIASES
from loraloom.recipe.script_keys import SCRIPT_KEYS
from loraloom.recipe.setting_names import canonical_path
from loraloom.recipe.yaml_tree import Node
from loraloom.scripts.answer_checks import generations
from loraloom.scripts.data_meaning import DataMeaning
from loraloom.scripts.facts import Facts
from loraloom.scripts.script_values import MISSING, Call, Symbol, is_read, shown
from loraloom.text.message import Message

BASE_PLACEHOLDER = "google/flan-t5-base"
_TRAINER_RATE = 5e-5
# PEFT's own defaults, which differ from those of a recipe.
_LORA_DEFAULTS = {"r": 8, "lora_alpha": 8, "lora_dropout": 0.0}
# Keys that must not be shown, and keys that are handled elsewhere.
_SKIPPED = ("hub_token", "push_to_hub_token", "token", "generation_config", "peft_config")
_DTYPES = ("float32", "bfloat16")


class Meaning:
    """The settings of a script, each with its location in it.

    Args:
        facts: facts of the script.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts, self.script = facts, facts.script
        self.unread: list[tuple[str, str]] = []  # place and what is missing

    def document(self) -> Node:
        """Return the recipe as a tree of values with their locations; keys are still those of the script."""
        data = DataMeaning(self.facts)
        top = {"model_name_or_path": self._base(), "data": self._section(data.settings())}
        self.unread += data.unread
        top |= dict(self._training())
        lora = dict(self._lora())
        if lora:
            top["lora"] = self._section(lora)
        answers = dict(self._generation())
        if answers:
            for key in ("generation_max_length", "generation_num_beams"):
                if ALIASES[key].rpartition(".")[2] in {
                    ALIASES.get(f"generation.{k}", k).rpartition(".")[2] for k in answers
                }:
                    top.pop(key, None)
            top["generation"] = self._section(answers)
        return self._section(top)

    def _section(self, values: Mapping[str, Node]) -> Node:
        first = next(iter(values.values()), None)
        return Node(dict(values), first.where if first else self.script.source.name)

    def _base(self) -> Node:
        if self.facts.model_name:
            return Node(self.facts.model_name, self.script.where(self.facts.base))
        place = self.script.where(self.facts.base)
        self.unread.append(
            (place, Message("the name of the base; `{name}` is a placeholder", name=BASE_PLACEHOLDER))
        )
        return Node(BASE_PLACEHOLDER, place)

    def _given(self, call: Call | None, *, known_only: bool = False) -> Iterator[tuple[str, Node]]:
        """Yield the keyword arguments of a call that can be read; list the other settings in `unread`."""
        for name, node in call.keywords.items() if call else ():
            value = self.script.read(node)
            value = value.last if isinstance(value, Symbol) else value
            is_setting = canonical_path("", name) is not None or name in ALIASES
            if name in _SKIPPED or (known_only and not is_setting and name not in SCRIPT_KEYS):
                continue
            if is_read(value):
                yield name, _node(value, self.script.where(node))
            elif is_setting:
                place, text = self.script.where(node), shown(node)
                self.unread.append(
                    (
                        place,
                        Message(
                            "`{name}`, whose value is `{text}`; its default is used instead",
                            name=name,
                            text=text,
                        ),
                    )
                )

    def _training(self) -> Iterator[tuple[str, Node]]:
        arguments = self.facts.arguments
        given = dict(self._given(arguments))
        place = self.script.where(arguments)
        is_lora = self.facts.lora is not None
        if not is_lora and "learning_rate" in given:
            place = given.pop("learning_rate").where
            self.unread.append(
                (
                    place,
                    Message("a learning rate for LoRA; the script's rate is for training all weights"),
                )
            )
        if "learning_rate" not in given and is_lora:
            rate, where = self._optimizer_rate()
            if rate is not None:
                given["learning_rate"] = Node(rate, where)
            elif arguments is not None and not arguments.argument("learning_rate"):
                given["learning_rate"] = Node(
                    _TRAINER_RATE, Message("{place}, the Trainer's default", place=place)
                )
        for name in ("eval_strategy", "save_strategy", "lr_scheduler_type"):
            if name in given and isinstance(given[name].value, str):
                given[name] = Node(given[name].value.lower(), given[name].where)
        if arguments is not None and not {"eval_strategy", "evaluation_strategy"} & given.keys():
            given["eval_strategy"] = Node("no", Message("{place}, the Trainer's default", place=place))
        if "save_steps" in given and "save_strategy" not in given:
            given["save_strategy"] = Node("steps", Message("{place}, the Trainer's default", place=place))
        if self.facts.is_on("use_cpu"):
            given["device"] = Node("cpu", given.pop("use_cpu").where)
        for call in self.script.calls_of("set_seed"):
            seed = self.script.value(call, "seed", 0)
            if isinstance(seed, int):
                given.setdefault("seed", Node(seed, self.script.where(call)))
        if self.facts.known is not None and self.facts.known.is_t5 and self.facts.trainer is not None:
            where = Message(
                "{place}, where the Trainer leaves the base's dropout on",
                place=self.script.where(self.facts.trainer),
            )
            given["base_dropout"] = Node("model", where)
        yield from given.items()
        yield from self._dtype()
        yield from self._early_stopping()

    def _optimizer_rate(self) -> tuple[float | None, str]:
        for call in self.script.calls_of("AdamW", "Adam"):
            rate = self.script.value(call, "lr", 1)
            if isinstance(rate, int | float):
                return rate, self.script.where(call)
        return None, ""

    def _dtype(self) -> Iterator[tuple[str, Node]]:
        for name in ("dtype", "torch_dtype"):
            value = self.script.value(self.facts.base, name)
            text = value.last if isinstance(value, Symbol) else value
            if text in _DTYPES:
                yield "dtype", Node(text, self.script.where(self.facts.base))

    def _early_stopping(self) -> Iterator[tuple[str, Node]]:
        for call in self.script.calls_of("EarlyStoppingCallback"):
            for position, name in enumerate(("early_stopping_patience", "early_stopping_threshold")):
                value = self.script.value(call, name, position)
                value = 1 if value is MISSING and position == 0 else value
                if isinstance(value, int | float):
                    yield name, Node(value, self.script.where(call))

    def _lora(self) -> Iterator[tuple[str, Node]]:
        call = self.facts.lora
        if call is None:
            return
        self.unread += [
            (
                self.script.where(other),
                Message(
                    "this LoraConfig: a recipe has only one, so the last was used; others can become "
                    "`experiments`"
                ),
            )
            for other in self.script.calls_of("LoraConfig")
            if other is not call
        ]
        where = Message("{place}, PEFT's default", place=self.script.where(call))
        found: dict[str, Node] = {}
        for name, value in _LORA_DEFAULTS.items():
            if call.is_complete and not call.argument(name):
                found[name] = Node(value, where)
        found |= dict(self._given(call))
        known = self.facts.known
        if not call.argument("target_modules") and known is not None and known.peft_targets:
            found["target_modules"] = _node(list(known.peft_targets), where)
        targets = found.get("target_modules")
        if targets is not None and isinstance(targets.plain, list) and known is not None:
            found["target_modules"] = _node(_matching(targets.plain, known), targets.where)
        yield from found.items()

    def _generation(self) -> Iterator[tuple[str, Node]]:
        calls = [call for call in generations(self.facts) if call.keywords]
        if calls:
            yield from self._given(calls[-1], known_only=True)


def _matching(names: list[Any], known: KnownModel) -> list[Any]:
    return list(dict.fromkeys(with_gated_names(names, known.linears)))


def _node(value: Any, where: str) -> Node:
    if isinstance(value, list | tuple | set):
        return Node([_node(each, where) for each in value], where)
    if isinstance(value, dict):
        return Node({str(key): _node(each, where) for key, each in value.items()}, where)
    return Node(value, where)
