"""Loading of a base's tokenizer, without the settings that earlier calls left in its files."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import transformers
from tokenizers import Tokenizer as BackendTokenizer
from transformers import AutoTokenizer, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from loraloom.architectures.families import family_of
from loraloom.base.safety import CONFIG, describe_source, file_beside, read_beside
from loraloom.errors import ModelError
from loraloom.text.message import Message, joined

SPIECE = "spiece.model"
# One of these has a tokenizer's vocabulary; ByT5 needs none.
VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model", "*.spm")


def load_tokenizer(path: str, name: str) -> tuple[Tokenizer, tuple[str, ...]]:
    """Load the tokenizer of a folder or hub name, with a note if it is not loaded as its files specify.

    AutoTokenizer of transformers 5 fails for UMT5 folders that have only a spiece.model, and for folders that
    name `MT5Tokenizer`, a class that no longer exists; the family's own class reads the same file.

    Raises:
        ModelError: the tokenizer cannot be loaded.
    """
    folder = Path(path)
    has_vocabulary = not folder.is_dir() or any(any(folder.glob(pattern)) for pattern in VOCABULARIES)
    try:
        tokenizer = _quietly(AutoTokenizer, path)
    except Exception as error:  # of many types: a missing file, sentencepiece, a damaged JSON
        family = family_of(read_beside(path, CONFIG, name).get("model_type"))
        reader = getattr(transformers, family.tokenizer_class or "", None) if family else None
        if reader is not None and _has_spiece_alone(path):
            with suppress(Exception):  # the first error names the cause
                note = Message(
                    "AutoTokenizer cannot load the base's tokenizer, so {reader} reads {spiece}",
                    spiece=SPIECE,
                    reader=reader.__name__,
                )
                return _quietly(reader, path), (note,)
        if not has_vocabulary:
            raise _no_tokenizer(name) from None
        raise ModelError(
            Message("its tokenizer cannot be loaded"),
            where=name,
            found=describe_source(error),
            fix=Message("Its files may be damaged or incomplete; copy them again."),
        ) from None
    # Without the files, transformers 5.23 makes a tokenizer of special tokens alone for T5, BART and Gemma.
    if tokenizer.vocab_files_names and not has_vocabulary:
        raise _no_tokenizer(name)
    return tokenizer, ()


def _no_tokenizer(name: str) -> ModelError:
    return ModelError(
        Message("its folder has no tokenizer"),
        where=name,
        allowed=", ".join(VOCABULARIES),
        fix=Message("Copy the files of this model's tokenizer into the folder."),
    )


def needs_own_class(path: str) -> bool:
    """Return whether a model has a spiece.model but no tokenizer.json, and AutoTokenizer cannot load it."""
    if not _has_spiece_alone(path):
        return False
    try:
        _quietly(AutoTokenizer, path)
    except Exception:  # of any type
        return True
    return False


def _has_spiece_alone(path: str) -> bool:
    return file_beside(path, SPIECE) is not None and file_beside(path, "tokenizer.json") is None


def _quietly(loader: Any, path: str) -> Tokenizer:
    with warnings.catch_warnings():
        # A warning of MarianTokenizer, which then never uses sacremoses (transformers 5.23).
        warnings.filterwarnings("ignore", message="Recommended: pip install sacremoses")
        return loader.from_pretrained(path, trust_remote_code=False)


def forget_state(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Undo settings that a tokenizer's files store from earlier calls; return notes that describe them.

    A tokenizer that was saved after a call with padding or truncation still pads or truncates after loading,
    in all code that uses its backend. `model_max_length` is kept: it has no effect without `truncation=True`.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    notes: list[str] = []
    if isinstance(backend, BackendTokenizer):
        kept = [name for name in ("truncation", "padding") if getattr(backend, name) is not None]
        backend.no_truncation()
        backend.no_padding()
        if kept:
            notes.append(
                Message(
                    "tokenizer.json stores settings for {kept} from an earlier call, which are not applied",
                    kept=joined(" and ", kept),
                )
            )
    for side in ("padding_side", "truncation_side"):
        if getattr(tokenizer, side) != "right":
            notes.append(
                Message(
                    "the tokenizer's {side} is `{side_2}`, but LoRALoom uses `right`",
                    side=side,
                    side_2=getattr(tokenizer, side),
                )
            )
            setattr(tokenizer, side, "right")
    return tuple(notes)


def check_tokenizer(tokenizer: Tokenizer, model: PreTrainedModel, start: int | None, name: str) -> None:
    """Refuse a tokenizer that does not fit its model, and set the start token in the model's config.

    A tokenizer fits if it has a padding and an end token, one vocabulary for sources and answers, and no more
    tokens than the model has embeddings.

    Args:
        start: the token that answers begin with; None is refused.

    Raises:
        ModelError: the model cannot be used with this tokenizer.
    """
    for token in ("pad", "eos"):
        if getattr(tokenizer, f"{token}_token_id") is None:
            raise ModelError(Message("its tokenizer has no {token} token", token=token), where=name)
    if start is None:
        raise ModelError(
            Message("it is not known which token its answers begin with"),
            where=name,
            found=Message(
                "its config has no start token, and its tokenizer does not have the start token of its family"
            ),
            fix=Message("Set decoder_start_token_id in config.json to the start token used in its training."),
        )
    model.config.decoder_start_token_id = start
    if getattr(tokenizer, "separate_vocabs", False):
        raise ModelError(
            Message(
                "its tokenizer has separate vocabularies for sources and answers, which LoRALoom does not "
                "support yet"
            ),
            where=name,
            found="separate_vocabs: true",
            fix=Message("Use a model with one vocabulary, as most opus-mt models have."),
        )
    size = min(each.weight.shape[0] for each in (model.get_input_embeddings(), model.get_output_embeddings()))
    if len(tokenizer) > size:
        raise ModelError(
            Message("its tokenizer has more tokens than the model has embeddings"),
            where=name,
            found=Message(
                "{num_tokenizer} tokens, {size} embeddings", num_tokenizer=len(tokenizer), size=size
            ),
            fix=Message("Use the tokenizer the model was trained with."),
        )


def frame_tokens(tokenizer: Tokenizer) -> frozenset[int]:
    """Return the ids of the tokens around every text: `</s>` for T5, `<s>` and `</s>` for BART."""
    return frozenset(tokenizer("")["input_ids"])


def control_names(tokenizer: Tokenizer) -> dict[int, str]:
    """Map the ids of the end and padding tokens to their names.

    Where a text contains such a name, the tokenizer produces the token itself.
    """
    ids = {tokenizer.eos_token_id: tokenizer.eos_token, tokenizer.pad_token_id: tokenizer.pad_token}
    return {id: str(name) for id, name in ids.items() if id is not None}
