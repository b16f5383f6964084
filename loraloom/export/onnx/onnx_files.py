"""The ONNX files of a model, in the folder `onnx`, with the names that transformers.js expects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel

from loraloom.export.quiet_logger import quiet_logger

if TYPE_CHECKING:
    import onnx_ir as ir

FOLDER = "onnx"
ENCODER, DECODER = "encoder_model", "decoder_model_merged"
# What transformers.js appends for int8, which it calls `q8`.
SUFFIXES = {"float32": "", "int8": "_quantized"}
# A protobuf cannot exceed 2 GB, and is built in memory.
LARGEST_FILE = 2**30
# Older versions of onnxruntime read it too; 11 came with onnx 1.18.
IR_VERSION = 10
EXTERNAL = "transformers.js_config"


def write_graphs(
    model: PreTrainedModel, start_token_id: int, folder: Path, quantization: str
) -> dict[str, int]:
    """Write a model's encoder and decoder; if they are quantized, the model's memory is freed.

    Args:
        model: the model in float32 and eval mode, on the CPU.
        start_token_id: any token that may begin an answer.
        folder: folder to create for the files.
        quantization: `float32` or `int8`.

    Returns:
        The number of separate weight files of each ONNX file that has any, by the ONNX file's name.
    """
    from loraloom.export.onnx.decoder import join_decoder
    from loraloom.export.onnx.graphs import decoder_graphs, encoder_graph

    folder.mkdir()
    is_quantized = quantization != "float32"
    written = folder / "float32" if is_quantized else folder
    written.mkdir(exist_ok=True)
    outside = _save(_named_encoder(encoder_graph(model)), written / f"{ENCODER}.onnx", is_quantized)
    graph = join_decoder(decoder_graphs(model, start_token_id))
    outside |= _save(graph, written / f"{DECODER}.onnx", is_quantized)
    if not is_quantized:
        return outside
    del graph
    model.to("meta")
    outside = {}
    for name in (ENCODER, DECODER):
        outside |= _quantize(written / f"{name}.onnx", folder / f"{name}{SUFFIXES[quantization]}.onnx")
    written.rmdir()
    return outside


def _named_encoder(encoder: ir.Model) -> ir.Graph:
    import onnx_ir as ir

    graph = encoder.graph
    for value, name in zip(graph.inputs, ("input_ids", "attention_mask"), strict=True):
        value.name, value.shape = name, ir.Shape(["batch_size", "encoder_sequence_length"])
    (states,) = graph.outputs
    assert states.shape is not None
    states.name = "last_hidden_state"
    states.shape = ir.Shape(["batch_size", "encoder_sequence_length", states.shape[2]])
    return graph


def _save(graph: ir.Graph, file: Path, is_quantized: bool) -> dict[str, int]:
    """Write a graph; if it exceeds 1 GiB, write large weights to a separate file, one tensor at a time.

    Returns:
        The file's name and its number of separate weight files, if any, as in `write_graphs`.
    """
    import onnx_ir as ir

    if is_quantized:
        _transpose_weights(graph)
    model = ir.Model(graph, ir_version=IR_VERSION, producer_name="loraloom")
    num_bytes = sum(v.const_value.nbytes for v in graph.initializers.values() if v.const_value is not None)
    if num_bytes <= LARGEST_FILE:
        ir.save(model, file)
        return {}
    ir.save(model, file, external_data=f"{file.name}_data")
    return {file.name: 1}


def _transpose_weights(graph: ir.Graph) -> None:
    """Store weights transposed, as matrix products read them, so that quantization finds them."""
    import onnx_ir as ir

    for node in [node for node in graph.all_nodes() if node.op_type == "Transpose"]:
        (weight,), (result,) = node.inputs, node.outputs
        assert node.graph is not None
        if weight is None or weight.const_value is None or not weight.is_initializer():
            continue
        value: Any = weight.const_value
        if len(value.shape) != 2:
            continue

        def transposed(value: Any = value, name: str | None = result.name) -> ir.TensorProtocol:
            return ir.tensor(value.numpy().T.copy(), name=name)

        rows, columns = value.shape
        stored = ir.Value(
            name=f"{weight.name}.transposed",
            shape=ir.Shape([columns, rows]),
            type=weight.type,
            const_value=ir.LazyTensor(
                transposed,
                dtype=value.dtype,
                shape=ir.Shape([columns, rows]),
                name=f"{weight.name}.transposed",
            ),
        )
        graph.register_initializer(stored)
        result.replace_all_uses_with(stored)
        node.graph.remove(node, safe=True)
        if not weight.uses() and weight.name in graph.initializers:
            graph.initializers.pop(weight.name)


def _quantize(source: Path, target: Path) -> dict[str, int]:
    """Quantize a file's matrix products with onnxruntime's own tool, and remove the unquantized file.

    Embeddings are not quantized: onnxruntime gives the whole table a single scale, with which the rows of
    frequent tokens would lose most of their precision.

    Returns:
        The new file's name and its number of separate weight files, if any, as in `write_graphs`.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    is_large = source.stat().st_size + _size(source.with_name(f"{source.name}_data")) > LARGEST_FILE
    with quiet_logger():  # its advice to prepare the model concerns convolutions
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=is_large,
            extra_options={"MatMulConstBOnly": True, "EnableSubgraph": True},
        )
    source.unlink()
    source.with_name(f"{source.name}_data").unlink(missing_ok=True)
    if not is_large:
        return {}
    # transformers.js looks for another name.
    import onnx

    model = onnx.load(target)
    for old in {target.with_name(f"{target.name}.data"), target.with_name(f"{target.name}_data")}:
        old.unlink(missing_ok=True)
    onnx.save_model(
        model, target, save_as_external_data=True, location=f"{target.name}_data", size_threshold=1024
    )
    return {target.name: 1}


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0
