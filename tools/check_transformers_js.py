"""Whether transformers.js reads our ONNX exports and says the same: `make transformers-js`.

transformers.js is installed once in a folder, without the scripts of its packages, which would download a
CUDA build. A tiny base of each kind with an adapter is exported to ONNX, float32 and int8, and merged; then a
process of Node.js encodes texts and answers them greedily, and transformers answers with the merged model.
The int8 graphs round, so that their answers need not be the same; they must be there.

python -m tools.check_transformers_js --folder .venv-compat
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from loraloom.commands.export import export
from tests.commands.conftest import DIRECTIONS
from tests.commands.trained import train_small
from tests.families import TINY_FAMILIES
from tests.tiny import make_folder

PACKAGE = "@huggingface/transformers@4.3.2"
# transformers.js has no class for these; and Marian's folders have no tokenizer.json, which it needs.
REFUSED = ("umt5", "pegasus", "t5gemma", "t5gemma2", "marian")
KINDS = tuple(kind for kind in TINY_FAMILIES if kind not in REFUSED)
TEXTS = ("我感到焦虑 3 how?", "how 1 2", "和朋友说 17.")
OPTIONS = {"do_sample": False, "max_new_tokens": 12, "repetition_penalty": 1.0}
READER = """
import { AutoModelForSeq2SeqLM, AutoTokenizer, env } from '@huggingface/transformers';
const [folders, texts, options, languages] = process.argv.slice(2).map((word) => JSON.parse(word));
env.allowRemoteModels = false;
env.localModelPath = '';
const found = [];
for (const [folder, dtype] of folders) {
  const said = {};
  found.push(said);
  try {
    const local = { local_files_only: true, dtype };
    const tokenizer = await AutoTokenizer.from_pretrained(folder, local);
    const model = await AutoModelForSeq2SeqLM.from_pretrained(folder, local);
    said.sources = [];
    said.answers = [];
    for (const text of texts) {
      // Otherwise the language is that of the tokenizer's file. The pipeline would force the target's code
      // too, which is the second time for a decoder that starts with it.
      const inputs = languages
        ? tokenizer._build_translation_inputs(text, {}, { ...languages }) : tokenizer(text);
      said.sources.push(Array.from(inputs.input_ids.data, Number));
      const answers = await model.generate({ ...inputs, ...options });
      said.answers.push(Array.from(answers.data, Number));
    }
  } catch (error) {
    said.error = String(error).split('\\n')[0];
  }
}
console.log(JSON.stringify({ version: env.version, found }));
"""


def environment(folder: Path) -> Path:
    """A folder from which Node.js finds transformers.js; made if it is not there."""
    place = folder / "transformers-js"
    place.mkdir(parents=True, exist_ok=True)
    if not (place / ".installed").exists():
        words = [
            "npm",
            "install",
            "--silent",
            "--no-save",
            "--ignore-scripts",
            "--prefix",
            str(place),
            PACKAGE,
        ]
        subprocess.run(words, check=True)
        (place / ".installed").touch()
    (place / "reader.mjs").write_text(READER, encoding="utf-8")
    return place


def answers_of(folder: Path) -> dict[str, Any]:
    """What transformers answers with a merged model."""
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    head, embedding = model.get_output_embeddings(), model.get_decoder().get_input_embeddings()
    model.config.tie_word_embeddings = head.weight is embedding.weight
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = [tokenizer(text, return_tensors="pt") for text in TEXTS]
    return {
        "sources": [own["input_ids"][0].tolist() for own in inputs],
        "answers": [model.generate(**own, **OPTIONS)[0].tolist() for own in inputs],
    }


class Verdict(NamedTuple):
    """Whether a kind is right, and the line to print."""

    is_right: bool
    words: str


def check(kind: str, root: Path, place: Path) -> Verdict:
    """Export a tiny base with an adapter, and compare."""
    run = train_small(root, make_folder(root / "base", kind), **DIRECTIONS.get(kind, {}))
    export(run, root / "fp32", format="onnx")
    export(run, root / "q8", format="onnx", quantization="int8")
    export(run, root / "merged", format="transformers")
    folders = [[str(root / dtype), dtype] for dtype in ("fp32", "q8")]
    codes = DIRECTIONS.get(kind)
    languages = codes and {"src_lang": codes["source_lang"], "tgt_lang": codes["target_lang"]}
    words = ["node", str(place / "reader.mjs"), *map(json.dumps, (folders, TEXTS, OPTIONS, languages))]
    told = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(told.stdout.splitlines()[-1])
    (exact, rounded), wanted = result["found"], answers_of(root / "merged")
    says = "same tokens, same answers" if exact == wanted else f"OTHER: {exact} instead of {wanted}"
    also = "loads" if "answers" in rounded else rounded["error"]
    words_said = f"transformers.js {result['version']}: {says}; int8: {also}"
    return Verdict(exact == wanted and "answers" in rounded, words_said)


def main() -> int:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    arguments.add_argument("--folder", type=Path, required=True, help="where transformers.js is kept")
    arguments.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    options = arguments.parse_args()
    place = environment(options.folder)
    is_right = True
    for kind in options.kinds:
        with tempfile.TemporaryDirectory() as scratch:
            verdict = check(kind, Path(scratch), place)
        is_right &= verdict.is_right
        print(f"{kind}: {verdict.words}", flush=True)
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
