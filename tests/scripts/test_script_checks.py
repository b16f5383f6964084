"""Each check of a script finds its mistake where it stands, and is silent about a script without one."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from loraloom.recipe.reading import parse_recipe
from loraloom.scripts.facts import Facts
from loraloom.scripts.script import Script
from loraloom.scripts.script_source import Source
from loraloom.scripts.script_suite import SUITE
from tests.scripts.copied import SCRIPT, changed, checked

LABELS = 'labels = tokenizer(text_target=examples["summary"], max_length=LENGTH, truncation=True)'
MODEL = 'MODEL = "google/flan-t5-base"'
MADE = "made = tokenizer(texts, max_length=2 * LENGTH, truncation=True)"
LORA = 'lora = LoraConfig(task_type=TaskType.SEQ_2_SEQ_LM, r=8, lora_alpha=16, target_modules=["q", "v"])'
DTYPE = ", dtype=torch.bfloat16"
NLLB = (
    (MODEL, 'MODEL = "facebook/nllb-200-distilled-600M"'),
    ('["q", "v"]', '["q_proj", "v_proj"]'),
)
Change = tuple[str, str]
# Name: level, check, words of the message, the line that is named, and what is changed.
CASES: dict[str, tuple[str, str, str, str, tuple[Change, ...]]] = {
    "a removed argument": (
        "error",
        "removed-names",
        "no argument `evaluation_strategy`",
        "evaluation_strategy",
        (("    eval_strategy=", "    evaluation_strategy="),),
    ),
    "a mistyped argument": (
        "error",
        "removed-names",
        "no argument `learning_rat`",
        "learning_rat=",
        (("    learning_rate=", "    learning_rat="),),
    ),
    "the tokenizer of a Trainer": (
        "error",
        "removed-names",
        "no argument `tokenizer`",
        "tokenizer=tokenizer",
        (("processing_class=tokenizer", "tokenizer=tokenizer"),),
    ),
    "an argument of another class": (
        "error",
        "removed-names",
        "no argument `lora_r`",
        "lora_r=8",
        ((" r=8,", " lora_r=8,"),),
    ),
    "8 bits": (
        "error",
        "removed-names",
        "no argument `load_in_8bit`",
        "load_in_8bit",
        ((DTYPE, ", load_in_8bit=True"),),
    ),
    "target mode": (
        "error",
        "removed-names",
        "`as_target_tokenizer`",
        "as_target_tokenizer",
        (
            (
                f"    {LABELS}",
                "    with tokenizer.as_target_tokenizer():\n        labels = tokenizer(examples['summary'])",
            ),
        ),
    ),
    "a pipeline": (
        "error",
        "removed-names",
        "no pipeline `summarization`",
        "pipeline(",
        (("model.eval()\n", "model.eval()\npipe = pipeline('summarization', model=model)\n"),),
    ),
    "AdamW of transformers": (
        "error",
        "removed-names",
        "has no `AdamW`",
        "AdamW(",
        (("trainer.train()", "import transformers\noptimizer = transformers.AdamW([])\ntrainer.train()"),),
    ),
    "padding in labels": (
        "error",
        "labels",
        "padding counts in the loss",
        "text_target",
        ((LABELS, LABELS.replace("truncation", 'padding="max_length", truncation')),),
    ),
    "labels from target mode, padded": (
        "error",
        "labels",
        "padding counts in the loss",
        "examples['summary']",
        ((LABELS, "labels = tokenizer(examples['summary'], padding=True)"),),
    ),
    "padded sources": (
        "warning",
        "padding",
        "padded to the maximum",
        "texts, max_length",
        ((MADE, MADE.replace("truncation", 'padding="max_length", truncation')),),
    ),
    "padding without truncation": (
        "warning",
        "truncation",
        "only pads",
        "texts, max_length",
        ((MADE, MADE.replace("truncation=True", "padding=True")),),
    ),
    "truncation without a length": (
        "note",
        "truncation",
        "model_max_length",
        "texts, truncation",
        ((MADE, "made = tokenizer(texts, truncation=True)"),),
    ),
    "labels without EOS": (
        "error",
        "labels",
        "never learns to stop",
        "text_target",
        ((LABELS, LABELS.replace("truncation", "add_special_tokens=False, truncation")),),
    ),
    "labels with two EOS": (
        "warning",
        "labels",
        "end with two",
        "</s>",
        ((LABELS, 'labels = tokenizer(text_target=[text + "</s>" for text in examples["summary"]])'),),
    ),
    "labels that are the sources": (
        "error",
        "labels",
        "learns to copy",
        'made["input_ids"]',
        (
            ('    made["labels"] = labels["input_ids"]', '    made["labels"] = made["input_ids"].copy()'),
            (f"    {LABELS}\n", "    tokenizer(text_target='x')\n"),
        ),
    ),
    "a collator for decoder-only models": (
        "error",
        "labels",
        "learns to copy",
        "LanguageModeling",
        (
            (
                "DataCollatorForSeq2Seq(tokenizer, model=model)",
                "DataCollatorForLanguageModeling(tokenizer, mlm=False)",
            ),
        ),
    ),
    "a collator without labels": (
        "error",
        "labels",
        "does not pad labels",
        "WithPadding",
        (("DataCollatorForSeq2Seq(tokenizer, model=model)", "DataCollatorWithPadding(tokenizer)"),),
    ),
    "no collator": (
        "error",
        "labels",
        "labels are not padded",
        "Seq2SeqTrainer(",
        (("    data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),\n", ""),),
    ),
    "smoothing without decoder inputs": (
        "error",
        "labels",
        "decoder inputs",
        "DataCollatorForSeq2Seq(tokenizer)",
        (
            ("DataCollatorForSeq2Seq(tokenizer, model=model)", "DataCollatorForSeq2Seq(tokenizer)"),
            ("    learning_rate=", "    label_smoothing_factor=0.1,\n    learning_rate="),
        ),
    ),
    "smoothing": (
        "note",
        "loss",
        "not the cross-entropy",
        "label_smoothing_factor",
        (("    learning_rate=", "    label_smoothing_factor=0.1,\n    learning_rate="),),
    ),
    "padding with EOS": (
        "error",
        "labels",
        "padding token becomes EOS",
        "pad_token",
        (("model = AutoModel", "tokenizer.pad_token = tokenizer.eos_token\nmodel = AutoModel"),),
    ),
    "text that reaches the collator": (
        "warning",
        "columns",
        "text columns stay",
        "remove_unused_columns",
        (
            ("    learning_rate=", "    remove_unused_columns=False,\n    learning_rate="),
            (', remove_columns=["document", "summary"]', ""),
        ),
    ),
    "a transform whose columns are removed": (
        "error",
        "columns",
        "removes the text columns",
        "set_transform",
        (("lora = ", "rows.set_transform(tokenize)\nlora = "),),
    ),
    "training on the test part": (
        "error",
        "split",
        "uses the part `test`",
        'train_dataset=tokens["test"]',
        (('train_dataset=tokens["train"]', 'train_dataset=tokens["test"]'),),
    ),
    "evaluation on what is trained on": (
        "error",
        "split",
        "rows that are trained on",
        "train_dataset",
        (('eval_dataset=tokens["test"]', 'eval_dataset=tokens["train"]'),),
    ),
    "a split without a seed": (
        "note",
        "split",
        "drawn again",
        "train_test_split",
        ((", seed=7", ""),),
    ),
    "no languages of labels": ("error", "languages", "`tgt_lang` is never set", "text_target", NLLB),
    "no languages of sources": ("warning", "languages", "`src_lang` is never set", "text_target", NLLB),
    "no language of answers": (
        "error",
        "languages",
        "`forced_bos_token_id` is never set",
        "model.generate",
        NLLB,
    ),
    "greedy answers of a translation model": ("note", "answers", "beam search", "model.generate", NLLB),
    "a causal class": (
        "error",
        "base",
        "not a causal model",
        "AutoModelForCausalLM.from",
        (("AutoModelForSeq2SeqLM.from", "AutoModelForCausalLM.from"),),
    ),
    "no head": (
        "error",
        "base",
        "no output head",
        "AutoModel.from",
        (("AutoModelForSeq2SeqLM.from", "AutoModel.from"),),
    ),
    "a gap filler": (
        "note",
        "base",
        "`<extra_id_0>`",
        "ForSeq2SeqLM.from",
        ((MODEL, 'MODEL = "google/mt5-small"'),),
    ),
    "float16 in training": (
        "error",
        "precision",
        "float16 overflows",
        "fp16=True",
        (("    learning_rate=", "    fp16=True,\n    learning_rate="),),
    ),
    "float16 in loading": (
        "error",
        "precision",
        "float16 overflows",
        "torch.float16",
        (("dtype=torch.bfloat16", "torch_dtype=torch.float16"),),
    ),
    "half": (
        "error",
        "precision",
        "float16 overflows",
        "model.half()",
        (("model.eval()", "model.half().eval()"),),
    ),
    "a quantized base that is not prepared": (
        "warning",
        "quantization",
        "without `prepare_model_for_kbit_training`",
        "ForSeq2SeqLM.from",
        ((DTYPE, ", quantization_config=BitsAndBytesConfig(load_in_8bit=True)"),),
    ),
    "merging into a quantized base": (
        "warning",
        "merge",
        "merged into a quantized base",
        "merge_and_unload",
        (
            (DTYPE, ", quantization_config=BitsAndBytesConfig(load_in_8bit=True)"),
            ('model.save_pretrained("adapter")', "model = model.merge_and_unload()"),
        ),
    ),
    "merging into a base that is loaded again, quantized": (
        "warning",
        "merge",
        "merged into a quantized base",
        "merge_and_unload",
        (
            (
                'model.save_pretrained("adapter")',
                "again = AutoModelForSeq2SeqLM.from_pretrained(MODEL, load_in_8bit=True)\n"
                'again = PeftModel.from_pretrained(again, "adapter")\n'
                "again = again.merge_and_unload()",
            ),
        ),
    ),
    "targets of another family": (
        "error",
        "targets",
        "has no `q_proj`, `v_proj`: `get_peft_model` fails",
        "LoraConfig(",
        (('["q", "v"]', '["q_proj", "v_proj"]'),),
    ),
    "a target that matches nothing": (
        "warning",
        "targets",
        "has no `wi`; PEFT silently adapts only the other names",
        "LoraConfig(",
        (('["q", "v"]', '["q", "v", "wi"]'),),
    ),
    "targets of T5 on BART": (
        "error",
        "targets",
        "BART has no `q`, `v`",
        "LoraConfig(",
        ((MODEL, 'MODEL = "facebook/bart-base"'),),
    ),
    "no default targets": (
        "error",
        "targets",
        "no default `target_modules` for Pegasus",
        "LoraConfig(",
        ((MODEL, 'MODEL = "google/pegasus-xsum"'), (', target_modules=["q", "v"]', "")),
    ),
    "another task": (
        "warning",
        "targets",
        "refuses to load it",
        "LoraConfig(",
        (("SEQ_2_SEQ_LM", "CAUSAL_LM"),),
    ),
    "an adapter for answers": (
        "error",
        "adapter",
        "the adapter is frozen",
        "inference_mode",
        ((" r=8,", " inference_mode=True, r=8,"),),
    ),
    "an adapter that is loaded for answers": (
        "error",
        "adapter",
        "the adapter is frozen",
        "PeftModel.from_pretrained",
        (
            ("model = get_peft_model(model, lora)", 'model = PeftModel.from_pretrained(model, "adapter")'),
            (f"{LORA}\n", ""),
        ),
    ),
    "freezing after the adapter": (
        "error",
        "adapter",
        "freezes every parameter",
        "prepare_model_for_kbit",
        (
            (
                "model = get_peft_model(model, lora)\n",
                "model = get_peft_model(model, lora)\nmodel = prepare_model_for_kbit_training(model)\n",
            ),
        ),
    ),
    "an adapter that nothing uses": (
        "error",
        "adapter",
        "never used",
        "LoraConfig(",
        (("model = get_peft_model(model, lora)\n", ""),),
    ),
    "a trainer of the bare base": (
        "error",
        "adapter",
        "the trainer is given the base",
        "Seq2SeqTrainer(",
        (("model = get_peft_model(model, lora)", "adapted = get_peft_model(model, lora)"),),
    ),
    "embeddings of new tokens": (
        "warning",
        "adapter",
        "random and frozen",
        "resize_token_embeddings",
        (("lora = ", "model.resize_token_embeddings(len(tokenizer))\nlora = "),),
    ),
    "embeddings of new tokens beside norms": (
        "warning",
        "adapter",
        "random and frozen",
        "resize_token_embeddings",
        (
            ("lora = ", "model.resize_token_embeddings(len(tokenizer))\nlora = "),
            ("r=8", 'r=8, modules_to_save=["layer_norm"]'),
        ),
    ),
    "a rate for all weights": (
        "warning",
        "learning-rate",
        "2e-05 is a rate for training all weights",
        "learning_rate=2e-5",
        (("learning_rate=3e-4", "learning_rate=2e-5"),),
    ),
    "the default rate": (
        "warning",
        "learning-rate",
        "the Trainer's default,",
        "Seq2SeqTrainingArguments(",
        (("    learning_rate=3e-4,\n", ""),),
    ),
    "one step": (
        "warning",
        "learning-rate",
        "after 1 step,",
        "max_steps=1",
        (("num_train_epochs=2", "max_steps=1"),),
    ),
    "a warmup that is ignored": (
        "warning",
        "learning-rate",
        "ignores the warmup",
        "lr_scheduler_type",
        (
            (
                "    learning_rate=",
                '    lr_scheduler_type="constant",\n    warmup_steps=10,\n    learning_rate=',
            ),
        ),
    ),
    "strategies that differ": (
        "error",
        "evaluation",
        "the same `save_strategy` and `eval_strategy`",
        "load_best_model_at_end",
        (('save_strategy="epoch"', 'save_strategy="steps"'),),
    ),
    "steps that do not fit": (
        "error",
        "evaluation",
        "multiple of `eval_steps`",
        "load_best_model_at_end",
        (
            ('    save_strategy="epoch"', '    save_strategy="steps",\n    save_steps=100'),
            ('    eval_strategy="epoch"', '    eval_strategy="steps",\n    eval_steps=30'),
        ),
    ),
    "no rows to evaluate": (
        "error",
        "evaluation",
        "there is no `eval_dataset`",
        "Seq2SeqTrainer(",
        (('    eval_dataset=tokens["test"],\n', ""),),
    ),
    "rows that are never evaluated": (
        "warning",
        "evaluation",
        "no eval_loss is logged",
        "Seq2SeqTrainingArguments(",
        (('    eval_strategy="epoch",\n', ""), ("    load_best_model_at_end=True,\n", "")),
    ),
    "early stopping without a metric": (
        "error",
        "evaluation",
        "AssertionError",
        "EarlyStoppingCallback",
        (
            ("    load_best_model_at_end=True,\n", ""),
            (
                "    compute_metrics=compute_metrics,",
                "    compute_metrics=compute_metrics,\n    callbacks=[EarlyStoppingCallback(3)],",
            ),
        ),
    ),
    "a metric that nothing computes": (
        "error",
        "metrics",
        "KeyError at the first evaluation",
        "metric_for_best_model",
        (
            ("    learning_rate=", '    metric_for_best_model="rouge1",\n    learning_rate='),
            ("    compute_metrics=compute_metrics,\n", ""),
        ),
    ),
    "the worst checkpoint": (
        "error",
        "metrics",
        "the checkpoint with the worst",
        "greater_is_better",
        (
            (
                "    learning_rate=",
                '    metric_for_best_model="rougeL",\n    greater_is_better=False,\n    learning_rate=',
            ),
        ),
    ),
    "the worst checkpoint by default": (
        "error",
        "metrics",
        "the checkpoint with the worst",
        "metric_for_best_model",
        (("    learning_rate=", '    metric_for_best_model="ter",\n    learning_rate='),),
    ),
    "logits instead of answers": (
        "error",
        "metrics",
        "gets logits",
        "compute_metrics=compute_metrics",
        (("    predict_with_generate=True,\n", ""),),
    ),
    "a Trainer that does not generate": (
        "error",
        "metrics",
        "`Trainer` ignores",
        "= Trainer(",
        (("= Seq2SeqTrainer(", "= Trainer("),),
    ),
    "answers that are thrown away": (
        "warning",
        "metrics",
        "throws them away",
        "predict_with_generate",
        (("    compute_metrics=compute_metrics,\n", ""),),
    ),
    "decoding -100": (
        "error",
        "metrics",
        "which is not a token",
        "tokenizer.batch_decode",
        (
            (
                "np.where(predicted.predictions != -100, predicted.predictions, tokenizer.pad_token_id)",
                "predicted.predictions",
            ),
        ),
    ),
    "answers of 20 tokens": (
        "warning",
        "metrics",
        "end after 20 tokens",
        "Seq2SeqTrainingArguments(",
        (("    generation_max_length=LENGTH,\n", ""),),
    ),
    "answers shorter than labels": (
        "warning",
        "metrics",
        "cut at 32 tokens, while labels have up to 64",
        "generation_max_length",
        (("generation_max_length=LENGTH", "generation_max_length=LENGTH // 2"),),
    ),
    "accumulation": (
        "warning",
        "loss",
        "4 times as large",
        "gradient_accumulation_steps",
        (("    learning_rate=", "    gradient_accumulation_steps=4,\n    learning_rate="),),
    ),
    "a checkpoint that is not resumed": (
        "error",
        "resume",
        "starts over from step 0",
        "resume_from_checkpoint",
        (("    learning_rate=", '    resume_from_checkpoint="out/checkpoint-8",\n    learning_rate='),),
    ),
    "no checkpoint at first": (
        "note",
        "resume",
        "the first run has no checkpoint",
        "trainer.train(",
        (("trainer.train()", "trainer.train(resume_from_checkpoint=True)"),),
    ),
    "checkpoints sorted as text": (
        "warning",
        "resume",
        "`checkpoint-200` comes after",
        "sorted(",
        (("model.eval()", 'last = sorted(glob("out/checkpoint-*"))[-1]\nmodel.eval()'),),
    ),
    "answers of the base": (
        "error",
        "adapter",
        "its answers are the base's",
        "model.generate",
        (("model.eval()", "model = AutoModelForSeq2SeqLM.from_pretrained(MODEL)"),),
    ),
    "dropout in answers": (
        "warning",
        "answers",
        "still in training mode",
        "model.generate",
        (
            ("model.eval()\n", ""),
            ('    eval_strategy="epoch",\n', ""),
            ("    load_best_model_at_end=True,\n", ""),
        ),
    ),
    "sampling that is ignored": (
        "warning",
        "answers",
        "decoding is greedy and ignores `temperature`, `top_k`",
        "temperature",
        (("max_new_tokens=LENGTH)", "max_new_tokens=LENGTH, temperature=0.7, top_k=50)"),),
    ),
    "answers without a limit": (
        "warning",
        "answers",
        "end after 20 tokens",
        "model.generate",
        ((", max_new_tokens=LENGTH)", ")"),),
    ),
    "special tokens in answers": (
        "warning",
        "answers",
        "`<pad>` and `</s>`",
        "answer[0]",
        (("tokenizer.decode(answer[0], skip_special_tokens=True)", "tokenizer.decode(answer[0])"),),
    ),
    "a merged model that is thrown away": (
        "error",
        "merge",
        "an adapter without any weights",
        "merge_and_unload",
        (('model.save_pretrained("adapter")', "model.merge_and_unload()"),),
    ),
    "noise on an embedding that no pass calls": (
        "warning",
        "optimizer",
        "`neftune_noise_alpha` adds no noise with flan-T5",
        "neftune_noise_alpha=5",
        (("    learning_rate=", "    neftune_noise_alpha=5,\n    learning_rate="),),
    ),
    "torch's Adafactor for LoRA": (
        "warning",
        "optimizer",
        "LoRA's B begins at zero, so its steps are a thousand times smaller",
        "torch.optim.Adafactor(",
        (
            (
                "trainer = Seq2SeqTrainer(",
                "optimizer = torch.optim.Adafactor(model.parameters(), lr=3e-4)\ntrainer = Seq2SeqTrainer(",
            ),
        ),
    ),
    "transformers' Adafactor as it comes, for LoRA": (
        "warning",
        "optimizer",
        "LoRA's B begins at zero",
        "= Adafactor(",
        (
            (
                "import numpy as np\n",
                "import numpy as np\nfrom transformers.optimization import Adafactor\n",
            ),
            (
                "trainer = Seq2SeqTrainer(",
                "optimizer = Adafactor(model.parameters(), lr=3e-4, relative_step=False)\n"
                "trainer = Seq2SeqTrainer(",
            ),
        ),
    ),
    "a penalty on how answers end": (
        "note",
        "answers",
        "`repetition_penalty` makes the end token of an answer less likely from the start",
        "repetition_penalty=1.2",
        (*NLLB, ("max_new_tokens=LENGTH", "max_new_tokens=LENGTH, repetition_penalty=1.2")),
    ),
    "a decay that LoRA+ overrides": (
        "warning",
        "optimizer",
        "`weight_decay` has no effect",
        "weight_decay=0.01",
        (
            (
                "trainer = Seq2SeqTrainer(",
                "optimizer = create_loraplus_optimizer(\n    model, torch.optim.AdamW, lr=3e-4,\n"
                "    loraplus_lr_ratio=16, weight_decay=0.01,\n)\ntrainer = Seq2SeqTrainer(",
            ),
        ),
    ),
    "a decay beside LoRA+'s own": (
        "warning",
        "optimizer",
        "`loraplus_weight_decay`, which is 0 by default",
        " weight_decay=0.01",
        (
            (
                "trainer = Seq2SeqTrainer(",
                "optimizer = create_loraplus_optimizer(\n    model, torch.optim.AdamW, lr=3e-4,\n"
                "    loraplus_lr_ratio=16, loraplus_weight_decay=0.1,\n    weight_decay=0.01,\n)\n"
                "trainer = Seq2SeqTrainer(",
            ),
        ),
    ),
    "arguments for another optimizer than the given one": (
        "warning",
        "optimizer",
        "`learning_rate` of the training arguments",
        "learning_rate",
        (
            (
                "    processing_class=tokenizer,",
                "    processing_class=tokenizer,\n    optimizers=(made, None),",
            ),
            (
                "trainer = Seq2SeqTrainer(",
                "made = torch.optim.AdamW(model.parameters())\ntrainer = Seq2SeqTrainer(",
            ),
        ),
    ),
    "a handful of prompts": (
        "note",
        "answers",
        "judged by 2 prompts",
        "model.generate",
        (
            ("    compute_metrics=compute_metrics,\n", ""),
            ("def compute_metrics", "def texts_of"),
            ("model.eval()", 'for prompt in ["the first", "the second"]:\n    print(prompt)'),
        ),
    ),
}


def test_nothing_is_said_about_a_script_without_a_mistake(tmp_path: Path) -> None:
    found = checked(tmp_path, SCRIPT)
    assert [each for each in found.findings if each.level != "ok"] == []
    assert not found.has_errors


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_found_where_it_stands(case: str, tmp_path: Path) -> None:
    level, check, words, at, changes = CASES[case]
    text = changed(*changes)
    ast.parse(text)
    report = checked(tmp_path, text)
    found = [
        each
        for each in report.findings
        if (each.level, each.check) == (level, check) and words in each.message
    ]
    assert found, [(each.level, each.check, str(each.message)) for each in report.findings]
    lines = text.splitlines()
    assert [each.where for each in found if at in lines[int(each.where.rpartition(":")[2]) - 1]]
    assert all(each.fix for each in found)
    assert report.has_errors == any(each.level == "error" for each in report.findings)
    assert parse_recipe(report.recipe, name="recipe.yaml")


def test_every_check_has_a_case(tmp_path: Path) -> None:
    """A check that finds nothing in any case would be tested by none."""
    silent = set(SUITE)
    for *_, changes in CASES.values():
        facts = Facts(Script(Source("train.py", ast.parse(changed(*changes)).body)))
        silent -= {check for check in silent if any(check(facts))}
    assert {check.__name__ for check in silent} == set()


ARGMAX = "    predicted.predictions = predicted.predictions.argmax(-1)\n    ids ="
PADDED = LABELS.replace("truncation", 'padding="max_length", truncation')
MBART = (
    (MODEL, 'MODEL = "facebook/mbart-large-cc25"'),
    (
        "AutoTokenizer.from_pretrained(MODEL)",
        'AutoTokenizer.from_pretrained(MODEL, src_lang="en_XX", tgt_lang="ro_RO")',
    ),
    ('["q", "v"]', '["q_proj", "v_proj"]'),
    ("max_new_tokens=LENGTH", "max_new_tokens=LENGTH, num_beams=4, decoder_start_token_id=ROMANIAN"),
)
# Other ways to write a script in which nothing is wrong.
RIGHT: dict[str, tuple[Change, ...]] = {
    "a repetition penalty with a base that starts otherwise": (
        ("max_new_tokens=LENGTH", "max_new_tokens=LENGTH, repetition_penalty=1.2"),
    ),
    "noise with a base whose embedding is called": (
        (MODEL, 'MODEL = "google/t5gemma-2b-2b-ul2-it"'),
        ('["q", "v"]', '["q_proj", "v_proj"]'),
        ("    learning_rate=", "    neftune_noise_alpha=5,\n    learning_rate="),
    ),
    "Adafactor without scaled steps": (
        ("import numpy as np\n", "import numpy as np\nfrom transformers.optimization import Adafactor\n"),
        (
            "trainer = Seq2SeqTrainer(",
            "optimizer = Adafactor(model.parameters(), lr=3e-4, scale_parameter=False)\n"
            "trainer = Seq2SeqTrainer(",
        ),
    ),
    "LoRA+ with its own decay": (
        (
            "trainer = Seq2SeqTrainer(",
            "optimizer = create_loraplus_optimizer(\n    model, torch.optim.AdamW, lr=3e-4,\n"
            "    loraplus_lr_ratio=16, loraplus_weight_decay=0.01,\n)\ntrainer = Seq2SeqTrainer(",
        ),
    ),
    "an optimizer that is made of the training arguments": (
        (
            "    processing_class=tokenizer,",
            "    processing_class=tokenizer,\n    optimizers=(made, None),",
        ),
        (
            "trainer = Seq2SeqTrainer(",
            "made = torch.optim.AdamW(model.parameters(), lr=arguments.learning_rate)\n"
            "trainer = Seq2SeqTrainer(",
        ),
    ),
    "a pair that a function returns, with or without an optimizer": (
        (
            "    processing_class=tokenizer,",
            "    processing_class=tokenizer,\n    optimizers=make_optimizers(model),",
        ),
    ),
    "an optimizer that is made under a condition": (
        (
            "    processing_class=tokenizer,",
            "    processing_class=tokenizer,\n    optimizers=(made, None),",
        ),
        (
            "trainer = Seq2SeqTrainer(",
            "made = torch.optim.AdamW(model.parameters()) if LENGTH > 100 else None\n"
            "trainer = Seq2SeqTrainer(",
        ),
    ),
    "a schedule without an optimizer": (
        (
            "    processing_class=tokenizer,",
            "    processing_class=tokenizer,\n    optimizers=(None, schedule),",
        ),
    ),
    "padding replaced in the collator": (
        (LABELS, PADDED),
        (
            "def compute_metrics",
            "def collate(rows):\n    batch = default_data_collator(rows)\n"
            '    batch["labels"][batch["labels"] == tokenizer.pad_token_id] = -100\n    return batch\n\n\n'
            "def compute_metrics",
        ),
        ("DataCollatorForSeq2Seq(tokenizer, model=model)", "collate"),
    ),
    "padding replaced by a constant": (
        ("LENGTH = 64", "LENGTH = 64\nIGNORED = -100"),
        (LABELS, PADDED),
        (
            '    made["labels"] = labels["input_ids"]',
            '    made["labels"] = [[t if t != tokenizer.pad_token_id else IGNORED for t in row]'
            ' for row in labels["input_ids"]]',
        ),
    ),
    "-100 replaced by a function": (
        (
            "def compute_metrics",
            "def unpadded(ids):\n    return np.where(ids != IGNORED, ids, tokenizer.pad_token_id)\n\n\n"
            "def compute_metrics",
        ),
        ("LENGTH = 64", "LENGTH = 64\nIGNORED = -100"),
        (
            "np.where(predicted.predictions != -100, predicted.predictions, tokenizer.pad_token_id)",
            "unpadded(predicted.predictions)",
        ),
    ),
    "likeliest tokens before metrics": (
        ("    predict_with_generate=True,\n", ""),
        ("    compute_metrics=", "    preprocess_logits_for_metrics=likeliest,\n    compute_metrics="),
    ),
    "likeliest tokens in metrics": (("    predict_with_generate=True,\n", ""), ("    ids =", ARGMAX)),
    "a trainer that evaluates by itself": (
        ("    compute_metrics=compute_metrics,\n", ""),
        ("    predict_with_generate=True,\n", ""),
        ("    learning_rate=", '    metric_for_best_model="rougeL",\n    learning_rate='),
        (
            "tokens = ",
            "class Mine(Seq2SeqTrainer):\n    def evaluate(self, *args, **kwargs):\n"
            '        return super().evaluate(*args, **kwargs) | {"eval_rougeL": 1.0}\n\n\ntokens = ',
        ),
        ("= Seq2SeqTrainer(", "= Mine("),
    ),
    "the loss of one of several parts": (
        ("    learning_rate=", '    metric_for_best_model="eval_dev_loss",\n    learning_rate='),
        ('eval_dataset=tokens["test"]', 'eval_dataset={"dev": tokens["test"]}'),
        ("    compute_metrics=compute_metrics,\n", ""),
        ("    predict_with_generate=True,\n", ""),
    ),
    "classes with arguments of their own": (
        (
            "tokens = ",
            "class Mine(Seq2SeqTrainer):\n    def __init__(self, *args, weight=1.0, **kwargs):\n"
            "        super().__init__(*args, **kwargs)\n\n\n"
            "@dataclass\nclass Arguments(Seq2SeqTrainingArguments):\n    tag: str = ''\n\n\n"
            "class Other:\n    def __init__(self):\n        pass\n\n\ntokens = ",
        ),
        ("= Seq2SeqTrainer(\n", "= Mine(\n    weight=2.0,\n"),
        ("= Seq2SeqTrainingArguments(\n", "= Arguments(\n    tag='x',\n"),
    ),
    "accumulation with a base that divides": (
        ("    learning_rate=", "    gradient_accumulation_steps=4,\n    learning_rate="),
        ("lora = ", "model.accepts_loss_kwargs = False\nlora = "),
    ),
    "lengths and sampling in the generation settings": (
        ("    generation_max_length=LENGTH,\n", ""),
        (
            "lora = ",
            "model.generation_config.max_new_tokens = LENGTH\n"
            "model.generation_config.do_sample = True\nlora = ",
        ),
        ("max_new_tokens=LENGTH)", "temperature=0.7)"),
    ),
    "columns removed after the map": (
        ("    learning_rate=", "    remove_unused_columns=False,\n    learning_rate="),
        (', remove_columns=["document", "summary"])', ').remove_columns(["document", "summary"])'),
    ),
    "a split with the seed of the script": (
        (", seed=7", ""),
        ("LENGTH = 64", "LENGTH = 64\nset_seed(7)"),
    ),
    "one call for sources and labels": (
        (
            MADE,
            MADE.replace("max_length=2", 'text_target=examples["summary"], max_length=4'),
        ),
        (f'    {LABELS}\n    made["labels"] = labels["input_ids"]\n', ""),
    ),
    "sources that are shown": (
        ("model.eval()", 'print(tokenizer.decode(tokens["train"][0]["input_ids"]))\nmodel.eval()'),
    ),
    "a language that starts the decoder": MBART,
}


@pytest.mark.parametrize("case", RIGHT)
def test_nothing_is_said_about_another_right_way(case: str, tmp_path: Path) -> None:
    text = changed(*RIGHT[case])
    ast.parse(text)
    found = checked(tmp_path, text).findings
    assert [each for each in found if each.check != "recipe" and each.level != "ok"] == []


def test_what_is_told_to_the_adapted_model_does_not_divide_the_loss(tmp_path: Path) -> None:
    accumulation = ("    learning_rate=", "    gradient_accumulation_steps=4,\n    learning_rate=")
    after = ("arguments = ", "model.accepts_loss_kwargs = False\narguments = ")
    found = checked(tmp_path, changed(accumulation, after)).findings
    assert [each.check for each in found if each.level == "warning"] == ["loss"]
