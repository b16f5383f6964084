"""Facts of a script: its base, its adapter, its trainer, and how it tokenizes texts."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from loraloom.architectures.known_models import KnownModel, known_model, name_of_class
from loraloom.scripts.script import Script
from loraloom.scripts.script_values import MISSING, Call, Item, Parameter, Symbol, is_minus_100

ARGUMENTS = ("Seq2SeqTrainingArguments", "TrainingArguments")
TRAINERS = ("Seq2SeqTrainer", "Trainer")
WRAPPERS = (
    "get_peft_model",
    "prepare_model_for_kbit_training",
    "to",
    "cuda",
    "half",
    "bfloat16",
    "eval",
    "float",
)
_MODEL_CLASS = ("ForConditionalGeneration", "ForSeq2SeqLM", "MTModel")


@dataclass(frozen=True)
class Tokenization:
    """A call to a tokenizer with training texts.

    Args:
        call: the call.
        is_source, is_target: whether it reads sources or targets; one call may read both.
    """

    call: Call
    is_source: bool
    is_target: bool


class Facts:
    """Facts of a script that several checks need.

    Args:
        script: the script.
        folder: the script's folder, which a path to a model may be relative to.
    """

    def __init__(self, script: Script, folder: Path | None = None) -> None:
        self.script = script
        self.folder = folder

    @cached_property
    def model_calls(self) -> list[Call]:
        """Every call that loads a model of the transformers library."""
        return [
            call
            for call in self.script.calls_of("from_pretrained")
            if call.owner.startswith("AutoModel") or call.owner.endswith(_MODEL_CLASS)
        ]

    @cached_property
    def base(self) -> Call | None:
        """The call that loads the trained model: the first with an encoder-decoder class, else the first."""
        right = [call for call in self.model_calls if call.owner.endswith(_MODEL_CLASS)]
        return next(iter(right or self.model_calls), None)

    @cached_property
    def model_name(self) -> str:
        """The base as the script names it, or ""."""
        name = self.script.value(self.base, "pretrained_model_name_or_path", 0)
        return name if isinstance(name, str) else ""

    @cached_property
    def known(self) -> KnownModel | None:
        """The known facts about the base; None if it is not a known model."""
        by_class = name_of_class(self.base.owner) if self.base else ""
        by_name = known_model(self.model_name, self.folder) if self.model_name else None
        return by_name or (known_model(by_class) if by_class else None)

    @cached_property
    def lora(self) -> Call | None:
        """The call that creates the LoraConfig; the last one if there are several."""
        return next(iter(reversed(self.script.calls_of("LoraConfig"))), None)

    @cached_property
    def trainer(self) -> Call | None:
        """The call that creates the trainer; the last one if there are several."""
        return next(iter(reversed(self.script.calls_of(*TRAINERS))), None)

    @cached_property
    def arguments(self) -> Call | None:
        """The call that creates the trainer's training arguments, or else the last such call."""
        given = self.script.value(self.trainer, "args", 1)
        if isinstance(given, Call) and self.script.kind(given) in ARGUMENTS:
            return given
        return next(iter(reversed(self.script.calls_of(*ARGUMENTS))), None)

    @cached_property
    def is_of_old_version(self) -> bool:
        """Whether the script installs transformers before version 5, which removed some names."""
        pinned = self.script.source.pinned.get("transformers", "")
        return pinned[:1].isdigit() and int(pinned.split(".")[0]) < 5

    def setting(self, name: str, default: Any = None) -> Any:
        """Return a training argument's value: `default` if it is not given, `Unread` if it cannot be read."""
        value = self.script.value(self.arguments, name)
        if isinstance(value, Symbol):
            value = value.last.lower()  # IntervalStrategy.EPOCH
        return default if value is MISSING else value

    def is_on(self, name: str) -> bool:
        """Return whether a training argument is true."""
        return self.setting(name) is True

    def assigned(self, *attributes: str) -> Iterator[tuple[ast.expr, ast.expr]]:
        """Yield the object and the value of each assignment such as `model.accepts_loss_kwargs = False`."""
        for node in self.script.walk():
            if isinstance(node, ast.Assign):
                targets = [each for each in node.targets if isinstance(each, ast.Attribute)]
                yield from ((target.value, node.value) for target in targets if target.attr in attributes)

    def given(self, name: str) -> Iterator[ast.expr]:
        """Yield every value given to a keyword argument or an attribute of this name."""
        yield from (call.keywords[name] for call in self.script.calls if name in call.keywords)
        yield from (value for _, value in self.assigned(name))

    def is_minus_100(self, node: ast.AST) -> bool:
        """Return whether a node is -100, the label that the loss ignores, or a name with this value."""
        named = isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load)
        return is_minus_100(node) or (named and self.script.read(node) == -100)  # type: ignore[arg-type]

    def root(self, value: Any) -> Any:
        """Return the call that an object comes from, such as `load_dataset(...)` for `ds["train"].map(f)`."""
        for _ in range(40):
            if isinstance(value, Item):
                value = value.of
            elif isinstance(value, Call) and value.receiver is not None and self._is_method(value):
                before = self.script.read(value.receiver)
                if not isinstance(before, Call | Item):
                    return value
                value = before
            elif isinstance(value, Call) and value.function in WRAPPERS and value.arguments:
                value = self.script.read(value.arguments[0])
            else:
                return value
        return value

    def is_tokenizer(self, node: ast.expr) -> bool:
        """Return whether an expression is a tokenizer."""
        value = self.script.read(node)
        if isinstance(value, Call):
            return value.function == "from_pretrained" and "Tokenizer" in value.owner
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        return not isinstance(value, Item) and name.lower() in ("tokenizer", "tok", "tokeniser")

    @cached_property
    def tokenizations(self) -> tuple[Tokenization, ...]:
        """The calls that tokenize sources or labels, in functions that tokenize labels."""
        calls = [call for call in self.script.calls if self._tokenizes(call)]
        labels = {id(call) for call in self._label_calls()}
        targets = [call for call in calls if id(call) in labels or "text_target" in call.keywords]
        scopes = {call.scope for call in targets}
        found = []
        for call in calls:
            is_target = call in targets
            reads_source = bool(call.arguments) or "text" in call.keywords
            is_source = reads_source and (id(call) not in labels or "text_target" in call.keywords)
            if call.scope in scopes and (is_source or is_target):
                found.append(Tokenization(call, is_source, is_target))
        return tuple(found)

    @cached_property
    def sources(self) -> list[Call]:
        """The calls that tokenize sources."""
        return [each.call for each in self.tokenizations if each.is_source]

    @cached_property
    def targets(self) -> list[Call]:
        """The calls that tokenize labels."""
        return [each.call for each in self.tokenizations if each.is_target]

    @cached_property
    def label_values(self) -> list[ast.expr]:
        """Every expression that becomes `labels`."""
        return [value for _, value in self._labels]

    @cached_property
    def copied_labels(self) -> list[ast.expr]:
        """Labels that are the tokens of their own source: `made["labels"] = made["input_ids"].copy()`."""
        return [value for source, value in self._labels if source and ast.unparse(_uncopied(value)) == source]

    @cached_property
    def _labels(self) -> list[tuple[str, ast.expr]]:
        """Every expression that becomes `labels`, with the code of the matching `input_ids`, or ""."""
        found: list[tuple[str, ast.expr]] = []
        for node in self.script.walk():
            if isinstance(node, ast.Assign):
                owners = [each.value for each in node.targets if _is_labels(each)]  # type: ignore[attr-defined]
                found += [(f"{ast.unparse(owner)}['input_ids']", node.value) for owner in owners]
            elif isinstance(node, ast.Dict):
                keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
                named = dict(zip(keys, node.values, strict=True))
                if "labels" in named:
                    source = named.get("input_ids")
                    found.append((ast.unparse(source) if source else "", named["labels"]))
        return found

    def _is_method(self, call: Call) -> bool:
        return isinstance(call.node.func, ast.Attribute) and not call.owner[:1].isupper()

    def _tokenizes(self, call: Call) -> bool:
        func = call.node.func
        if isinstance(func, ast.Attribute) and func.attr in ("__call__", "batch_encode_plus", "encode_plus"):
            return self.is_tokenizer(func.value)
        return isinstance(func, ast.Name | ast.Attribute) and self.is_tokenizer(func)

    def _label_calls(self) -> Iterator[Call]:
        for value in self.label_values:
            for node in ast.walk(value) if value not in self.copied_labels else ():
                if isinstance(node, ast.Name | ast.Call | ast.Attribute | ast.Subscript):
                    found = self.script.read(node)
                    found = found.source if isinstance(found, Parameter) else found
                    found = self.script.read(found) if isinstance(found, ast.expr) else found
                    while isinstance(found, Item):
                        found = found.of
                    if isinstance(found, Call) and self._tokenizes(found):
                        yield found
        for node in self.script.walk():
            if isinstance(node, ast.With) and any(_is_target_mode(item) for item in node.items):
                inner = {id(each) for each in ast.walk(node)}
                yield from (
                    call for call in self.script.calls if id(call.node) in inner and self._tokenizes(call)
                )


def _uncopied(node: ast.expr) -> ast.expr:
    is_method = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    if is_method and node.func.attr in ("copy", "clone"):  # type: ignore[attr-defined]
        return node.func.value  # type: ignore[attr-defined, no-any-return]
    return node


def _is_labels(target: ast.expr) -> bool:
    is_item = isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant)
    return is_item and target.slice.value == "labels"  # type: ignore[attr-defined]


def _is_target_mode(item: ast.withitem) -> bool:
    called = item.context_expr
    is_method = isinstance(called, ast.Call) and isinstance(called.func, ast.Attribute)
    return is_method and called.func.attr == "as_target_tokenizer"  # type: ignore[attr-defined]
