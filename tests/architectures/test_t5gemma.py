"""T5Gemma beyond what holds for every family: masks, windows, soft caps, its start, tables and configs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from loraloom.architectures.t5gemma import T5Gemma
from loraloom.bank.bank import AdapterBank
from loraloom.bank.objective import example_losses, output_head
from loraloom.base.loading import Base, load_base
from loraloom.base.targets import resolve_targets, unique_targets
from loraloom.checks.data.light_tokenizer import TextTokenizer
from loraloom.checks.gate import check_loss, run_gate
from loraloom.data.encoding import encode, encode_sources, encode_texts
from loraloom.errors import ModelError, TargetError
from loraloom.evaluate.generation import answer
from loraloom.recipe import GenerationSettings
from tests.parity.rig import batch_of, random_rows, unwrap
from tests.tiny import make_folder

ROWS = list(random_rows(9, seed=3))


@pytest.fixture
def t5gemma(loaded: Callable[[str], Base]) -> Any:
    yield loaded("t5gemma")
    unwrap(loaded("t5gemma"))


def own_losses(base: Base, rows: Any) -> torch.Tensor:
    """Each row's loss by the model's own forward, alone and without padding."""
    losses = []
    for row in rows:
        source, labels = (torch.from_numpy(ids).long()[None] for ids in (row.input_ids, row.labels))
        losses.append(base.model(input_ids=source, labels=labels, use_cache=False).loss * labels.shape[1])
    return torch.stack(losses)


@torch.no_grad()
def test_packed_rows_are_the_models_own_forward(t5gemma: Base) -> None:
    packed, padded = (batch_of(t5gemma, {None: ROWS}, packing=packing) for packing in (True, False))
    assert len(packed.labels) < len(padded.labels)
    wanted = own_losses(t5gemma, ROWS)
    for batch in (packed, padded):
        torch.testing.assert_close(example_losses(t5gemma, batch)[0], wanted, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_mask_of_booleans_is_not_what_eager_attention_reads(
    t5gemma: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would add 1 to what is seen and 0 to what is not."""
    batch, wanted = batch_of(t5gemma, {None: ROWS}), own_losses(t5gemma, ROWS)
    monkeypatch.setattr(T5Gemma, "_as_read", lambda self, mask, dtype: mask)
    assert int(((example_losses(t5gemma, batch)[0] - wanted).abs() > 1e-2).sum()) >= 7


@torch.no_grad()
def test_windows_hold_within_an_example(t5gemma: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its layers with a window see 3 tokens back, and the encoder's 3 in both directions."""
    batch, wanted = batch_of(t5gemma, {None: ROWS}), own_losses(t5gemma, ROWS)
    masks = T5Gemma._masks_by_layer

    def all_seen(*args: Any) -> Any:
        own = masks(*args)
        return {**own, "sliding_attention": own["full_attention"]}

    monkeypatch.setattr(T5Gemma, "_masks_by_layer", all_seen)
    assert int(((example_losses(t5gemma, batch)[0] - wanted).abs() > 1e-3).sum()) >= 3


def test_logits_are_capped_and_scores_too(t5gemma: Base) -> None:
    head = output_head(t5gemma)
    assert head.softcap == 3.0
    assert head.weight is t5gemma.model.lm_head.out_proj.weight
    (finding,) = run_gate(t5gemma, [], {}, random_rows(9, seed=3), packing=True, checks=[check_loss])
    assert finding.level == "ok", finding.message
    layers = t5gemma.model.model.decoder.layers
    assert t5gemma.model.config._attn_implementation == "eager"
    assert {layer.self_attn.attn_logit_softcapping for layer in layers} == {2.0}


@pytest.mark.parametrize(
    "changes",
    [
        {"final_logit_softcapping": None, "attn_logit_softcapping": None},
        {"layer_types": ["full_attention", "full_attention"]},
        {"num_key_value_heads": 1, "num_hidden_layers": 1},
        {"attention_bias": True},
    ],
    ids=str,
)
def test_the_loss_is_the_models_own_forward_whatever_the_config(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    base = load_base(str(make_folder(tmp_path / "it", "t5gemma", **changes)), device="cpu")
    (finding,) = run_gate(base, [], {}, random_rows(9, seed=3), packing=True, checks=[check_loss])
    assert finding.level != "error", finding.message


def test_dropout_within_the_attention_is_off_in_train_mode(t5gemma: Base) -> None:
    attentions = [m for m in t5gemma.model.modules() if hasattr(m, "attention_dropout")]
    assert len(attentions) == 6
    assert t5gemma.model.config.attention_dropout == 0.1  # what its folder asks for
    assert {m.attention_dropout for m in attentions} == {0.0}
    assert t5gemma.model.training


def test_answers_start_with_the_decoders_bos_and_not_with_two(t5gemma: Base) -> None:
    bos = t5gemma.tokenizer.bos_token_id
    assert t5gemma.start_token_id == bos == t5gemma.model.config.decoder.bos_token_id
    assert t5gemma.tokenizer(text_target="ab")["input_ids"][0] == bos  # what would be learnt twice
    ids = t5gemma.tokenizer("ab", add_special_tokens=False)["input_ids"]
    limits = {"max_source_length": 9, "max_target_length": 3}

    class Row:
        source, response, parts = "ab", "ab", b""

    row = encode([Row()], t5gemma.tokenizer, **limits, frame=t5gemma.frame)[0]
    assert row.input_ids.tolist() == [bos, *ids]  # as its tokenizer writes it
    assert row.labels.tolist() == [*ids, 1]
    assert t5gemma.layout.shift_right(torch.from_numpy(row.labels)).tolist() == [bos, *ids]
    for limit, num_cut in ((3, 0), (2, 1)):
        sources = [bos, *ids][:limit]
        assert encode_texts(["ab"], t5gemma.tokenizer, limit, frame=t5gemma.frame) == ([sources], num_cut)
        for truncation in ("right", "context"):
            cut, _ = encode_sources([Row()], t5gemma.tokenizer, limit, truncation, frame=t5gemma.frame)
            assert cut == [sources]
    assert t5gemma.answer_text.texts([row.labels]) == ["ab"]

    light = TextTokenizer.of_folder(Path(t5gemma.name))
    assert light.source_ids(["ab"]) == [[bos, *ids]]
    assert light.target_ids(["ab", ""]) == [[*ids, 1], [1]]


@torch.no_grad()
def test_greedy_answers_are_transformers_own_though_rows_leave_the_batch(t5gemma: Base) -> None:
    """With a cache whose windows are the decoder's; the source has none."""
    sources = [row.input_ids.tolist() for row in ROWS]
    settings = GenerationSettings(max_new_tokens=12, batch_size=9)
    ours = answer(AdapterBank(t5gemma), [None], sources, settings)[None]
    t5gemma.model.eval()
    for source, own in zip(sources, ours, strict=True):
        theirs = t5gemma.model.generate(input_ids=torch.tensor([source]), max_new_tokens=12)[0, 1:].tolist()
        assert own == (theirs[: theirs.index(1)] if 1 in theirs else theirs)
    t5gemma.model.train()
    assert len({tuple(own) for own in ours}) > 4
    assert any(len(own) > 4 for own in ours)


def test_a_head_of_its_own_and_a_tied_one_are_saved_so_that_they_load_again(tmp_path: Path) -> None:
    """The head is tied to the decoder's embedding; the encoder has a table of its own."""
    for tied in (True, False):
        folder = make_folder(tmp_path / f"{tied}", "t5gemma", tied=tied)
        base = load_base(str(folder), device="cpu")
        assert base.head_is_tied == tied
        assert base.model.get_input_embeddings() is base.model.get_encoder().embed_tokens
        assert base.head.weight is not base.model.get_input_embeddings().weight
        again = tmp_path / f"{tied} again"
        base.model.save_pretrained(again)
        base.tokenizer.save_pretrained(again)
        assert load_base(str(again), device="cpu").fingerprint == base.fingerprint
        plain = AutoModelForSeq2SeqLM.from_pretrained(again).state_dict()
        for name, tensor in base.model.state_dict().items():
            assert torch.equal(tensor, plain[name]), name


def test_names_of_t5_stand_for_its_own(t5gemma: Base) -> None:
    def names(target_modules: str | list[str]) -> list[str]:
        return [
            t.name for t in unique_targets(resolve_targets(t5gemma.model, t5gemma.family, target_modules))
        ]

    for theirs, own in (
        (["q", "v"], ["q_proj", "v_proj"]),
        (["cross:k", "encoder:o"], ["cross:k_proj", "encoder:o_proj"]),
        (["wi_0", "wi_1", "wo"], ["gate_proj", "up_proj", "down_proj"]),
        (["cross_attn.q"], ["cross_attn.q_proj"]),
    ):
        assert names(theirs) == names(own)
        assert names(own)
    assert set(names("all-linear")) == set(names(["q", "k", "v", "o", "wi_0", "wi_1", "wo"]))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wi", "matches no linear of t5gemma"),
        ("fc1", "matches no linear"),
        ("embed_tokens", "is the embedding, the output head or another module"),
        ("out_proj", "is the embedding, the output head or another module"),
        ("lm_head", "is the embedding, the output head or another module"),
    ],
)
def test_what_it_does_not_have_is_refused(t5gemma: Base, name: str, said: str) -> None:
    with pytest.raises(TargetError) as caught:
        resolve_targets(t5gemma.model, t5gemma.family, ["q", name])
    assert f"`{name}` {said}" in str(caught.value)


def changed_config(folder: Path, out: Path, stack: str, **changes: Any) -> Path:
    """A folder whose config of one stack says something else; the rest are links."""
    out.mkdir()
    for file in folder.iterdir():
        (out / file.name).symlink_to(file)
    values = json.loads((folder / "config.json").read_text())
    values[stack] |= changes
    (out / "config.json").unlink()
    (out / "config.json").write_text(json.dumps(values))
    return out


def test_what_older_versions_left_in_a_stacks_config_is_let_pass(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    left = {"_sliding_window_pattern": 2, "_name_or_path": "", "_attn_implementation_autoset": True}
    folder = changed_config(tiny("t5gemma"), tmp_path / "it", "encoder", **left)
    assert load_base(str(folder), device="cpu").head_is_tied


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": -1}, "`decoder.hidden_size` is not a valid size"),
        ({"num_key_value_heads": 0}, "`decoder.num_key_value_heads` is not a valid size"),
        ({"max_position_embeddings": 10**12}, "max_position_embeddings` is larger than in any real model"),
        (
            {"_attn_implementation": "owner/kernels"},
            "`_attn_implementation`, which lets transformers load code",
        ),
        (
            {"attn_implementation": "owner/kernels"},
            "`attn_implementation`, which lets transformers load code",
        ),
        ({"auto_map": {"AutoConfig": "code.C"}}, "names code to run"),
        ({"bos_token_id": None}, "it is not known which token its answers begin with"),
    ],
    ids=str,
)
def test_what_a_stacks_own_config_must_not_say(
    tiny: Callable[[str], Path], tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    folder = changed_config(tiny("t5gemma"), tmp_path / "it", "decoder", **changes)
    if "bos_token_id" in changes:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.bos_token = None
        (folder / "tokenizer_config.json").unlink()
        (folder / "tokenizer.json").unlink()
        tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError) as caught:
        load_base(str(folder), device="cpu")
    assert said in str(caught.value)
