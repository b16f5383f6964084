"""Texts about an export: remarks, figures and the README in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loraloom.export.export_proof import ExportProof
from loraloom.export.format import ExportSource, Format
from loraloom.export.formats import FORMATS
from loraloom.export.recipe_decoding import beyond_greedy, shown_settings
from loraloom.recipe import GenerationSettings
from loraloom.run.documents.comparison import Difference
from loraloom.run.documents.words import shown_word
from loraloom.text.catalogue import filled, rendered
from loraloom.text.message import Message
from loraloom.text.units import signed
from loraloom.training.adapter_card import front_matter, python_block, table, training_sections
from loraloom.training.card_facts import Facts


def export_remarks(format: Format, proof: ExportProof | None) -> list[str]:
    """List what users should know about an export."""
    if proof is None:
        return [not_proven(format)]
    measured = proof.measured
    found: list[str] = []
    if not proof.is_exact:
        found.append(
            Message(
                "rounded: {num_changed} of {num_answers} greedy answers differ from those of base + "
                "adapter in float32",
                num_changed=measured.num_answers - measured.num_same_answers,
                num_answers=measured.num_answers,
            )
        )
    found += [
        Message(
            "{metric} is {verdict} than that of base + adapter: {difference}",
            metric=own.metric,
            verdict=shown_word(own.verdict),
            difference=difference_words(own),
        )
        for own in proof.figures
        if own.verdict == "worse"
    ]
    return found


def decoding_remarks(format: Format, settings: GenerationSettings, proof: ExportProof | None) -> list[str]:
    """Return a remark if the recipe's decoding can make the export's answers differ from the run's."""
    beyond = beyond_greedy(settings)
    if not beyond.keys() <= format.decodes:
        return [
            Message(
                "the example in README.md answers greedily, but the run answers with {decoding}, so answers "
                "can differ",
                decoding=shown_settings(beyond),
            )
        ]
    same = None if proof is None else proof.measured.num_same_decoded
    if proof is None or same is None or same == proof.measured.num_answers or not proof.is_exact:
        return []
    return [
        Message(
            "with {decoding}, {num_changed} of {num_answers} answers differ from those of base + adapter: "
            "{title} has its own rules for this kind of decoding",
            decoding=shown_settings(beyond),
            num_changed=proof.measured.num_answers - same,
            num_answers=proof.measured.num_answers,
            title=format.title,
        )
    ]


def not_proven(format: Format) -> str:
    """Return the remark that an export was not verified, and what to install."""
    extra = format.runtime_extra or format.extra
    return Message(
        "written, but not verified: its runtime ({modules}) is not installed. Install it with "
        "`pip install 'loraloom[{extra}]'`, and export again",
        modules=", ".join(format.missing(format.runs_with)),
        extra=extra,
    )


def result_figures(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Format the result of `export` as rows of a table."""
    proof = None if result["proof"] is None else ExportProof.from_json(result["proof"])
    format = FORMATS[result["format"]]
    return [("format", f"{format.title}, {result['quantization']}"), *export_figures(proof, format)]


def export_figures(proof: ExportProof | None, format: Format) -> list[tuple[str, str]]:
    """Format a proof as rows of a table."""
    if proof is None:
        return [(Message("verified"), not_proven(format))]
    measured = proof.measured
    computed = Message(", computed in {dtype}", dtype=proof.computed_in) if proof.computed_in else ""
    rows: list[tuple[str, str]] = [
        (Message("verified with"), Message("{runtime}{computed}", runtime=proof.runtime, computed=computed)),
        (Message("verified on"), proof.rows),
    ]
    if proof.merging is not None:
        rows.append((Message("merged in float32: largest |Δlogit|"), f"{proof.merging:.2g}"))
    rows.append(
        (
            Message("same greedy answers"),
            Message(
                "{num_same} of {num_answers}",
                num_same=measured.num_same_answers,
                num_answers=measured.num_answers,
            )
            if not proof.is_exact or measured.num_same_answers == measured.num_answers
            else Message(
                "{num_same} of {num_answers} (the others are ties)",
                num_same=measured.num_same_answers,
                num_answers=measured.num_answers,
            ),
        )
    )
    if measured.num_same_decoded is not None:
        rows.append(
            (
                Message("same answers with {decoding}", decoding=shown_settings(proof.decoding)),
                Message(
                    "{num_same} of {num_answers}",
                    num_same=measured.num_same_decoded,
                    num_answers=measured.num_answers,
                ),
            )
        )
    if measured.largest_difference is not None and measured.mean_found is not None:
        rows += [
            (Message("largest difference in log-probability"), f"{measured.largest_difference:.2g}"),
            (
                Message("mean log-probability per token"),
                Message(
                    "{found:.4f} (base + adapter: {expected:.4f})",
                    found=measured.mean_found,
                    expected=measured.mean_expected,
                ),
            ),
        ]
    return [*rows, *((own.metric, difference_words(own)) for own in proof.figures)]


def difference_words(own: Difference) -> str:
    """Format a difference with its interval and verdict."""
    return Message(
        "{difference} [{low}, {high}], {verdict}",
        difference=signed(own.difference, 3),
        low=signed(own.low, 3),
        high=signed(own.high, 3),
        verdict=shown_word(own.verdict),
    )


def export_card(facts: Facts, format: Format, source: ExportSource, proof: ExportProof | None) -> str:
    """Return the text of an exported folder's README.md."""
    named = {"base": facts.base, "experiment": facts.experiment.name, "title": format.title}
    if source.form == "merged":
        title = filled("{base} with the LoRA adapter {experiment}, for {title}", **named)
    else:
        title = filled("{experiment}: a LoRA adapter for {base}, for {title}", **named)
    return "\n".join(
        [
            front_matter(facts, format.library, source.form),
            f"# {title}",
            "",
            filled("Exported with LoRALoom, in {quantization}.", quantization=source.quantization),
            "",
            f"## {filled('Use')}",
            "",
            python_block(format.example(source)),
            "",
            f"## {filled('Proof')}",
            "",
            filled(
                "The base with the adapter, in float32, was compared with this folder, run by the format's "
                "own runtime in a new process."
            ),
            "",
            *table(
                (filled("figure"), filled("value")),
                [(rendered(name), rendered(value)) for name, value in export_figures(proof, format)],
            ),
            "",
            *training_sections(facts),
        ]
    )
