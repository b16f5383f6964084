"""A merged folder in words: what should be known, its figures, its model card."""

from __future__ import annotations

from typing import Any

from loraloom.architectures.family import Family
from loraloom.export.merged_generation import FILE, GenerationDefaults
from loraloom.export.proof import Proof
from loraloom.training.adapter_card import (
    Facts,
    code,
    front_matter,
    merged_code,
    python_block,
    table,
    training_sections,
)


def remarks(proof: Proof, dtype: str) -> list[str]:
    """What should be known about the merged folder."""
    found = []
    if proof.reload.flag_matters:
        found.append(
            "this version of transformers loads tie_word_embeddings: true whatever the config says, and "
            "scales this family's logits by it: set model.config.tie_word_embeddings = False after "
            "from_pretrained, as the proof did (greedy answers are right without it; sampling, beams and "
            "losses are not)"
        )
    if proof.rounding is not None:
        found.append(
            f"rounded to {dtype}: logits move by up to {proof.rounding.max_difference:.3g} (the largest is "
            f"{proof.rounding.largest_logit:.3g}), {proof.rounding.num_same_answers} of "
            f"{proof.rounding.num_answers} greedy answers stay the same"
        )
    if (beside := proof.rounding_beside_update or 0) > 1:
        found.append(
            f"rounding to {dtype} changed the merged weights {beside:.1f} times as much as the adapter did: "
            "save --dtype float32, or keep the adapter apart"
        )
    return found


def figures(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The result as rows of a table."""
    proof, reload, rounding = result["proof"], result["proof"]["reload"], result["proof"]["rounding"]
    rows = [
        ("dtype", f"{result['dtype']} ({result['dtype_reason']})"),
        (
            "linears that are W + s·B·A",
            f"{proof['num_merged']}, to {proof['weight_error']:.2g} steps of float32",
        ),
        ("movement, ‖ΔW‖ / ‖W‖", f"{result['movement']:.2g}"),
        ("proven on", proof["rows"]),
        (
            "float32: largest |Δlogit|",
            f"{proof['merging']['max_difference']:.2g} of {proof['merging']['largest_logit']:.3g}",
        ),
        ("float32: same greedy answers", _share(proof["merging"])),
        ("fresh process: largest |Δlogit|", f"{reload['max_difference']:.2g}"),
        ("fresh process: same greedy answers", _share(reload)),
    ]
    if rounding is not None:
        rows += [
            (f"{result['dtype']}: largest |Δlogit|", f"{rounding['max_difference']:.2g}"),
            (f"{result['dtype']}: same greedy answers", _share(rounding, "")),
            ("‖rounding‖ / ‖ΔW‖", f"{proof['rounding_beside_update']:.2g}"),
        ]
    return rows


def _share(measured: dict[str, Any], others: str = " (the others are ties)") -> str:
    num, same = measured["num_answers"], measured["num_same_answers"]
    return f"{same} of {num}{others if same < num else ''}"


def merged_card(
    facts: Facts, result: dict[str, Any], proof: Proof, *, family: Family, logit_scale: float
) -> str:
    """README.md of the merged folder.

    Args:
        result: as `merge` returns it.
        family: of the base.
        logit_scale: the factor on the hidden states before the output head.
    """
    return "\n".join(
        [
            front_matter(facts, "transformers", "merged"),
            f"# {facts.base} with the LoRA adapter {facts.experiment.name} merged",
            "",
            "Trained and merged with LoRALoom: W + s·B·A in float32. Plain transformers loads it.",
            "",
            "## Use",
            "",
            python_block(merged_code(facts, ".", "this folder")),
            "",
            *_generation(result["generation"]),
            "## Elsewhere",
            "",
            *_notes(facts, proof),
            *_ctranslate2(family, is_scaled=logit_scale != 1.0),
            "## Proof",
            "",
            "Base with adapter, against this folder as a fresh process with plain transformers read it.",
            "",
            *table(("figure", "value"), figures(result)),
            "",
            *training_sections(facts),
        ]
    )


def _notes(facts: Facts, proof: Proof) -> list[str]:
    """On how other programs read the folder."""
    lines = []
    if proof.reload.flag_matters:
        lines += [
            "transformers 5 loads `tie_word_embeddings: true` for this family whatever the config says, and",
            "then scales the logits by d_model^-0.5, though the head is not tied. Set the flag after",
            "loading, as above. Greedy answers are right without it; sampling, beams and losses are not.",
            "",
        ]
    if not facts.origin.get("head_is_tied", True):
        lines += [
            "transformers 5 warns when it loads this folder that embeddings and head differ, so that it does",
            "not tie them. That is as it should be: the head is the base's own.",
            "",
        ]
    return lines


def _generation(inherited: dict[str, Any]) -> list[str]:
    """What the folder's own generation settings are, and what became of the base's."""
    found = GenerationDefaults(**inherited)
    return [
        "`generate` answers as the recipe's `generation` section says; the settings are in",
        f"{code(FILE)}. Arguments of a call go before them.",
        "",
        *(f"- {note[0].upper()}{note[1:]}." for note in found.notes()),
        *([""] if found.notes() else []),
    ]


def _ctranslate2(family: Family, *, is_scaled: bool) -> list[str]:
    """What its converter does with this very model; T5's flag stands for the scale, not for the tying."""
    imported = "from ctranslate2.converters import TransformersConverter\n"
    as_it_is = f'{imported}\nTransformersConverter(".").convert("ct2")\n'
    lines = [
        "CTranslate2's converter (4.8.5) multiplies the states before the output head by d_model^-0.5 if the",
        "loaded config says `tie_word_embeddings: true`, which transformers 5 loads for every T5, mT5 and",
        "UMT5, whatever config.json says. This model",
    ]
    if not family.forces_tied_flag:
        lines, block = ["CTranslate2 (4.8.5) converts this model as it is:"], as_it_is
    elif is_scaled:
        lines[-1] += " scales them too, so convert it as it is and leave the flag alone:"
        block = as_it_is
    else:
        lines[-1] += " does not, so all scores would be wrong. Set the flag between loading and converting:"
        block = (
            f"{imported}\n\n"
            "class Converter(TransformersConverter):\n"
            "    def load_model(self, model_class, name, **options):\n"
            "        model = super().load_model(model_class, name, **options)\n"
            "        model.config.tie_word_embeddings = False\n"
            "        return model\n\n\n"
            'Converter(".").convert("ct2")\n'
        )
    return [
        *lines,
        "",
        python_block(block),
        "",
        "Its `Translator` takes tokens and adds no end of text: give it",
        '`tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])`, and `beam_size=1` for greedy',
        "answers (its default is a beam of 2).",
        "",
    ]
