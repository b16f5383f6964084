"""The code in a card: Python that loads an adapter or a merged model and generates an answer."""

from __future__ import annotations

import json

from loraloom.base.supported_models import STARTER
from loraloom.data.sources.source_template import SourceTemplate
from loraloom.recipe import GenerationSettings
from loraloom.text.catalogue import filled
from loraloom.text.hub_name import split_hub_name
from loraloom.training.card_facts import Facts
from loraloom.training.language_code import begins_with_code, language_code

PLACEHOLDER = "Your text here"


def peft_code(facts: Facts, adapter: str, comment: str) -> str:
    """Return Python that loads base and adapter with PEFT and generates an answer.

    Args:
        facts: facts in the adapter's card.
        adapter: folder or hub name of the adapter.
        comment: description of `adapter`, for a comment in the code.
    """
    repository, revision = split_hub_name(facts.base)
    base, imported = json.dumps(repository, ensure_ascii=False), ""
    pinned = f", revision={json.dumps(revision)}" if revision else ""
    if facts.base == STARTER:
        base, imported = "model_folder()", "from loraloom.starter import model_folder\n"
    return (
        "from peft import PeftModel\n"
        "from transformers import AutoModelForSeq2SeqLM, AutoTokenizer\n"
        f"{imported}\n"
        f"base = {base}\n"
        f"adapter = {json.dumps(adapter, ensure_ascii=False)}  # {comment}\n"
        f"tokenizer = AutoTokenizer.from_pretrained(base{pinned})\n"
        f"model = AutoModelForSeq2SeqLM.from_pretrained(base{pinned}{_attention(facts)})\n"
        f"{_flag_line(facts)}"
        "model = PeftModel.from_pretrained(model, adapter).eval()\n"
        f"{_answer_code(facts)}"
    )


def merged_code(facts: Facts, folder: str, comment: str) -> str:
    """Return Python that loads a merged model with plain transformers and generates an answer.

    Args:
        facts: facts in the adapter's card.
        folder: folder of the merged model.
        comment: description of `folder`, for a comment in the code.
    """
    return (
        "from transformers import AutoModelForSeq2SeqLM, AutoTokenizer\n\n"
        f"folder = {json.dumps(folder, ensure_ascii=False)}  # {comment}\n"
        "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
        f"model = AutoModelForSeq2SeqLM.from_pretrained(folder{_attention(facts)}).eval()\n"
        f"{_flag_line(facts)}"
        f"{_answer_code(facts, is_in_config=True)}"
    )


def _attention(facts: Facts) -> str:
    """Return an argument that sets the attention implementation; "" if transformers' default works."""
    family = facts.family
    if family is None or family.attention == "sdpa":
        return ""
    return f', attn_implementation="{family.attention}"'


def _flag_line(facts: Facts) -> str:
    reason = filled(
        "transformers 5 sets this to True, and versions before {version} then scale the logits",
        version=facts.flag_matters_before,
    )
    return f"model.config.tie_word_embeddings = False  # {reason}\n" if facts.flag_matters else ""


def question_text(facts: Facts) -> str:
    """Return a source text in the form used for training, with a placeholder for the user's text."""
    template = SourceTemplate(facts.recipe.data.source_prefix)
    text = template.fill(dict.fromkeys(template.columns, PLACEHOLDER))
    return text + ("" if template.columns else PLACEHOLDER)


def _answer_code(facts: Facts, *, is_in_config: bool = False) -> str:
    text = question_text(facts)
    options = "" if is_in_config else f", {_options(facts.recipe.generation, bool(facts.languages))}"
    told, more = language_code(facts.languages, facts.origin, is_in_config=is_in_config)
    options += more
    return (
        told
        # transformers 4 returns token types if a tokenizer does not state which inputs its model takes.
        + f"inputs = tokenizer({json.dumps(text, ensure_ascii=False)}, "
        'return_tensors="pt", return_token_type_ids=False)\n'
        f"answer = model.generate(**inputs{options})\n"
        f"{_printing_code(facts)}"
    )


def _printing_code(facts: Facts) -> str:
    """Return code that prints an answer; it keeps special tokens that occurred in the training answers."""
    if not facts.origin.get("answer_tokens"):
        # Not every tokenizer treats the code of a language as a special token.
        text = "answer[0, 2:]" if begins_with_code(facts.languages, facts.origin) else "answer[0]"
        return f"print(tokenizer.decode({text}, skip_special_tokens=True))\n"
    start = "model.config.decoder_start_token_id"
    if facts.family is not None and not facts.family.ends_sources:
        start = "tokenizer.eos_token_id"  # its tokenizers add a start token but no end token
    return (
        f"# {filled('skip_special_tokens would drop tokens that belong to the answer')}\n"
        f'ends = {{*tokenizer("").input_ids, tokenizer.pad_token_id, {start}}}\n'
        "print(tokenizer.decode([token for token in answer[0].tolist() if token not in ends]))\n"
    )


def _options(generation: GenerationSettings, states_beams: bool) -> str:
    """Return the recipe's generation settings as arguments of transformers' generate."""
    usual = GenerationSettings()
    chosen = {
        key: value
        for key, value in generation.model_dump(exclude={"batch_size"}).items()
        if key == "max_new_tokens" or (key == "num_beams" and states_beams) or value != getattr(usual, key)
    }
    return ", ".join(f"{key}={value!r}" for key, value in chosen.items())
