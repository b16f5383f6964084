"""The tokenizer of a merged folder: the base's own files, which other programs read.

A tokenizer saved by transformers 5 cannot be read by transformers 4.57 and has no spiece.model, which is
the only file that llama.cpp reads.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import transformers

from loraloom.base.loading import Base
from loraloom.base.safety import TOKENIZER_CONFIG, file_beside, is_plain_name, read_beside
from loraloom.base.tokenizer_loading import needs_own_class
from loraloom.run.atomic import write_bytes
from loraloom.text.message import Message, joined

TOKENIZER = "tokenizer.json"
# Files that tokenizers of all families read; a class may name more.
FILES = (
    TOKENIZER,
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "source.spm",
    "target.spm",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
# Neither code nor pickles are copied, whatever names a class or config gives them.
SUFFIXES = (".json", ".model", ".spm", ".txt", ".jinja", ".codes", ".vocab")
# Stored if a tokenizer is saved after a call that truncated or padded; with them it would always truncate.
STORED = ("truncation", "padding")


def copy_tokenizer(base: Base, folder: Path) -> list[str]:
    """Copy the base's own tokenizer files, without any truncation and padding settings stored in them.

    Args:
        base: loaded from a folder, or from a hub name whose files are cached or can be downloaded.
        folder: folder of the merged model.

    Returns:
        Notes on what differs from the base's folder.

    Raises:
        OSError: a file could not be written.
        ModelError: one of the base's files cannot be read.
    """
    path = str(base.model.config.name_or_path)
    found = {name: file for name in _names(base, path) if (file := file_beside(path, name)) is not None}
    if not found:
        base.tokenizer.save_pretrained(folder)
        return [
            Message(
                "the base has no tokenizer files, so its tokenizer was saved by transformers "
                "{version}; older versions and other programs may not read it",
                version=transformers.__version__,
            )
        ]
    notes: list[str] = []
    if needs_own_class(path):
        base.tokenizer.save_pretrained(folder)
        found = {name: file for name, file in found.items() if name not in (TOKENIZER, TOKENIZER_CONFIG)}
        notes = [
            Message(
                "transformers' AutoTokenizer cannot load the base's tokenizer, so the merged "
                "folder also has a {tokenizer}",
                tokenizer=TOKENIZER,
            )
        ]
    for name, file in found.items():
        shutil.copyfile(file, folder / name)  # in a hub cache, copies the target of the link
    return notes + [
        note
        for name in found
        if name.startswith("tokenizer") and name.endswith(".json") and name != TOKENIZER_CONFIG
        for note in _forget_calls(folder / name, read_beside(path, name, base.name))
    ]


def _names(base: Base, path: str) -> Iterator[str]:
    """Yield possible names of tokenizer files, each once: common, class-specific, version-specific."""
    versions = read_beside(path, TOKENIZER_CONFIG, base.name).get("fast_tokenizer_files") or []
    of_class = getattr(type(base.tokenizer), "vocab_files_names", {}).values()
    for name in dict.fromkeys([*FILES, *of_class, *versions]):
        if is_plain_name(name) and name.endswith(SUFFIXES):
            yield name


def _forget_calls(file: Path, values: Mapping[str, object]) -> list[str]:
    stored = {key: values[key] for key in STORED if values.get(key) is not None}
    if not stored:
        return []
    text = json.dumps({**values, **dict.fromkeys(stored)}, ensure_ascii=False, indent=2)
    write_bytes(file, text.encode())
    truncation = stored.get("truncation")
    limit = truncation.get("max_length") if isinstance(truncation, Mapping) else None
    cut = Message(" (to {limit} tokens)", limit=limit) if limit is not None else ""
    what = joined(
        " and ", (Message("{key}{cut}", key=key, cut=(cut if key == "truncation" else "")) for key in stored)
    )
    return [
        Message(
            "the base's {name} stores {what} from an earlier call; the merged folder's copy has null there",
            name=file.name,
            what=what,
        )
    ]
