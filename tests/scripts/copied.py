"""A script in which nothing is wrong; the tests change one thing in it."""

from __future__ import annotations

from pathlib import Path

from loraloom.scripts.script_report import ScriptReport, check_script

SCRIPT = """\
import numpy as np
import torch
from datasets import load_dataset
from peft import LoraConfig, TaskType, get_peft_model
from transformers import (
    AutoModelForSeq2SeqLM, AutoTokenizer, DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments,
)

MODEL = "google/flan-t5-base"
LENGTH = 64
tokenizer = AutoTokenizer.from_pretrained(MODEL)
model = AutoModelForSeq2SeqLM.from_pretrained(MODEL, dtype=torch.bfloat16)
rows = load_dataset("json", data_files="my.jsonl")["train"].train_test_split(test_size=0.1, seed=7)


def tokenize(examples):
    texts = ["summarize: " + text for text in examples["document"]]
    made = tokenizer(texts, max_length=2 * LENGTH, truncation=True)
    labels = tokenizer(text_target=examples["summary"], max_length=LENGTH, truncation=True)
    made["labels"] = labels["input_ids"]
    return made


def compute_metrics(predicted):
    ids = np.where(predicted.predictions != -100, predicted.predictions, tokenizer.pad_token_id)
    texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
    return {"rougeL": len(texts)}


tokens = rows.map(tokenize, batched=True, remove_columns=["document", "summary"])
lora = LoraConfig(task_type=TaskType.SEQ_2_SEQ_LM, r=8, lora_alpha=16, target_modules=["q", "v"])
model = get_peft_model(model, lora)
arguments = Seq2SeqTrainingArguments(
    output_dir="out",
    learning_rate=3e-4,
    num_train_epochs=2,
    eval_strategy="epoch",
    save_strategy="epoch",
    load_best_model_at_end=True,
    predict_with_generate=True,
    generation_max_length=LENGTH,
)
trainer = Seq2SeqTrainer(
    model=model,
    args=arguments,
    train_dataset=tokens["train"],
    eval_dataset=tokens["test"],
    data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
    processing_class=tokenizer,
    compute_metrics=compute_metrics,
)
trainer.train()
model.save_pretrained("adapter")
model.eval()
answer = model.generate(**tokenizer("summarize: a long text", return_tensors="pt"), max_new_tokens=LENGTH)
print(tokenizer.decode(answer[0], skip_special_tokens=True))
"""


def changed(*changes: tuple[str, str]) -> str:
    """The script with other text in some places, each of which is there."""
    text = SCRIPT
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


def checked(folder: Path, text: str, name: str = "train.py") -> ScriptReport:
    """What is found in a script."""
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return check_script(file)
