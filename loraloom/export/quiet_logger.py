"""Temporary silencing of the logger of a third-party package that writes an export."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_logger(name: str = "", level: int = logging.ERROR) -> Iterator[None]:
    """Suppress a logger's messages below a level during a `with` block.

    Args:
        name: name of the logger; by default, the root logger.
        level: the lowest level that is still shown.
    """
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
