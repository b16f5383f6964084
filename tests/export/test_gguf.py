"""GGUF files, read back with `gguf`'s own reader; `make gguf` also runs them with llama.cpp."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from loraloom.architectures.families import FAMILIES
from loraloom.base.loading import Base, load_base
from loraloom.commands.export import export
from loraloom.errors import ModelError
from tests.commands.trained import train_small
from tests.export.gguf_bases import make_gguf_base, unigram_model

gguf = pytest.importorskip("gguf", reason="`make extras` installs it")

from loraloom.export.gguf.base_file import write_loaded  # noqa: E402
from loraloom.export.gguf.gguf_files import obstacle, write_adapter  # noqa: E402
from loraloom.export.gguf.tensors import GgufTensor, check_file, write_file  # noqa: E402
from loraloom.export.gguf.vocabulary import read_vocabulary  # noqa: E402
from loraloom.export.gguf_format import Gguf  # noqa: E402

# Kind, and whether the head is the embedding.
BASES = [("t5", True), ("t5", False), ("flan", False), ("mt5", True), ("umt5", True), ("umt5", False)]
# T5 1.0 scales its states whatever its head is; 1.1 and flan-T5 do not.
SCALED = {("t5", True), ("t5", False), ("umt5", True)}


@dataclass(frozen=True)
class Written:
    kind: tuple[str, bool]
    base: Base
    notes: list[str]
    fields: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    stored: dict[str, str]


def read(file: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor], dict[str, str]]:
    reader = gguf.GGUFReader(file)
    tensors = {
        own.name: torch.from_numpy(np.array(gguf.quants.dequantize(own.data, own.tensor_type)))
        for own in reader.tensors
    }
    stored = {own.name: own.tensor_type.name for own in reader.tensors}
    return {name: field.contents() for name, field in reader.fields.items()}, tensors, stored


def write(folder: Path, kind: str, tied: bool, quantization: str = "float32", **changes: Any) -> Written:
    base = load_base(
        str(make_gguf_base(folder / "base", kind, tied=tied, **changes)), dtype="float32", device="cpu"
    )
    notes = write_loaded(base, folder / "model.gguf", name="tiny", quantization=quantization)
    return Written((kind, tied), base, notes, *read(folder / "model.gguf"))


@pytest.fixture(scope="module", params=BASES, ids=[f"{'tied' if tied else 'own'}-{k}" for k, tied in BASES])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write(tmp_path_factory.mktemp("gguf"), *request.param)


def test_every_parameter_is_there_once_under_llama_cpps_name(written: Written) -> None:
    parameters = dict(written.base.model.named_parameters())
    assert len(written.tensors) == len(parameters)
    own, block = written.tensors, "encoder.block.1.layer"
    assert torch.equal(own["token_embd.weight"], parameters["shared.weight"])
    assert torch.equal(own["enc.blk.1.attn_q.weight"], parameters[f"{block}.0.SelfAttention.q.weight"])
    assert torch.equal(
        own["dec.blk.0.cross_attn_v.weight"], parameters["decoder.block.0.layer.1.EncDecAttention.v.weight"]
    )
    assert torch.equal(
        own["dec.blk.0.attn_rel_b.weight"],
        parameters["decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"],
    )
    assert ("output.weight" in own) == ("lm_head.weight" in parameters)


def test_the_scale_before_a_tied_head_is_in_the_last_norm(written: Written) -> None:
    """llama.cpp has no such scale: its log-probabilities would be those of logits √d_model times as large."""
    weights = written.base.model.get_parameter("decoder.final_layer_norm.weight")
    factor = 32**-0.5 if written.kind in SCALED else 1.0
    assert torch.equal(written.tensors["dec.output_norm.weight"], weights * factor)


def test_the_metadata_are_those_that_llama_cpp_reads(written: Written) -> None:
    fields = written.fields
    assert fields["general.architecture"] == "t5"
    assert fields["general.type"] == "model"
    own = {key.removeprefix("t5."): value for key, value in fields.items() if key.startswith("t5.")}
    assert own == {
        "context_length": 512,
        "embedding_length": 32,
        "feed_forward_length": 48,
        "block_count": 2,
        "decoder_block_count": 2,
        "attention.head_count": 4,
        "attention.key_length": 8,
        "attention.value_length": 8,
        "attention.layer_norm_epsilon": pytest.approx(1e-6),
        "attention.layer_norm_rms_epsilon": pytest.approx(1e-6),
        "attention.relative_buckets_count": 8,
        "decoder_start_token_id": 0,
    }
    assert fields["tokenizer.ggml.model"] == "t5"
    assert fields["tokenizer.ggml.eos_token_id"] == 1
    assert fields["tokenizer.ggml.add_eos_token"] is True
    assert fields["tokenizer.ggml.add_bos_token"] is False


def test_each_token_has_its_id(written: Written) -> None:
    tokens = written.fields["tokenizer.ggml.tokens"]
    tokenizer, num_embeddings = written.base.tokenizer, written.base.model.config.vocab_size
    assert len(tokens) == num_embeddings > len(tokenizer)
    assert tokens[: len(tokenizer)] == tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    kinds = written.fields["tokenizer.ggml.token_type"]
    assert [kinds[number] for number in (0, 1, 2, 3)] == [3, 3, 2, 1]  # control, control, unknown, normal
    assert kinds[-1] == 5  # unused


@pytest.mark.parametrize("quantization", ["bfloat16", "int8"])
def test_matrices_are_rounded_and_nothing_else(tmp_path: Path, quantization: str) -> None:
    own = write(tmp_path, "mt5", False, quantization, d_ff=64)
    kind = {"bfloat16": "BF16", "int8": "Q8_0"}[quantization]
    for name, stored in own.stored.items():
        is_exact = "norm" in name or "attn_rel_b" in name
        assert stored == ("F32" if is_exact else kind), name
    wanted = own.base.model.get_parameter("encoder.block.0.layer.1.DenseReluDense.wo.weight")
    off = (own.tensors["enc.blk.0.ffn_down.weight"] - wanted).abs().max() / wanted.abs().max()
    assert 0 < off < (2**-8 if quantization == "bfloat16" else 0.55 / 127)


def test_rows_that_are_no_multiple_of_32_stay_whole_and_are_named(tmp_path: Path) -> None:
    own = write(tmp_path, "t5", True, "int8")
    assert own.stored["enc.blk.0.ffn_down.weight"] == "F32"
    assert own.stored["enc.blk.0.ffn_up.weight"] == "Q8_0"
    assert own.notes == [
        "4 matrices stay in float32, because the length of their rows is not a multiple of 32"
    ]


def test_an_adapter_adds_its_own_scale_of_b_and_a(tmp_path: Path) -> None:
    base = load_base(str(make_gguf_base(tmp_path / "base", "mt5")), dtype="float32", device="cpu")
    module = "decoder.block.1.layer.1.EncDecAttention.o"
    a, b = torch.randn(4, 32), torch.randn(32, 4)
    described = base.family.llama_cpp(base.model.config)
    assert described is not None
    options: dict[str, Any] = {"described": described, "dimensions": base.dimensions, "name": "tiny"}
    tensors = {f"{module}.lora_A": a, f"{module}.lora_B": b}
    for scale in (2.0, 4.0):  # α / r, and α / √r
        file = tmp_path / f"{scale}.gguf"
        write_adapter(file, tensors, lora_alpha=8.0, scale_of={module: scale}.__getitem__, **options)
        fields, found, _ = read(file)
        assert (fields["general.type"], fields["adapter.type"]) == ("adapter", "lora")
        assert set(found) == {f"dec.blk.1.cross_attn_o.weight.lora_{end}" for end in "ab"}
        own_a, own_b = (found[f"dec.blk.1.cross_attn_o.weight.lora_{end}"] for end in "ab")
        # llama.cpp: W·x + (α / r) · B·(A·x)
        assert torch.allclose(fields["adapter.lora.alpha"] / 4 * own_b @ own_a, scale * b @ a)
    tensors = {"decoder.embed_tokens.lora_A": a, "decoder.embed_tokens.lora_B": b}
    with pytest.raises(ModelError, match=r"decoder.embed_tokens: llama.cpp does not adapt this module"):
        write_adapter(tmp_path / "no.gguf", tensors, lora_alpha=8.0, scale_of={}.__getitem__, **options)


@pytest.mark.parametrize("model_type", [key for key in FAMILIES if key not in ("t5", "mt5", "umt5")])
def test_families_without_an_architecture_are_refused(model_type: str) -> None:
    found = obstacle(FAMILIES[model_type], SimpleNamespace(), "float32")
    assert found.startswith(f"llama.cpp has no architecture for {FAMILIES[model_type].title}")


@pytest.mark.parametrize(
    ("change", "quantization", "reason"),
    [
        ({}, "float32", ""),
        ({"relative_attention_max_distance": 64}, "float32", "uses 128"),
        ({"feed_forward_proj": "gated-silu"}, "float32", "gated-silu"),
        ({}, "float16", "overflows"),
    ],
)
def test_what_llama_cpp_computes_otherwise_is_refused(
    change: dict[str, Any], quantization: str, reason: str
) -> None:
    config = {"model_type": "t5", "feed_forward_proj": "relu", **change}
    found = Gguf().why_not(FAMILIES["t5"], config, quantization, "merged")
    assert reason in found
    assert bool(found) == bool(reason)


def test_a_tokenizer_without_spiece_model_is_refused(tmp_path: Path) -> None:
    folder = make_gguf_base(tmp_path / "base", "t5")
    base = load_base(str(folder), dtype="float32", device="cpu")
    (folder / "spiece.model").unlink()
    with pytest.raises(ModelError, match=r"spiece\.model"):
        read_vocabulary(str(folder), base.tokenizer, 500)


def test_a_spiece_model_of_another_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_bytes(unigram_model())
    pieces = {"</s>": 77}
    tokenizer = SimpleNamespace(get_vocab=lambda: pieces, get_added_vocab=dict, all_special_tokens=[])
    with pytest.raises(ModelError, match="is not the vocabulary of the base's tokenizer"):
        read_vocabulary(str(tmp_path), tokenizer, 500)


def test_damage_while_writing_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    tensors = [GgufTensor("a.weight", torch.randn(4, 32), kind) for kind in ("F32",)]
    writer = gguf.GGUFWriter(file, "t5")
    starts = write_file(writer, file, tensors)
    check_file(file, tensors, starts)
    content = bytearray(file.read_bytes())
    content[starts["a.weight"] + 7] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelError, match="a tensor was written incorrectly"):
        check_file(file, tensors, starts)


def test_what_cannot_be_is_refused_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loraloom.commands.export.load_with_adapter", None)
    run = train_small(tmp_path / "trained", make_gguf_base(tmp_path / "base", "t5"))
    for asked, reason in (
        ({"adapter_only": True, "quantization": "int8"}, "an adapter alone can only be written in float32"),
        ({"quantization": "float16"}, "overflows"),
        ({}, r"reads T5's tokenizer from spiece\.model, which the base does not have"),
    ):
        if not asked:
            (tmp_path / "base" / "spiece.model").unlink()
        with pytest.raises(ModelError, match=reason):
            export(run, tmp_path / "out", format="gguf", **asked)
        assert not (tmp_path / "out").exists()


def test_without_llama_cpp_a_file_is_written_and_said_to_be_unverified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gguf, "runs_with", ("not_installed_at_all",))
    run = train_small(tmp_path / "trained", make_gguf_base(tmp_path / "base", "t5"))
    for name, form in (("model", {}), ("adapter", {"adapter_only": True})):
        made = export(run, tmp_path / name, format="gguf", **form)
        assert made["proof"] is None
        assert any("not verified" in note and "loraloom[llama-cpp]" in note for note in made["notes"])
        assert (tmp_path / name / f"{name}.gguf").is_file()
        assert "llama-completion" in (tmp_path / name / "README.md").read_text(encoding="utf-8")
