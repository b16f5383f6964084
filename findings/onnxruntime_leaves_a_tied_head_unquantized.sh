#!/usr/bin/env bash
# onnxruntime's quantize_dynamic, told to quantize products (`op_types_to_quantize=["MatMul"]`), leaves the output
# head of a model that shares it with the embedding in float32, without a word, if the model was exported by
# torch.onnx.export(dynamo=True): the exporter folds the transpose of a weight that one product reads into the
# weight, but keeps a Transpose node if the weight is read twice, and the quantizer only takes products whose second
# input is a constant. The head is the largest matrix of many models; the file stays as large as it was. (With the
# default, which also quantizes embeddings, the weight is stored in int8, but the product is still computed in
# float32.) To quantize it, store the transposed weight as a constant of its own.
#
# Seen (torch 2.13.0, onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0; kinds of nodes, size after / before):
#     own head: Gather MatMul -> Cast DynamicQuantizeLinear Gather MatMulInteger Mul, 0.63
#     tied head: Gather MatMul Transpose -> Gather MatMul Transpose, 1.00
#
# Exit 0 while both are so; 1 if one of them has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0
cat > "$work/see.py" <<'PYTHON'
import logging
import sys
import warnings
from pathlib import Path

import onnx
import onnxruntime
import onnxscript
import torch
from onnxruntime.quantization import quantize_dynamic
from torch import nn

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)


class Model(nn.Module):
    """An embedding and a head of 1,000 tokens."""

    def __init__(self, tied):
        super().__init__()
        self.embedding, self.head = nn.Embedding(1000, 64), nn.Linear(64, 1000, bias=False)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(self.embedding(tokens))


def kinds(file):
    return sorted({node.op_type for node in onnx.load(file).graph.node})


print("torch", torch.__version__, "onnx", onnx.__version__, "onnxscript", onnxscript.__version__,
      "onnxruntime", onnxruntime.__version__)
is_quantized, share = {}, {}
for name, tied in (("own head", False), ("tied head", True)):
    whole, small = Path(sys.argv[1], "whole.onnx"), Path(sys.argv[1], "small.onnx")
    tokens = torch.tensor([[1, 2, 3], [4, 5, 6]])
    torch.onnx.export(
        Model(tied).eval(), (tokens,), whole, dynamo=True, verbose=False, external_data=False
    )
    quantize_dynamic(whole, small, op_types_to_quantize=["MatMul"])
    share[name] = small.stat().st_size / whole.stat().st_size
    is_quantized[name] = "MatMulInteger" in kinds(small)
    print(f"{name}: {' '.join(kinds(whole))} -> {' '.join(kinds(small))}, {share[name]:.2f}")
assert is_quantized == {"own head": True, "tied head": False}, is_quantized
assert share["own head"] < 0.7 and share["tied head"] > 0.99, share
PYTHON
"$work/venv/bin/python" "$work/see.py" "$work" 2>/dev/null
