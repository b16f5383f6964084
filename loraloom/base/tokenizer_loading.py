"""Loading of a base's tokenizer, without settings stored from earlier calls."""

from __future__ import annotations

from tokenizers import Tokenizer as BackendTokenizer
from transformers import AutoTokenizer, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from loraloom.architectures.family import Family
from loraloom.base.safety import describe_source
from loraloom.errors import ModelError


def load_tokenizer(path: str, name: str) -> Tokenizer:
    """Load the tokenizer of a folder or hub name.

    Raises:
        ModelError: it cannot be loaded.
    """
    try:
        return AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except Exception as error:  # of many types: a missing file, sentencepiece, a damaged JSON
        raise ModelError("its tokenizer cannot be loaded", where=name, found=describe_source(error)) from None


def forget_state(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Undo settings that a tokenizer's files store from earlier calls; describe them in sentences.

    A tokenizer that is saved after a padded or truncated call pads or truncates again when it is loaded, in
    everything that uses its backend. `model_max_length` is kept, because it needs `truncation=True`.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    notes = []
    if isinstance(backend, BackendTokenizer):
        kept = [name for name in ("truncation", "padding") if getattr(backend, name) is not None]
        backend.no_truncation()
        backend.no_padding()
        if kept:
            notes.append(
                f"tokenizer.json stores {' and '.join(kept)} from an earlier call, which is not applied"
            )
    for side in ("padding_side", "truncation_side"):
        if getattr(tokenizer, side) != "right":
            notes.append(f"the tokenizer's {side} is {getattr(tokenizer, side)}, but `right` is used here")
            setattr(tokenizer, side, "right")
    return tuple(notes)


def check_tokenizer(tokenizer: Tokenizer, model: PreTrainedModel, family: Family, name: str) -> None:
    """Refuse a tokenizer without padding or end, or with more tokens than the model has embeddings.

    A config without a start token gets the one that its family begins answers with.

    Raises:
        ModelError: the model cannot be used with it.
    """
    for token in ("pad", "eos"):
        if getattr(tokenizer, f"{token}_token_id") is None:
            raise ModelError(f"its tokenizer has no {token} token", where=name)
    model.config.decoder_start_token_id = family.start_token_id(model.config, tokenizer)
    size = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > size:
        raise ModelError(
            "its tokenizer has more tokens than the model has embeddings",
            where=name,
            found=f"{len(tokenizer)} tokens, {size} embeddings",
            fix="Use the tokenizer the model was trained with.",
        )


def frame_tokens(tokenizer: Tokenizer) -> frozenset[int]:
    """Return the tokens that it puts around every text: `</s>` of T5, `<s>` and `</s>` of BART."""
    return frozenset(tokenizer("")["input_ids"])


def control_names(tokenizer: Tokenizer) -> dict[int, str]:
    """Return the tokens that end or pad a text, id -> name; their names in a text become these tokens."""
    ids = {tokenizer.eos_token_id: tokenizer.eos_token, tokenizer.pad_token_id: tokenizer.pad_token}
    return {id: str(name) for id, name in ids.items() if id is not None}
