"""Texts about a merged folder: remarks, figures and the model card."""

from __future__ import annotations

from typing import TypedDict

from loraloom.architectures.family import Family
from loraloom.export.merged_generation import FILE, GenerationDefaults
from loraloom.export.proof import Proof
from loraloom.run.documents.document import JsonObject
from loraloom.text.catalogue import filled, rendered
from loraloom.text.message import Message
from loraloom.training.adapter_card import code, front_matter, python_block, table, training_sections
from loraloom.training.card_code import merged_code
from loraloom.training.card_facts import Facts


class MergeSummary(TypedDict):
    """The outcome of merging, which the result of `merge` and the folder's card contain."""

    folder: str
    experiment: str
    dtype: str
    dtype_reason: str
    movement: float
    generation: JsonObject
    shard_by_shard: bool
    proof: JsonObject
    notes: list[str]


class MergeDocument(MergeSummary):
    """The result of `merge`: the outcome of merging, and the size of the folder's files in bytes."""

    bytes: int


def remarks(proof: Proof, dtype: str) -> list[str]:
    """List what users should know about the merged folder."""
    found: list[str] = []
    if proof.reload.flag_matters:
        found.append(flag_remark())
    if proof.rounding is not None:
        found.append(
            Message(
                "rounded to {dtype}: logits move by up to {max_difference:.3g} (the largest is "
                "{largest_logit:.3g}); {num_same_answers} of {num_answers} greedy answers are "
                "unchanged",
                dtype=dtype,
                max_difference=proof.rounding.max_difference,
                largest_logit=proof.rounding.largest_logit,
                num_same_answers=proof.rounding.num_same_answers,
                num_answers=proof.rounding.num_answers,
            )
        )
    return [*found, *rounding_remark(proof.rounding_beside_update, dtype)]


def flag_remark() -> str:
    """Return the remark that `tie_word_embeddings` must be corrected after loading."""
    return Message(
        "this version of transformers loads `tie_word_embeddings: true` whatever the "
        "config says, and scales this family's logits by it; set "
        "`model.config.tie_word_embeddings = False` after `from_pretrained`, as the proof "
        "did (without it, greedy answers are correct, but sampling, beam search and losses "
        "are not)"
    )


def rounding_remark(ratio: float | None, dtype: str) -> list[str]:
    """Return a remark if rounding changed the merged weights more than the adapter did.

    Args:
        ratio: ‖rounding‖ / ‖ΔW‖; None if nothing was rounded.
        dtype: the dtype that the weights are rounded to.
    """
    if ratio is None or ratio <= 1:
        return []
    return [
        Message(
            "rounding to {dtype} changed the merged weights {ratio:.1f} times as much as the "
            "adapter did; use `--dtype float32`, or keep the adapter separate",
            dtype=dtype,
            ratio=ratio,
        )
    ]


def figures(result: MergeSummary) -> list[tuple[str, str]]:
    """Format the result as rows of a table."""
    proof, reload, rounding = result["proof"], result["proof"]["reload"], result["proof"]["rounding"]
    rows = [
        ("dtype", Message("{dtype} ({reason})", dtype=result["dtype"], reason=result["dtype_reason"])),
        (
            Message("linears with W + s·B·A"),
            Message(
                "{num_merged}, within {error:.2g} steps of float32",
                num_merged=proof["num_merged"],
                error=proof["weight_error"],
            ),
        ),
        (Message("movement, ‖ΔW‖ / ‖W‖"), f"{result['movement']:.2g}"),
        (Message("verified on"), proof["rows"]),
        (
            Message("{dtype}: largest |Δlogit|", dtype="float32"),
            Message(
                "{difference:.2g} of {largest:.3g}",
                difference=proof["merging"]["max_difference"],
                largest=proof["merging"]["largest_logit"],
            ),
        ),
        (Message("{dtype}: same greedy answers", dtype="float32"), _share(proof["merging"])),
        (Message("new process: largest |Δlogit|"), f"{reload['max_difference']:.2g}"),
        (Message("new process: same greedy answers"), _share(reload)),
    ]
    if rounding is not None:
        rows += [
            (
                Message("{dtype}: largest |Δlogit|", dtype=result["dtype"]),
                f"{rounding['max_difference']:.2g}",
            ),
            (Message("{dtype}: same greedy answers", dtype=result["dtype"]), _share(rounding, may_tie=False)),
            (Message("‖rounding‖ / ‖ΔW‖"), f"{proof['rounding_beside_update']:.2g}"),
        ]
    return rows


def proof_text() -> str:
    """Return a sentence for the folder's card that states what the proof compared."""
    return filled(
        "The base with the adapter was compared with this folder, as plain transformers loads it in a new "
        "process."
    )


def _share(measured: JsonObject, *, may_tie: bool = True) -> str:
    num, same = measured["num_answers"], measured["num_same_answers"]
    if may_tie and same < num:
        return Message("{num_same} of {num_answers} (the others are ties)", num_same=same, num_answers=num)
    return Message("{num_same} of {num_answers}", num_same=same, num_answers=num)


def merged_card(
    facts: Facts,
    result: MergeSummary,
    measured: list[tuple[str, str]],
    proof: str,
    *,
    family: Family,
    logit_scale: float,
    flag_matters: bool,
) -> str:
    """Return the text of the merged folder's README.md.

    Args:
        result: the outcome of merging.
        measured: the figures of the proof.
        proof: description of what was compared.
        family: family of the base.
        logit_scale: factor applied to the hidden states before the output head.
        flag_matters: as in `ModelMeasurement`.
    """
    title = filled(
        "{base} with the LoRA adapter {experiment} merged", base=facts.base, experiment=facts.experiment.name
    )
    return "\n".join(
        [
            front_matter(facts, "transformers", "merged"),
            f"# {title}",
            "",
            filled(
                "Trained and merged with LoRALoom: W + s·B·A in float32. It loads with plain transformers."
            )
            if facts.has_run
            else filled("Merged with LoRALoom: W + s·B·A in float32. It loads with plain transformers."),
            "",
            f"## {filled('Use')}",
            "",
            python_block(merged_code(facts, ".", filled("this folder"))),
            "",
            *_generation(result["generation"], has_run=facts.has_run),
            f"## {filled('Other programs')}",
            "",
            *_notes(facts, flag_matters=flag_matters),
            *_ctranslate2(family, is_scaled=logit_scale != 1.0),
            f"## {filled('Proof')}",
            "",
            proof,
            "",
            *table(
                (filled("figure"), filled("value")),
                [(rendered(name), rendered(value)) for name, value in measured],
            ),
            "",
            *training_sections(facts),
        ]
    )


def _notes(facts: Facts, *, flag_matters: bool) -> list[str]:
    """Describe how other programs read the folder."""
    lines = []
    if flag_matters:
        lines += [
            filled(
                "transformers 5 loads `tie_word_embeddings: true` for this family whatever the config says, "
                "and\nthen scales the logits by d_model^-0.5, though the head is not tied. Set the flag "
                "after loading\nas above. Without it, greedy answers are correct, but sampling, beam search "
                "and losses are not."
            ),
            "",
        ]
    if not facts.origin.get("head_is_tied", True):
        lines += [
            filled(
                "When loading this folder, transformers 5 warns that embeddings and head differ, so it does\n"
                "not tie them. This is intended, because the head is the base's own."
            ),
            "",
        ]
    return lines


def _generation(inherited: JsonObject, *, has_run: bool) -> list[str]:
    """Describe the folder's generation settings, and what became of the base's own settings."""
    found = GenerationDefaults(**inherited)
    return [
        filled(
            "`generate` answers according to the recipe's `generation` section; the settings are in\n"
            "{file}. Arguments of a call take precedence.",
            file=code(FILE),
        )
        if has_run
        else filled(
            "`generate` answers with LoRALoom's defaults and the settings given by `--set`; they are in\n"
            "{file}. Arguments of a call take precedence.",
            file=code(FILE),
        ),
        "",
        *(f"- {note[0].upper()}{note[1:]}." for note in map(rendered, found.notes())),
        *([""] if found.notes() else []),
    ]


def _ctranslate2(family: Family, *, is_scaled: bool) -> list[str]:
    """Describe how to convert this model with CTranslate2; for T5, a flag controls the logits' scale."""
    if family.without_ctranslate2:
        return [
            filled(
                "Do not convert this model with CTranslate2 (4.8.5): {reason}.",
                reason=family.without_ctranslate2,
            ),
            "",
        ]
    imported = "from ctranslate2.converters import TransformersConverter\n"
    as_it_is = f'{imported}\nTransformersConverter(".").convert("ct2")\n'
    if not family.forces_tied_flag:
        how, block = filled("CTranslate2 (4.8.5) converts this model without changes:"), as_it_is
    elif is_scaled:
        how, block = (
            filled(
                "CTranslate2's converter (4.8.5) scales hidden states before the output head by d_model^-0.5 "
                "if the\nloaded config says `tie_word_embeddings: true`, which transformers 5 loads for "
                "every T5, mT5 and\nUMT5, whatever config.json says. This model scales them too, so convert "
                "it without changing the flag:"
            ),
            as_it_is,
        )
    else:
        how = filled(
            "CTranslate2's converter (4.8.5) scales hidden states before the output head by d_model^-0.5 "
            "if the\nloaded config says `tie_word_embeddings: true`, which transformers 5 loads for "
            "every T5, mT5 and\nUMT5, whatever config.json says. This model does not, so all scores would be "
            "wrong. Set the flag after loading and before converting:"
        )
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
        how,
        "",
        python_block(block),
        "",
        filled(
            "Its `Translator` takes tokens and does not add EOS: give it\n"
            '`tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])`, and `beam_size=1` for greedy\n'
            "answers (its default is a beam of 2)."
        ),
        "",
    ]
