"""Final test of a folder merged shard by shard, in a new process, with nothing but transformers.

python -m loraloom.export.weight_hashes FOLDER PROOF

PROOF/question.json  rows, and the family's attention
PROOF/measured.json  the SHA-256 of every tensor that transformers loads, by its name in the model

The weights are mapped into memory from the folder's files, in the dtype that they are saved in. From
LoRALoom, this module imports only the type of the rows and what it shares with the final test of other
folders.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM

from loraloom.export.fresh_process import MEASURED, QUESTION, flag_matters, num_same_encodings
from loraloom.export.runtime import ProofRows


@dataclass(frozen=True)
class LoadedFolder:
    """What transformers loaded from a folder.

    Args:
        hashes: SHA-256 of each tensor's bytes, by its name in the model.
        missing, unexpected: names of weights that the folder lacks, and of weights that the model lacks.
        flag_matters, num_same_encodings: as in `ModelMeasurement`.
    """

    hashes: dict[str, str]
    missing: list[str]
    unexpected: list[str]
    flag_matters: bool
    num_same_encodings: int


def bytes_of(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor, which are not copied if it is contiguous."""
    flat = tensor.detach().contiguous().view(-1)
    return flat.view(torch.uint8).numpy().data if len(flat) else memoryview(b"")


def load_hashed(folder: Path, rows: ProofRows) -> LoadedFolder:
    """Load a folder as any user would, in the dtype it is saved in, and hash its weights."""
    model, report = AutoModelForSeq2SeqLM.from_pretrained(
        folder,
        dtype="auto",
        use_safetensors=True,
        attn_implementation=rows.attention,
        trust_remote_code=False,
        output_loading_info=True,
    )
    return LoadedFolder(
        hashes={name: _sha256(tensor) for name, tensor in model.state_dict().items()},
        missing=sorted(report["missing_keys"]),
        unexpected=sorted(report["unexpected_keys"]),
        flag_matters=_flag_matters(model, rows),
        num_same_encodings=num_same_encodings(folder, rows),
    )


def _flag_matters(model: Any, rows: ProofRows) -> bool:
    """Return whether correcting `tie_word_embeddings` changes the logits of one token."""
    head, embedding = model.get_output_embeddings(), model.get_decoder().get_input_embeddings()
    is_tied = head.weight is embedding.weight
    if model.config.tie_word_embeddings == is_tied:
        return False
    end = [rows.eos_token_id]
    one = replace(rows, sources=[end], targets=[end], texts=[], start_token_ids=rows.start_token_ids[:1])
    return flag_matters(model, one, is_tied)


def _sha256(tensor: Tensor) -> str:
    return hashlib.sha256(bytes_of(tensor)).hexdigest()


def main(folder: str, proof: str) -> None:
    """Load the folder, hash its weights, and write the results."""
    question = json.loads((Path(proof) / QUESTION).read_text(encoding="utf-8"))
    found = load_hashed(Path(folder), ProofRows(**question["rows"]))
    (Path(proof) / MEASURED).write_text(json.dumps(asdict(found)), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
