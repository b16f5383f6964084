"""What docs/symptoms.md says of the stock libraries happens in them, on a tiny model."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import (
    AutoPeftModelForSeq2SeqLM,
    LoraConfig,
    PeftModel,
    get_peft_model,
    prepare_model_for_kbit_training,
)
from safetensors.torch import load_file
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)

from tests.scripts.test_script_checks import CASES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "symptoms.md"
ROWS = [("how do I deal with stress", "go slowly"), ("my friend is angry", "talk about it and wait")] * 4
# What goes wrong here is often what the libraries warn of.
pytestmark = pytest.mark.filterwarnings("ignore")


class Stock:
    """A tiny mT5 with the stock libraries.

    Args:
        base: its folder.
        out: where checkpoints go.
    """

    def __init__(self, base: Path, out: Path) -> None:
        self.base, self.out = base, out
        self.tokenizer = AutoTokenizer.from_pretrained(base)

    def model(self, **loading: Any) -> Any:
        return AutoModelForSeq2SeqLM.from_pretrained(self.base, **loading)

    def adapted(self, base: Any = None, **config: Any) -> Any:
        torch.manual_seed(0)
        settings = {"task_type": "SEQ_2_SEQ_LM", "target_modules": ["q", "v"], "r": 4} | config
        return get_peft_model(self.model() if base is None else base, LoraConfig(**settings))

    def rows(self, **labels: Any) -> Dataset:
        made = []
        for source, answer in ROWS:
            target = self.tokenizer(text_target=answer, **labels)["input_ids"]
            made.append({**self.tokenizer(source), "labels": target})
        return Dataset.from_list(made)

    def trainer(self, model: Any, rows: Dataset | None = None, **given: Any) -> Seq2SeqTrainer:
        own = {key: given.pop(key) for key in ("eval_dataset", "compute_metrics") if key in given}
        settings = {"max_steps": 2, "learning_rate": 1e-2, "per_device_train_batch_size": 4} | given
        arguments = Seq2SeqTrainingArguments(
            output_dir=str(self.out), report_to="none", use_cpu=True, disable_tqdm=True, **settings
        )
        return Seq2SeqTrainer(
            model=model,
            args=arguments,
            train_dataset=self.rows() if rows is None else rows,
            data_collator=DataCollatorForSeq2Seq(self.tokenizer, model=model),
            processing_class=self.tokenizer,
            **own,
        )

    def answer(self, model: Any, **settings: Any) -> list[int]:
        asked = self.tokenizer("my friend is angry", return_tensors="pt")
        return model.generate(**asked, **({"max_new_tokens": 12} | settings))[0].tolist()  # type: ignore[no-any-return]


@pytest.fixture
def stock(tiny: Callable[[str], Path], tmp_path: Path) -> Stock:
    return Stock(tiny("mt5"), tmp_path)


def test_answers_equal_the_bases_after_training_at_a_rate_for_all_weights(stock: Stock) -> None:
    model = stock.adapted()
    stock.trainer(model, learning_rate=9.65e-7).train()
    assert stock.answer(model.eval()) == stock.answer(stock.model())
    model = stock.adapted()
    stock.trainer(model, learning_rate=5e-2, max_steps=8).train()
    assert stock.answer(model.eval()) != stock.answer(stock.model())


def test_float16_overflows_where_bfloat16_does_not(stock: Stock) -> None:
    model = stock.model()
    with torch.no_grad():
        for block in model.encoder.block:  # activations as large as those of real T5 models
            block.layer[-1].DenseReluDense.wi_0.weight *= 300
            block.layer[-1].DenseReluDense.wi_1.weight *= 300
    batch = stock.tokenizer("my friend is angry", return_tensors="pt")
    for dtype, is_finite in ((torch.bfloat16, True), (torch.float16, False)):
        loss = model.to(dtype)(**batch, labels=batch["input_ids"]).loss
        assert bool(torch.isfinite(loss)) is is_finite


def test_padding_in_labels_lowers_the_loss_that_is_logged_and_not_the_one_that_counts(stock: Stock) -> None:
    logged, counting = {}, {}
    for name, labels in (("padded", {"padding": "max_length", "max_length": 64}), ("masked", {})):
        trainer = stock.trainer(
            stock.adapted(target_modules="all-linear"), stock.rows(**labels), max_steps=12, logging_steps=12
        )
        trainer.train()
        logged[name] = trainer.state.log_history[0]["loss"]
        counting[name] = trainer.evaluate(stock.rows())["eval_loss"]
    assert logged["padded"] < logged["masked"]
    assert counting["padded"] > counting["masked"]


def test_losses_of_micro_batches_are_added_up_unless_the_base_refuses(stock: Stock) -> None:
    def loss(
        accumulation: int, *, on_base: bool = False, on_adapted: bool = False, smoothing: float = 0
    ) -> float:
        base = stock.model()
        if on_base:
            base.accepts_loss_kwargs = False
        model = stock.adapted(base)
        if on_adapted:
            model.accepts_loss_kwargs = False
        trainer = stock.trainer(
            model,
            max_steps=1,
            logging_steps=1,
            gradient_accumulation_steps=accumulation,
            per_device_train_batch_size=8 // accumulation,
            label_smoothing_factor=smoothing,
        )
        trainer.train()
        return float(trainer.state.log_history[0]["loss"])

    plain = loss(1)
    assert loss(4) == pytest.approx(4 * plain, rel=0.1)
    assert loss(4, on_adapted=True) == pytest.approx(4 * plain, rel=0.1)
    assert loss(4, on_base=True) == pytest.approx(plain, rel=0.1)
    assert loss(4, smoothing=0.1) == pytest.approx(loss(1, smoothing=0.1), rel=0.1)


def test_no_eval_loss_is_logged_by_default(stock: Stock) -> None:
    trainer = stock.trainer(stock.adapted(), eval_dataset=stock.rows())
    trainer.train()
    assert not any("eval_loss" in entry for entry in trainer.state.log_history)


def test_a_checkpoint_among_the_arguments_is_not_resumed(stock: Stock) -> None:
    stock.trainer(stock.adapted(), save_steps=2).train()
    last = str(stock.out / "checkpoint-2")
    steps = {}
    for name, in_arguments in (("arguments", True), ("train", False)):
        given = {"resume_from_checkpoint": last} if in_arguments else {}
        trainer = stock.trainer(stock.adapted(), max_steps=3, logging_steps=1, **given)
        trainer.train(resume_from_checkpoint=None if in_arguments else last)
        steps[name] = [entry["step"] for entry in trainer.state.log_history if "loss" in entry]
    assert steps["arguments"] == [1, 2, 3]
    assert set(steps["train"]) <= {3}


def test_frozen_adapters_cannot_be_trained(stock: Stock) -> None:
    stock.adapted().save_pretrained(stock.out / "adapter")
    frozen = [
        stock.adapted(inference_mode=True),
        PeftModel.from_pretrained(stock.model(), stock.out / "adapter"),
        prepare_model_for_kbit_training(stock.adapted(), use_gradient_checkpointing=False),
    ]
    for model in frozen:
        with pytest.raises(RuntimeError, match="does not require grad"):
            stock.trainer(model).train()


def test_what_is_left_of_a_merged_model_that_is_thrown_away_saves_no_weights(stock: Stock) -> None:
    model = stock.adapted()
    model.merge_and_unload()
    model.save_pretrained(stock.out / "adapter")
    assert load_file(stock.out / "adapter" / "adapter_model.safetensors") == {}


def test_a_trainer_of_the_bare_base_saves_a_base_that_cannot_be_loaded(stock: Stock) -> None:
    base = stock.model()
    stock.adapted(base)
    trainer = stock.trainer(base)
    trainer.save_model(str(stock.out / "saved"))
    assert any("lora_A" in name for name in load_file(stock.out / "saved" / "model.safetensors"))
    query = "encoder.block.0.layer.0.SelfAttention.q.weight"
    loaded = AutoModelForSeq2SeqLM.from_pretrained(stock.out / "saved").state_dict()[query]
    assert not torch.equal(loaded, stock.model().state_dict()[query])


def test_an_adapter_of_another_task_is_refused(stock: Stock) -> None:
    stock.adapted(task_type="CAUSAL_LM").save_pretrained(stock.out / "adapter")
    with pytest.raises(ValueError, match="Expected target PEFT class"):
        AutoPeftModelForSeq2SeqLM.from_pretrained(stock.out / "adapter")


def test_after_training_answers_have_dropout(stock: Stock) -> None:
    model = stock.adapted(lora_dropout=0.5)
    stock.trainer(model, learning_rate=5e-2, max_steps=4).train()
    assert model.training
    assert stock.answer(model) != stock.answer(model)
    assert stock.answer(model.eval()) == stock.answer(model)


def test_answers_without_a_limit_end_after_20_tokens(stock: Stock) -> None:
    assert len(stock.answer(stock.model(), max_new_tokens=None, min_new_tokens=20)) == 21


def test_sampling_settings_alone_change_nothing(stock: Stock) -> None:
    assert stock.answer(stock.model(), temperature=0.1, top_k=3) == stock.answer(stock.model())


def test_metrics_get_logits_or_minus_100_unless_the_script_prevents_it(stock: Stock) -> None:
    seen: list[Any] = []

    def remember(predicted: Any) -> dict[str, float]:
        seen.append(predicted)
        return {"seen": 1.0}

    for generates in (False, True):
        stock.trainer(
            stock.model(),
            eval_dataset=stock.rows(),
            compute_metrics=remember,
            predict_with_generate=generates,
            per_device_eval_batch_size=4,
        ).evaluate()
    logits, tokens = seen[0].predictions, seen[1].predictions
    assert (logits[0] if isinstance(logits, tuple) else logits).ndim == 3
    assert np.ndim(tokens) == 2
    assert (seen[1].label_ids == -100).any()
    with pytest.raises(OverflowError):
        stock.tokenizer.batch_decode(seen[1].label_ids)


# The page


def test_every_row_of_the_page_says_what_a_check_says() -> None:
    """The words are the beginning, or a part, of what the check says."""
    page = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?!cause|---)(.*) \|$", page, flags=re.MULTILINE)
    assert len(rows) > 25
    checks, said_by_checks = {check for _, check, *_ in CASES.values()}, messages()
    for row in rows:
        _, said, _ = row.split(" | ")
        name, words = re.match(r"`([\w-]+)`: (.*)", said).groups()  # type: ignore[union-attr]
        assert name in checks, row
        assert any(words in message for message in said_by_checks), words


def messages() -> set[str]:
    """The templates of the checks of scripts."""
    folder = PAGE.parents[1] / "loraloom" / "scripts"
    return {
        node.args[0].value
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Message"
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }


def test_every_symptom_names_a_test_that_is_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    sections = page.split("\n## ")[1:]
    assert len(sections) >= 12
    for section in sections:
        named = re.findall(r"`(tests/[\w/]+\.py)`", section)
        assert named, section.partition("\n")[0]
        assert all((PAGE.parents[1] / name).is_file() for name in named)
