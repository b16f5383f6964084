"""Parameters, classes and versions of installed libraries, read from their files without importing them.

A script's keyword arguments are compared with those of the installed library, so that no list has to be kept
for each version.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import importlib.util
from pathlib import Path

# Where each class or function is, relative to its package.
FILES = {
    "TrainingArguments": ("transformers", "training_args.py"),
    "Seq2SeqTrainingArguments": ("transformers", "training_args_seq2seq.py"),
    "Trainer": ("transformers", "trainer.py"),
    "Seq2SeqTrainer": ("transformers", "trainer_seq2seq.py"),
    "DataCollatorForSeq2Seq": ("transformers", "data/data_collator.py"),
    "DataCollatorWithPadding": ("transformers", "data/data_collator.py"),
    "PeftConfigMixin": ("peft", "config.py"),
    "PeftConfig": ("peft", "config.py"),
    "LoraConfig": ("peft", "tuners/lora/config.py"),
    "prepare_model_for_kbit_training": ("peft", "utils/other.py"),
}


@functools.cache
def version(package: str) -> str:
    """Return the version of a package; "" if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


@functools.cache
def parameters(name: str) -> frozenset[str]:
    """Return the keyword arguments of a class or function; an empty set if it is not found or has `**kwargs`.

    For a dataclass, these are its fields and those of its bases; for other classes, those of `__init__`.
    """
    definition = _definition(name)
    if isinstance(definition, ast.FunctionDef):
        return _of_function(definition)
    if definition is None:
        return frozenset()
    inits = [
        each for each in definition.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"
    ]
    if inits:
        return _of_function(inits[0]) - {"self"}
    fields = {
        each.target.id
        for each in definition.body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    }
    for base in definition.bases:
        if isinstance(base, ast.Name) and base.id in FILES:
            fields |= parameters(base.id)
    return frozenset(fields)


def _of_function(definition: ast.FunctionDef) -> frozenset[str]:
    arguments = definition.args
    if arguments.kwarg is not None:
        return frozenset()
    return frozenset(each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs))


def _definition(name: str) -> ast.ClassDef | ast.FunctionDef | None:
    package, file = FILES[name]
    tree = _tree(package, file)
    for node in tree.body if tree else ():
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return node
    return None


@functools.cache
def _tree(package: str, file: str) -> ast.Module | None:
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / file
        if path.is_file():
            return ast.parse(path.read_text(encoding="utf-8"))
    return None
