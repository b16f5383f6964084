"""Texts about a folder that was merged shard by shard: what was verified, and what was not."""

from __future__ import annotations

from dataclasses import dataclass

from loraloom.export.merge_text import MergeSummary, flag_remark, rounding_remark
from loraloom.text.catalogue import filled
from loraloom.text.message import Message


@dataclass(frozen=True)
class WeightProof:
    """Results of the proof for a folder that was merged shard by shard.

    Args:
        num_merged, weight_error, rounding_beside_update: as in `Proof`.
        num_tensors: number of tensors of the model; in a new process, plain transformers loads all of them
            as they were merged, or as they are in the base, to the last bit.
        num_encodings, num_same_encodings: number of texts, and how many of them the folder's tokenizer
            encodes as in training.
        flag_matters: as in `ModelMeasurement`.
    """

    num_merged: int
    weight_error: float
    num_tensors: int
    num_encodings: int
    num_same_encodings: int
    flag_matters: bool
    rounding_beside_update: float | None


def shards_remarks(proof: WeightProof, dtype: str) -> list[str]:
    """List what users should know about the merged folder."""
    found: list[str] = [
        Message(
            "the proof covers the weights alone: {num_merged} linears are W + s·B·A, and plain transformers "
            "loads all {num_tensors} tensors exactly as merged; no answers were generated and no logits "
            "were compared, because that would require the base to fit in memory",
            num_merged=proof.num_merged,
            num_tensors=proof.num_tensors,
        )
    ]
    if proof.flag_matters:
        found.append(flag_remark())
    return [*found, *rounding_remark(proof.rounding_beside_update, dtype)]


def shards_figures(result: MergeSummary) -> list[tuple[str, str]]:
    """Format the result as rows of a table."""
    proof = result["proof"]
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
        (
            Message("new process: same tensors"),
            Message(
                "{num_same} of {num_answers}",
                num_same=proof["num_tensors"],
                num_answers=proof["num_tensors"],
            ),
        ),
        (Message("answers and logits"), Message("not compared (merged shard by shard)")),
    ]
    if proof["num_encodings"]:
        same = Message(
            "{num_same} of {num_answers}",
            num_same=proof["num_same_encodings"],
            num_answers=proof["num_encodings"],
        )
        rows.append((Message("new process: texts with the same tokens"), same))
    if proof["rounding_beside_update"] is not None:
        rows.append((Message("‖rounding‖ / ‖ΔW‖"), f"{proof['rounding_beside_update']:.2g}"))
    return rows


def proof_text() -> str:
    """Return the model card's paragraph on what was verified, and what was not."""
    return filled(
        "Merged shard by shard, because the base did not fit in memory or because this was requested. Each\n"
        "merged linear was compared with W + s·B·A, and every tensor that plain transformers loads from\n"
        "this folder in a new process with what was merged, to the last bit. No answers were generated,\n"
        "and no logits were compared."
    )
