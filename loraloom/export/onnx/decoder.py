"""Joining of the decoder's graphs into one, with inputs and outputs named as in `decoder_model_merged.onnx`.

    use_cache_branch ──▶ If ──then──▶ keys and values as given
                          └──else──▶ no past; keys and values of cross-attention from the encoder's states
                                 └──▶ decoder step ──▶ logits, present.*

The branches contain only the choice of keys and values. If both contained the whole decoder, as in Optimum's
files, onnxruntime would keep two copies of its prepared weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import onnx_ir as ir

from loraloom.export.onnx.graphs import DecoderGraphs

ROWS, SOURCE_LENGTH = "batch_size", "encoder_sequence_length"
TARGET_LENGTH, PAST_LENGTH = "decoder_sequence_length", "past_decoder_sequence_length"
PRESENT_LENGTH = "past_decoder_sequence_length + decoder_sequence_length"
# Free, because Optimum gives empty keys and values of d_model // heads, which is not the width in mt5-small.
HEAD_WIDTH = "head_width"
USE_CACHE = "use_cache_branch"
KINDS = ("decoder.key", "decoder.value", "encoder.key", "encoder.value")


def join_decoder(graphs: DecoderGraphs) -> ir.Graph:
    """Join the decoder's graphs into one.

    Args:
        graphs: the exported graphs, which are modified.

    Returns:
        The graph with inputs `encoder_attention_mask`, `input_ids`, `encoder_hidden_states`,
        `past_key_values.<layer>.{decoder,encoder}.{key,value}` and `use_cache_branch`, and outputs `logits`
        and `present.<layer>.…`.
    """
    step = graphs.step
    tokens, mask, *caches = step.inputs
    past, cross = caches[: len(caches) // 2], caches[len(caches) // 2 :]
    tokens.name, tokens.shape = "input_ids", ir.Shape([ROWS, TARGET_LENGTH])
    mask.name, mask.shape = "encoder_attention_mask", ir.Shape([ROWS, SOURCE_LENGTH])
    states = _value("encoder_hidden_states", [ROWS, SOURCE_LENGTH, graphs.d_encoder])
    given = _cache_inputs(graphs.cache_shapes)
    use_cache = _value(USE_CACHE, [1], ir.DataType.BOOL)

    chosen = [ir.Value(name=f"chosen.{value.name}", type=value.type) for value in given]
    choice = ir.Node(
        "",
        "If",
        inputs=[use_cache],
        attributes=[
            ir.AttrGraph("then_branch", _given_branch(given)),
            ir.AttrGraph("else_branch", _first_branch(graphs, step, tokens, states)),
        ],
        outputs=chosen,
        name="choose_caches",
    )
    step.insert_before(step[0], choice)
    for old, new in zip(_interleaved(past, cross), chosen, strict=True):
        old.replace_all_uses_with(new)
    logits, *presents = step.outputs
    step.inputs.clear()
    step.inputs.extend([mask, tokens, states, *given, use_cache])
    _name_outputs(step, logits, presents, chosen, graphs.cache_shapes)
    return step


def _value(name: str, shape: Sequence[int | str], kind: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(list(shape)), type=ir.TensorType(kind))


def _interleaved(past: Sequence[Any], cross: Sequence[Any]) -> Iterator[Any]:
    """Yield key and value of self-attention, then those of cross-attention, layer by layer."""
    for layer in range(len(past) // 2):
        both = slice(2 * layer, 2 * layer + 2)
        yield from (*past[both], *cross[both])


def _cache_inputs(shapes: Sequence[tuple[int, int]]) -> list[ir.Value]:
    return [
        _value(
            f"past_key_values.{layer}.{kind}",
            [
                ROWS,
                shapes[2 * layer][0],
                PAST_LENGTH if "decoder" in kind else SOURCE_LENGTH + "_out",
                HEAD_WIDTH,
            ],
        )
        for layer in range(len(shapes) // 2)
        for kind in KINDS
    ]


def _given_branch(given: Sequence[ir.Value]) -> ir.Graph:
    """Build the branch for later steps, which returns the caches of the previous step unchanged."""
    copies = [
        ir.Node(
            "", "Identity", inputs=[value], outputs=[ir.Value(name=f"given.{value.name}", type=value.type)]
        )
        for value in given
    ]
    return ir.Graph([], [node.outputs[0] for node in copies], nodes=copies, name="given_caches")


def _first_branch(graphs: DecoderGraphs, step: ir.Graph, tokens: ir.Value, states: ir.Value) -> ir.Graph:
    """Build the branch for the first step: empty self-attention caches; cross-attention from the encoder."""
    cross = graphs.cross
    outputs = list(cross.outputs)
    cross.inputs[0].replace_all_uses_with(states)
    cross.outputs.clear()
    for value in cross.initializers.values():
        # In the main graph, where its data may be in a separate file.
        hoisted = ir.Value(
            name=f"cross.{value.name}", shape=value.shape, type=value.type, const_value=value.const_value
        )
        value.replace_all_uses_with(hoisted)
        step.register_initializer(hoisted)
    nodes = list(cross)
    cross.remove(nodes)
    for node in nodes:
        node.name = f"cross.{node.name}"
        for value in node.outputs:
            value.name = f"cross.{value.name}"
    empty = list(_empty_caches(graphs.cache_shapes, tokens))
    none_yet = [node.outputs[0] for node in empty if node.op_type == "ConstantOfShape"]
    chosen = list(_interleaved(none_yet, outputs))
    return ir.Graph([], chosen, nodes=[*empty, *nodes], name="first_caches")


def _empty_caches(shapes: Sequence[tuple[int, int]], tokens: ir.Value) -> Iterator[ir.Node]:
    """Yield the nodes that create keys and values of length 0, [rows, heads, 0, d_head]."""
    rows = ir.Node(
        "",
        "Shape",
        inputs=[tokens],
        attributes=[ir.AttrInt64("start", 0), ir.AttrInt64("end", 1)],
        outputs=[ir.Value(name="first.rows", type=ir.TensorType(ir.DataType.INT64))],
    )
    yield rows
    for number, (heads, width) in enumerate(shapes):
        rest = _constant(f"first.{number}.rest", [heads, 0, width])
        shape = ir.Node(
            "",
            "Concat",
            inputs=[rows.outputs[0], rest.outputs[0]],
            attributes=[ir.AttrInt64("axis", 0)],
            outputs=[ir.Value(name=f"first.{number}.shape", type=ir.TensorType(ir.DataType.INT64))],
        )
        yield from (rest, shape)
        yield ir.Node(
            "",
            "ConstantOfShape",
            inputs=[shape.outputs[0]],
            outputs=[ir.Value(name=f"first.{number}", type=ir.TensorType(ir.DataType.FLOAT))],
        )


def _constant(name: str, numbers: Sequence[int]) -> ir.Node:
    value = ir.tensor(list(numbers), dtype=ir.DataType.INT64)
    return ir.Node(
        "",
        "Constant",
        inputs=[],
        attributes=[ir.AttrTensor("value", value)],
        outputs=[ir.Value(name=name, type=ir.TensorType(ir.DataType.INT64))],
    )


def _name_outputs(
    step: ir.Graph,
    logits: ir.Value,
    presents: Sequence[ir.Value],
    chosen: Sequence[ir.Value],
    shapes: Sequence[tuple[int, int]],
) -> None:
    """Name the graph's outputs; the caches of cross-attention come from the chosen branch."""
    assert logits.shape is not None
    logits.name, logits.shape = "logits", ir.Shape([ROWS, TARGET_LENGTH, logits.shape[2]])
    of_cross = [value for number, value in enumerate(chosen) if number % 4 > 1]
    outputs = list(_interleaved(presents, of_cross))
    for number, value in enumerate(outputs):
        layer, kind = number // 4, KINDS[number % 4]
        length = PRESENT_LENGTH if "decoder" in kind else SOURCE_LENGTH + "_out"
        heads, width = shapes[2 * layer]
        value.name = f"present.{layer}.{kind}"
        value.shape = ir.Shape([ROWS, heads, length, width])
    step.outputs.clear()
    step.outputs.extend([logits, *outputs])
