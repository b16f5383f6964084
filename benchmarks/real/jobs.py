"""The whole job on the lemmatizer, and what saving does to annalog's positions: each returns its figures."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from benchmarks.real import words
from loraloom.base.loading import load_base
from loraloom.export.transformers_folder import save_model

POSITIONS = ("model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight")
MOLECULES = ("CC(=O)Oc1ccccc1C(=O)O", "CN1C=NC2=C1C(=O)N(C(=O)N2C)C", "CC(C)Cc1ccc(cc1)C(C)C(=O)O")
RECIPE = """\
model_name_or_path: ../lemmatizer
data: {{train: [{train}], eval: eval.jsonl, test: test.jsonl, retain: old.jsonl}}
# The fourth layer of each stack is the norm that lemmatizers of Marian's kind do not have.
lora: {{r: 8, lora_dropout: 0.05, target_modules: 'model\\.(encoder|decoder)\\.layers\\.[012]\\..*'}}
training: {{learning_rate: 0.001, num_train_epochs: 5, per_device_train_batch_size: 16, save_strategy: epoch}}
generation: {{max_new_tokens: 32}}
seeds: 3
device: cpu
"""
RUNS = {"names": ["names.jsonl"], "names-and-old": ["names.jsonl", "old-train.jsonl"]}


def write_data(packages: Path, folder: Path) -> dict[str, int]:
    """Write the rows and a recipe for each run, and return how many rows each file has."""
    folder.mkdir(exist_ok=True)
    parts = words.split_names(words.names(packages))
    nouns = random.Random(0).sample(words.NOUNS, len(words.NOUNS))
    files = {
        "names": words.rows(parts["train"], "'", 3),
        "eval": words.rows(parts["eval"], "'", 2),
        "test": words.rows(parts["test"], "'", 2),
        "old-train": words.rows(nouns[::2], "", 3),
        "old": words.rows(nouns[1::2], "", 2),
    }
    written = {}
    for name, rows in files.items():
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        written[name] = len(lines)
    for name, train in RUNS.items():
        (folder / f"{name}.yaml").write_text(RECIPE.format(train=", ".join(train)), encoding="utf-8")
    return written


def loraloom(folder: Path, *arguments: str) -> None:
    """Run a command as a user does, in a folder."""
    print("$ loraloom", *arguments, flush=True)
    script = str(Path(sys.executable).with_name("loraloom"))
    subprocess.run([script, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def adapt(folder: Path, name: str) -> dict[str, Any]:
    """Train three seeds, compare on held-out names and on old words, merge one; return the figures."""
    started = time.perf_counter()
    loraloom(folder, "train", f"{name}.yaml", "--out", name)
    seconds = time.perf_counter() - started
    loraloom(folder, "compare", name)
    loraloom(folder, "compare", name, "--prompts", "old.jsonl", "--name", "old")
    loraloom(folder, "merge", name, f"{name}-merged", "--experiment", "main@42", "--dtype", "bfloat16")
    compared = {
        part: json.loads((folder / name / "compare" / f"{part}.json").read_text(encoding="utf-8"))
        for part in ("test", "old")
    }
    return {"seconds": seconds, **compared, "merged": merged_answers(folder, name, compared["test"])}


def merged_answers(folder: Path, name: str, compared: dict[str, Any]) -> dict[str, int]:
    """How many answers of the merged folder, in plain transformers, are those of base and adapter."""
    merged = folder / f"{name}-merged"
    model = AutoModelForSeq2SeqLM.from_pretrained(merged, dtype=torch.bfloat16).eval()
    tokenizer = AutoTokenizer.from_pretrained(merged)
    same = 0
    for row in compared["rows"]:
        inputs = tokenizer(row["source"], return_tensors="pt")
        inputs.pop("token_type_ids", None)
        with torch.no_grad():
            answer = model.generate(**inputs)
        same += tokenizer.decode(answer[0], skip_special_tokens=True) == row["answers"]["main@42"]
    return {"same": same, "rows": len(compared["rows"])}


def lemmatizer_difference(package: Path, folder: Path, sources: Sequence[str]) -> tuple[float, float]:
    """The largest difference of a logit between the package's weights in nn.Transformer and our folder's.

    Returns:
        It, and the largest logit.
    """
    state = torch.load(package / "weights" / "best_transformer.pth", map_location="cpu", weights_only=True)
    theirs = nn.Transformer(256, 8, 3, 3, 512, batch_first=True).eval()
    own = {
        name.removeprefix("transformer."): t for name, t in state.items() if name.startswith("transformer.")
    }
    theirs.load_state_dict(own)
    base = load_base(str(folder), dtype="float32", device="cpu")

    def embedded(side: str, ids: Tensor) -> Tensor:
        tokens = state[f"{side}_tok_emb.embedding.weight"][ids] * math.sqrt(256)
        found: Tensor = tokens + state["positional_encoding.pe"][:, : ids.shape[1]]
        return found

    largest, difference = 0.0, 0.0
    for source in sources:
        ids = torch.tensor([base.tokenizer(source)["input_ids"]])
        answer = torch.cat([torch.tensor([[base.start_token_id]]), ids[:, :-1]], dim=1)
        mask = nn.Transformer.generate_square_subsequent_mask(answer.shape[1])
        with torch.no_grad():
            states = theirs(embedded("src", ids), embedded("trg", answer), tgt_mask=mask)
            wanted = states @ state["generator.weight"].t() + state["generator.bias"]
            found = base.model(input_ids=ids, decoder_input_ids=answer).logits
        largest = max(largest, float(wanted.abs().max()))
        difference = max(difference, float((found - wanted).abs().max()))
    return difference, largest


def saved_positions(folder: Path, work: Path) -> dict[str, float]:
    """How far logits move when annalog's folder is saved, by transformers alone and by LoRALoom."""
    base = load_base(str(folder), dtype="float32", device="cpu")
    plain = AutoModelForSeq2SeqLM.from_pretrained(folder)
    plain.save_pretrained(work / "by-transformers")
    (work / "by-loraloom").mkdir(exist_ok=True)
    save_model(base, work / "by-loraloom")

    def logits(model: Any) -> list[Tensor]:
        ids = [torch.tensor([base.tokenizer(molecule)["input_ids"]]) for molecule in MOLECULES]
        with torch.no_grad():
            return [model(input_ids=each, decoder_input_ids=each[:, :-1]).logits for each in ids]

    wanted = logits(base.model.eval())
    moved = {"largest_logit": max(float(each.abs().max()) for each in wanted)}
    for by in ("by-transformers", "by-loraloom"):
        found = logits(AutoModelForSeq2SeqLM.from_pretrained(work / by).eval())
        moved[by] = max(float((a - b).abs().max()) for a, b in zip(found, wanted, strict=True))
    return moved
