"""Weights of models written by hand, under the names that transformers' Marian gives them.

Only tensors are read (`weights_only=True`), and a vocabulary that is a pickle only if it names no class.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor
from transformers import GenerationConfig, MarianConfig, MarianMTModel, PreTrainedTokenizerFast

ANNALOG_NAMES = {
    "self_attention.fc_q": "self_attn.q_proj",
    "self_attention.fc_k": "self_attn.k_proj",
    "self_attention.fc_v": "self_attn.v_proj",
    "self_attention.fc_o": "self_attn.out_proj",
    "encoder_attention.fc_q": "encoder_attn.q_proj",
    "encoder_attention.fc_k": "encoder_attn.k_proj",
    "encoder_attention.fc_v": "encoder_attn.v_proj",
    "encoder_attention.fc_o": "encoder_attn.out_proj",
    "enc_attn_layer_norm": "encoder_attn_layer_norm",
    "ff_layer_norm": "final_layer_norm",
    "positionwise_feedforward.fc_1": "fc1",
    "positionwise_feedforward.fc_2": "fc2",
    "tok_embedding": "embed_tokens",
    "pos_embedding": "embed_positions",
}
# Of torch's nn.Transformer.
TORCH_NAMES = {
    "self_attn.out_proj": "self_attn.out_proj",
    "multihead_attn.out_proj": "encoder_attn.out_proj",
    "linear1": "fc1",
    "linear2": "fc2",
    "norm1": "self_attn_layer_norm",
}
NORMS = {"encoder": {"norm2": "final_layer_norm"}, "decoder": {"norm2": "encoder_attn_layer_norm"}}
EPSILON = 1e-5
# The scale of what goes into a layer of two or three norms, and what their factors on v come to.
NORMS_IN_ONE = {
    "encoder": ((EPSILON / (1 + EPSILON)) ** 0.5, (1 + EPSILON) ** 0.5),
    "decoder": (EPSILON / (1 + EPSILON + EPSILON**2) ** 0.5, (1 + EPSILON + EPSILON**2) ** 0.5),
}


class NoClasses(pickle.Unpickler):
    """Reads numbers, texts, lists and dictionaries; whatever would run code is an error."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse every class and function."""
        raise pickle.UnpicklingError(f"the file names {module}.{name}")


def convert_lemmaturk(package: Path, folder: Path) -> Path:
    """Write lemmaturk's Turkish lemmatizer as a Marian folder, and return it.

    Its nn.Transformer ends each stack with a norm of its own. Marian has none, so each stack gets one more
    layer that adds nothing and whose last norm is that one. Norms one after the other are one norm with a
    larger epsilon: of x / √(v + e), another gives x / √((1 + ε)·v + ε·e). The states that go into the layer
    are scaled so that its norms together have an epsilon of ε, and the last norm's weight takes back 1 + ε.
    """
    state = torch.load(package / "weights" / "best_transformer.pth", map_location="cpu", weights_only=True)
    vocabulary = json.loads((package / "weights" / "vocab.json").read_text(encoding="utf-8"))
    tensors: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.startswith("transformer.") and ".layers." in name:
            tensors |= _of_torch(name.removeprefix("transformer."), tensor)
    positions = state["positional_encoding.pe"][0, :512]
    for stack, embedding in (("encoder", "src_tok_emb"), ("decoder", "trg_tok_emb")):
        tensors[f"model.{stack}.embed_tokens.weight"] = state[f"{embedding}.embedding.weight"]
        tensors[f"model.{stack}.embed_positions.weight"] = positions.clone()
        scale, grown = NORMS_IN_ONE[stack]
        for kind in ("weight", "bias"):
            tensors[f"model.{stack}.layers.2.final_layer_norm.{kind}"] *= scale
        last = {
            "weight": state[f"transformer.{stack}.norm.weight"] * grown,
            "bias": state[f"transformer.{stack}.norm.bias"],
        }
        tensors |= _layer_that_only_norms(f"model.{stack}.layers.3.", stack, last)
    tensors["lm_head.weight"] = state["generator.weight"]
    tensors["final_logits_bias"] = state["generator.bias"][None]
    return _save(folder, tensors, vocabulary, ("<PAD>", "<SOS>", "<EOS>", "<UNK>"), layers=4, positions=512)


def convert_annalog(package: Path, folder: Path) -> Path:
    """Write annalog's generator of analogues of molecules as a Marian folder, and return it."""
    files = package / "ckpt_and_vocab"
    state = torch.load(files / "Lev_extended.pt", map_location="cpu", weights_only=True)
    with (files / "stereo_experiment_vocab_ttf.pkl").open("rb") as file:
        vocabulary = NoClasses(file).load()["stoi"]
    tensors: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for theirs, ours in ANNALOG_NAMES.items():
            name = name.replace(f".{theirs}.", f".{ours}.")
        tensors[f"model.{name}"] = tensor
    tensors["lm_head.weight"] = tensors.pop("model.decoder.fc_out.weight")
    tensors["final_logits_bias"] = tensors.pop("model.decoder.fc_out.bias")[None]
    layers = 1 + max(int(name.split(".")[3]) for name in tensors if ".layers." in name)
    return _save(
        folder,
        tensors,
        vocabulary,
        ("<pad>", "<sos>", "<eos>", "<unk>"),
        layers=layers,
        positions=102,
        bos=True,
    )


def _of_torch(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """One tensor of a layer of nn.Transformer, by Marian's names; queries, keys and values lie in one."""
    stack, _, number, rest = name.split(".", 3)
    layer = f"model.{stack}.layers.{number}."
    kind = rest.rpartition(".")[2].removeprefix("in_proj_")
    if "in_proj_" in rest:
        attention = "encoder_attn" if rest.startswith("multihead_attn") else "self_attn"
        parts = zip("qkv", tensor.chunk(3), strict=True)
        return {f"{layer}{attention}.{name}_proj.{kind}": part.clone() for name, part in parts}
    renamed = {**TORCH_NAMES, **NORMS[stack], "norm3": "final_layer_norm"}[rest.rpartition(".")[0]]
    return {f"{layer}{renamed}.{kind}": tensor}


def _layer_that_only_norms(layer: str, stack: str, last: Mapping[str, Tensor]) -> dict[str, Tensor]:
    width, d_ff = len(last["bias"]), 512
    tensors = {f"{layer}final_layer_norm.{kind}": tensor for kind, tensor in last.items()}
    attentions = ["self_attn"] if stack == "encoder" else ["self_attn", "encoder_attn"]
    for attention in attentions:
        tensors[f"{layer}{attention}_layer_norm.weight"] = torch.ones(width)
        tensors[f"{layer}{attention}_layer_norm.bias"] = torch.zeros(width)
        for linear in ("q_proj", "k_proj", "v_proj", "out_proj"):
            tensors[f"{layer}{attention}.{linear}.weight"] = torch.zeros(width, width)
            tensors[f"{layer}{attention}.{linear}.bias"] = torch.zeros(width)
    for linear, shape in (("fc1", (d_ff, width)), ("fc2", (width, d_ff))):
        tensors[f"{layer}{linear}.weight"] = torch.zeros(shape)
        tensors[f"{layer}{linear}.bias"] = torch.zeros(shape[0])
    return tensors


def _save(
    folder: Path,
    tensors: Mapping[str, Tensor],
    vocabulary: Mapping[str, int],
    special: tuple[str, str, str, str],
    *,
    layers: int,
    positions: int,
    bos: bool = False,
) -> Path:
    """Write a Marian folder: three tables of embeddings, positions in the file, a tokenizer of its tokens."""
    pad, start, eos, _ = (vocabulary[token] for token in special)
    config = MarianConfig(
        vocab_size=len(vocabulary),
        d_model=256,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        encoder_ffn_dim=512,
        decoder_ffn_dim=512,
        max_position_embeddings=positions,
        activation_function="relu",
        scale_embedding=True,
        share_encoder_decoder_embeddings=False,
        tie_word_embeddings=False,
        pad_token_id=pad,
        decoder_start_token_id=start,
        eos_token_id=eos,
        forced_eos_token_id=None,
    )
    model = MarianMTModel(config)
    model.load_state_dict(dict(tensors), strict=True)
    model.generation_config = GenerationConfig(
        decoder_start_token_id=start, eos_token_id=eos, pad_token_id=pad, max_length=positions
    )
    model._keys_to_ignore_on_save = set()  # transformers would leave the positions out
    model.save_pretrained(folder)
    _tokenizer(vocabulary, special, bos=bos).save_pretrained(folder)
    return folder


def _tokenizer(
    vocabulary: Mapping[str, int], special: tuple[str, str, str, str], *, bos: bool
) -> PreTrainedTokenizerFast:
    """Splits a text into the tokens of a vocabulary, the longest first."""
    pad, start, eos, unk = special
    texts = sorted((token for token in vocabulary if token not in special), key=len, reverse=True)
    escaped = "|".join("".join(f"\\{c}" if not c.isalnum() else c for c in token) for token in texts)
    tokenizer = Tokenizer(models.WordLevel(dict(vocabulary), unk_token=unk))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(f"{escaped}|."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    frame = [(token, vocabulary[token]) for token in (start, eos)]
    single = f"{start} $A {eos}" if bos else f"$A {eos}"
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=frame)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, eos_token=eos, unk_token=unk, bos_token=start
    )
