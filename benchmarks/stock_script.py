"""The script people copy, at its best: PEFT and Seq2SeqTrainer with dynamic padding, one configuration a run.

python -m benchmarks.stock_script --model FOLDER --data FILE --out DIR [--r 16] [--learning-rate 1e-3] …
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)


def main() -> None:
    """Train one adapter as a user would."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", required=True)
    parser.add_argument("--r", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--batch-size", type=int, default=5)
    parser.add_argument("--max-steps", type=int, default=40)
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForSeq2SeqLM.from_pretrained(options.model, dtype="float32")
    config = LoraConfig(
        r=options.r, lora_alpha=32, lora_dropout=0.1, target_modules="all-linear", task_type="SEQ_2_SEQ_LM"
    )
    model = get_peft_model(model, config)
    rows = json.loads(options.data.read_text(encoding="utf-8"))
    encoded = [
        tokenizer(row["instruction"], text_target=row["response"], truncation=True, max_length=256)
        for row in rows
    ]
    arguments = Seq2SeqTrainingArguments(
        output_dir=options.out,
        per_device_train_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        max_steps=options.max_steps,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = Seq2SeqTrainer(
        model=model,
        args=arguments,
        train_dataset=encoded,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
    )
    trainer.train()
    model.save_pretrained(options.out)


if __name__ == "__main__":
    main()
