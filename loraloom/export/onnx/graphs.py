"""A model's ONNX graphs: encoder, keys and values of cross-attention, and decoder step with caches.

Exported by `torch.onnx.export(dynamo=True)` with dynamic batch size and lengths; `decoder.py` joins
the last two graphs.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.export import Dim
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from loraloom.export.quiet_logger import quiet_logger

if TYPE_CHECKING:
    import onnx_ir as ir

# Sizes of the example inputs: all different, and above 1, for which torch.export would fix them.
BATCH, SOURCE, TARGET, PAST = 3, 7, 4, 5
FREE = Dim.DYNAMIC
ROWS_AND_LENGTH = {0: FREE, 1: FREE}
# Keys and values are [rows, heads, length, d_head].
OF_CACHE = {0: FREE, 2: FREE}


@dataclass(frozen=True)
class DecoderGraphs:
    """The decoder's graphs before they are joined.

    Args:
        cross: encoder states -> keys and values of cross-attention, of each layer in turn.
        step: tokens, mask, and keys and values of self-attention and of cross-attention -> logits, and keys
            and values of self-attention, now including those of the new tokens.
        cache_shapes: [heads, d_head] of each key and value of self-attention.
        d_encoder: width of the encoder's states.
    """

    cross: ir.Graph
    step: ir.Graph
    cache_shapes: Sequence[tuple[int, int]]
    d_encoder: int


class _Encoder(nn.Module):
    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.encoder = model.get_encoder()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # type: ignore[no-any-return]


class _CrossAttention(nn.Module):
    """A module that returns keys and values of cross-attention; its graph contains nothing else."""

    def __init__(self, model: PreTrainedModel, start_token_id: int) -> None:
        super().__init__()
        self.model, self.start_token_id = model, start_token_id

    def forward(self, encoder_hidden_states: Tensor, encoder_attention_mask: Tensor) -> list[Tensor]:
        tokens = torch.full((encoder_hidden_states.shape[0], 1), self.start_token_id)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        _decode(self.model, tokens, encoder_hidden_states, encoder_attention_mask, cache)
        return _flat(cache.cross_attention_cache)


class _Step(nn.Module):
    def __init__(self, model: PreTrainedModel, d_encoder: int) -> None:
        super().__init__()
        self.model, self.d_encoder = model, d_encoder

    def forward(
        self, input_ids: Tensor, encoder_attention_mask: Tensor, past: list[Tensor], cross: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        cache = EncoderDecoderCache(_cache_of(past), _cache_of(cross))
        # With cached keys and values only the shape of the encoder's states is read.
        rows, _, length, _ = cross[0].shape
        states = cross[0].new_zeros(1).expand(rows, length, self.d_encoder)
        logits = _decode(self.model, input_ids, states, encoder_attention_mask, cache)
        return logits, _flat(cache.self_attention_cache)


def _decode(
    model: PreTrainedModel, tokens: Tensor, states: Tensor, source_mask: Tensor, cache: EncoderDecoderCache
) -> Tensor:
    return model(  # type: ignore[no-any-return]
        encoder_outputs=BaseModelOutput(last_hidden_state=states),
        attention_mask=source_mask,
        decoder_input_ids=tokens,
        past_key_values=cache,
        use_cache=True,
    ).logits


def _cache_of(keys_and_values: Sequence[Tensor]) -> DynamicCache:
    cache = DynamicCache()
    for layer in range(len(keys_and_values) // 2):
        cache.update(keys_and_values[2 * layer], keys_and_values[2 * layer + 1], layer)
    return cache


def _flat(cache: DynamicCache) -> list[Tensor]:
    return [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]


@torch.no_grad()
def encoder_graph(model: PreTrainedModel) -> ir.Model:
    """Export the encoder: `input_ids`, `attention_mask` -> `last_hidden_state`."""
    inputs = _example_source(model)
    return _export(_Encoder(model), inputs, (ROWS_AND_LENGTH, ROWS_AND_LENGTH))


@torch.no_grad()
def decoder_graphs(model: PreTrainedModel, start_token_id: int) -> DecoderGraphs:
    """Export the decoder's two graphs.

    Args:
        model: the model in eval mode, in float32, on the CPU.
        start_token_id: any token that may begin an answer.
    """
    source, mask = _example_source(model)
    states = _Encoder(model)(source, mask)
    of_cross = _CrossAttention(model, start_token_id)
    cross = of_cross(states, mask)
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    _decode(model, source[:, :1].expand(BATCH, PAST).contiguous(), states, mask, cache)
    past = _flat(cache.self_attention_cache)
    each = [OF_CACHE] * len(past)
    step = _export(
        _Step(model, states.shape[-1]),
        (source[:, :TARGET].contiguous(), mask, past, cross),
        (ROWS_AND_LENGTH, ROWS_AND_LENGTH, each, each),
    )
    return DecoderGraphs(
        cross=_export(of_cross, (states, mask), (ROWS_AND_LENGTH, ROWS_AND_LENGTH)).graph,
        step=step.graph,
        cache_shapes=[(tensor.shape[1], tensor.shape[3]) for tensor in past],
        d_encoder=states.shape[-1],
    )


def _example_source(model: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """Return example tokens and their mask, with padding in one row; only their shape matters."""
    tokens = torch.full((BATCH, SOURCE), min(10, model.get_output_embeddings().weight.shape[0] - 1))
    mask = torch.ones(BATCH, SOURCE, dtype=torch.int64)
    mask[1, -2:] = 0
    return tokens, mask


def _export(module: nn.Module, inputs: tuple[Any, ...], free: tuple[Any, ...]) -> ir.Model:
    # torch remarks on packages that are not needed.
    with quiet_logger("torch.onnx"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(), inputs, dynamo=True, dynamic_shapes=free, verbose=False, external_data=False
        )
    assert program is not None
    return program.model
