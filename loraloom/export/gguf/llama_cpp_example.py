"""Code and commands that run an exported GGUF file with llama.cpp, for the folder's README."""

from __future__ import annotations

import json
import shlex

from loraloom.export.format import ExportSource
from loraloom.export.gguf.gguf_names import ADAPTER, MODEL
from loraloom.text.catalogue import filled
from loraloom.training.card_code import question_text


def answering_code(source: ExportSource) -> str:
    """Return Python code that calls llama.h's functions; llama-cpp-python's `Llama` cannot run an encoder."""
    is_adapter = source.form == "adapter"
    model = "BASE.gguf" if is_adapter else MODEL
    generation, data = source.facts.recipe.generation, source.facts.recipe.data
    # An encoder reads a whole source at once.
    size = max(data.max_source_length, generation.max_new_tokens) + 1
    adapter = (
        f'adapter = c.llama_adapter_lora_init(model, b"{ADAPTER}")\n'
        "c.llama_set_adapters_lora(\n"
        "    context, (c.llama_adapter_lora_p_ctypes * 1)(adapter), 1, (ctypes.c_float * 1)(1.0)\n"
        ")\n"
        if is_adapter
        else ""
    )
    comment = f"  # {filled('the base, converted by llama.cpp')}" if is_adapter else ""
    return (
        f"# {filled('the same with a llama.cpp program')}:\n"
        f"# {_command(source, model)}\n"
        "import ctypes\n"
        "import llama_cpp as c\n\n"
        f"text = {json.dumps(question_text(source.facts), ensure_ascii=False)}.encode()\n"
        "c.llama_backend_init()\n"
        f'model = c.llama_model_load_from_file(b"{model}", c.llama_model_default_params()){comment}\n'
        "settings = c.llama_context_default_params()\n"
        f"settings.n_ctx = settings.n_batch = settings.n_ubatch = {size}\n"
        "context = c.llama_init_from_model(model, settings)\n"
        f"{adapter}"
        "vocabulary = c.llama_model_get_vocab(model)\n"
        f"tokens = (c.llama_token * {size})()\n"
        f"number = c.llama_tokenize(vocabulary, text, len(text), tokens, {size}, True, True)\n"
        "c.llama_encode(context, c.llama_batch_get_one(tokens, number))\n"
        "greedy, answer = c.llama_sampler_init_greedy(), []\n"
        "newest = (c.llama_token * 1)(c.llama_model_decoder_start_token(model))\n"
        f"for _ in range({generation.max_new_tokens}):\n"
        "    c.llama_decode(context, c.llama_batch_get_one(newest, 1))\n"
        "    newest[0] = c.llama_sampler_sample(greedy, context, -1)\n"
        "    if c.llama_vocab_is_eog(vocabulary, newest[0]):\n"
        "        break\n"
        "    answer.append(newest[0])\n"
        "said = ctypes.create_string_buffer(64 * (len(answer) + 1))\n"
        "ids = (c.llama_token * len(answer))(*answer)\n"
        "c.llama_detokenize(vocabulary, ids, len(answer), said, len(said), True, False)\n"
        "print(said.value.decode().strip())\n"
    )


def _command(source: ExportSource, model: str) -> str:
    """Return a `llama-completion` command; `llama-cli` and `llama-server` cannot run encoder-decoders."""
    lora = f" --lora {ADAPTER}" if source.form == "adapter" else ""
    limit = source.facts.recipe.generation.max_new_tokens
    text = shlex.quote(question_text(source.facts))
    return f"llama-completion -m {model}{lora} -p {text} -n {limit} --temp 0 --no-display-prompt -no-cnv"
