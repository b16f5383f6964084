"""Silence for the logger of a package that writes an export."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_logger(name: str = "", level: int = logging.ERROR) -> Iterator[None]:
    """Keep a logger's messages below a level from the console.

    Args:
        name: name of the logger; by default the root.
        level: the lowest level that is shown.
    """
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
