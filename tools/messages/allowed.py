"""Sentences in the package's sources that are not messages: file -> how each begins -> why."""

_NAMES = "a list of names, which is split at its spaces"
_SIGNATURE = "a part of a metric's signature, which is stored and compared as it is"
_DAMAGE = "the cause of a damaged file, for programmers: what people read says that the file is damaged"
_CODE = "Python for a card"
_METRIC = "what a metric is, in a format that Prometheus reads"

# What pages show in every language.
NAMES = {"LoRALoom", "loraloom demo"}

ALLOWED: dict[str, dict[str, str]] = {
    "data/files/part_names.py": {"validation valid val": _NAMES},
    "data/languages/names.py": {"\naf:afr": _NAMES},
    "evaluate/expressible_references.py": {
        "tabs and runs of spaces": _SIGNATURE,
        "|refs:": _SIGNATURE,
    },
    "evaluate/metrics.py": {
        "ROUGE-L|": _SIGNATURE,
        "exact match|": _SIGNATURE,
        "characters of answers": _SIGNATURE,
    },
    "export/merge_text.py": {"{}\n\nclass Converter": _CODE},
    "export/ctranslate2_example.py": {"import ctranslate2": _CODE},
    "export/gguf/llama_cpp_example.py": {
        "# {}:\n# {}\nimport ctypes": _CODE,
        "adapter = c.": _CODE,
        "  # {}": _CODE,
        " --lora {}": _CODE,
        "llama-completion": _CODE,
    },
    "export/onnx/onnx_example.py": {"import numpy": _CODE, " + [tokenizer": _CODE},
    "recipe/writing.py": {"# experiments:": "an example of lines of a recipe"},
    "recipe/trainer_keys.py": {"num_gpus n_gpu": _NAMES},
    "report/comparison_reading.py": {"a difference of {}": _DAMAGE},
    "run/documents/document.py": {
        "text without control characters": _DAMAGE,
        "a whole number is needed": _DAMAGE,
    },
    "run/documents/provenance.py": {"{}: a count above 0": _DAMAGE},
    "run/lock.py": {
        "symbolic links are not followed": "the text of an OSError, beside those of the operating system"
    },
    "session/search_repair.py": {
        "# {}, the best of": "a file of the run that repair writes again, equal to the byte in any language"
    },
    "text/message.py": {"a text or a message": _DAMAGE, "a message ": _DAMAGE},
    "text/template.py": {
        "not a template": "an error of a programmer or a translator",
        "a message has no value": "an error of a programmer or a translator",
    },
    "web/openai_api/prometheus.py": {
        "Time until an answer": _METRIC,
        "Whether the model is": _METRIC,
        "The base and its": _METRIC,
    },
    "training/card_code.py": {
        "from peft import": _CODE,
        "from transformers import": _CODE,
        "inputs = tokenizer": _CODE,
        "# {}\nends =": _CODE,
    },
}
