"""Python code for the README of an exported ONNX folder: it loads the files and prints an answer."""

from __future__ import annotations

import json

from loraloom.export.format import ExportSource
from loraloom.export.merged_languages import only
from loraloom.export.onnx.onnx_files import DECODER, ENCODER, FOLDER, SUFFIXES
from loraloom.text.catalogue import filled
from loraloom.training.card_code import question_text


def answering_code(source: ExportSource) -> str:
    """Return Python code for onnxruntime that decodes greedily, with caches."""
    base, suffix = source.base, SUFFIXES[source.quantization]
    ids = "tokenizer(text).input_ids"
    if not base.family.ends_sources:
        ids += " + [tokenizer.eos_token_id]"
    return (
        "import numpy as np\n"
        "import onnxruntime\n"
        "from transformers import AutoTokenizer\n\n"
        f'folder = "."  # {filled("this folder")}\n'
        f'encoder = onnxruntime.InferenceSession(folder + "/{FOLDER}/{ENCODER}{suffix}.onnx")\n'
        f'decoder = onnxruntime.InferenceSession(folder + "/{FOLDER}/{DECODER}{suffix}.onnx")\n'
        "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
        f"text = {json.dumps(question_text(source.facts), ensure_ascii=False)}\n"
        f"tokens = np.array([{ids}])\n"
        "mask = np.ones_like(tokens)\n"
        '(states,) = encoder.run(None, {"input_ids": tokens, "attention_mask": mask})\n'
        'inputs = {"encoder_hidden_states": states, "encoder_attention_mask": mask}\n'
        "inputs |= {\n"
        "    each.name: np.zeros((1, each.shape[1], 0, 1), np.float32)\n"
        '    for each in decoder.get_inputs() if each.name.startswith("past_key_values")\n'
        "}\n"
        "names = [each.name for each in decoder.get_outputs()]\n"
        f"answer, newest = [], {_start(source)}\n"
        f"for step in range({source.facts.recipe.generation.max_new_tokens}):\n"
        '    inputs |= {"input_ids": np.array([newest]), "use_cache_branch": np.array([step > 0])}\n'
        "    outputs = dict(zip(names, decoder.run(None, inputs)))\n"
        '    newest = [int(outputs.pop("logits")[0, -1].argmax())]\n'
        "    if newest == [tokenizer.eos_token_id]:\n"
        "        break\n"
        "    answer += newest\n"
        '    inputs |= {key.replace("present", "past_key_values"): own for key, own in outputs.items()}\n'
        "print(tokenizer.decode(answer, skip_special_tokens=True))\n"
    )


def _start(source: ExportSource) -> str:
    """Return the ids of the decoder's first tokens, as a Python list.

    They are the start token and, if all answers are in one language, the code of that language.
    """
    base = source.base
    code = only([target for _, target in source.facts.languages])
    if base.languages is None or code is None:
        return f"[{base.start_token_id}]"
    start = base.decoder_start(code)
    return str([token for token in (start.start_token_id, start.forced_token_id) if token is not None])
