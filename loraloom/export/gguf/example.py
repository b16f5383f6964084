"""How an exported GGUF file is run with llama.cpp's own program, for its README."""

from __future__ import annotations

import json

from loraloom.export.format import ExportSource
from loraloom.export.gguf.names import ADAPTER, MODEL
from loraloom.text.catalogue import filled
from loraloom.training.card_code import question_text


def answering_code(source: ExportSource) -> str:
    """Write Python that starts `llama-completion`: `llama-cli` and `llama-server` run no encoder-decoders."""
    is_adapter = source.form == "adapter"
    model = [f'"-m", "{MODEL}"']
    if is_adapter:
        model = [
            f'"-m", "BASE.gguf",  # {filled("the base, converted by llama.cpp")}\n    "--lora", "{ADAPTER}"'
        ]
    limit = source.facts.recipe.generation.max_new_tokens
    return (
        "import subprocess\n\n"
        f"text = {json.dumps(question_text(source.facts), ensure_ascii=False)}\n"
        "subprocess.run([\n"
        f'    "llama-completion", {", ".join(model)},\n'
        f'    "-p", text, "-n", "{limit}", "--temp", "0", "--no-display-prompt", "-no-cnv",\n'
        "], check=True)\n"
    )
