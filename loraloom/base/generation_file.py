"""Check of a base's generation settings: if they are invalid, transformers does not load the weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import transformers
from transformers import GenerationConfig

from loraloom.base.safety import CONFIG, describe_source, file_beside
from loraloom.errors import ModelError
from loraloom.text.message import Message

GENERATION = "generation_config.json"


def check_generation(path: str, name: str) -> None:
    """Refuse generation settings that transformers rejects, because it then loads no weights either.

    For example, it rejects several answers per row without beam search or sampling (transformers 5.23).

    Raises:
        ModelError: transformers rejects the settings.
    """
    file = GENERATION if file_beside(path, GENERATION) is not None else CONFIG
    try:
        with quiet_transformers():
            GenerationConfig.from_pretrained(path, config_file_name=file, _from_model_config=file == CONFIG)
    except Exception as error:  # of any type: the settings are at fault
        raise ModelError(
            Message("transformers rejects the generation settings in the base's {file}", file=file),
            where=name,
            found=describe_source(error),
            fix=Message(
                "Remove them from {file}; LoRALoom uses only the recipe's `generation` section.", file=file
            ),
        ) from None


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' warnings and progress bars during a `with` block."""
    # It warns that a distinct lm_head contradicts its forced tying flag, which `declare_tying` settles.
    logger = logging.getLogger("transformers")
    level, bars = logger.level, transformers.utils.logging.is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            transformers.utils.logging.enable_progress_bar()
