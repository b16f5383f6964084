"""Kernels for notebooks; run by `make notebooks`, which installs what that needs."""

from __future__ import annotations

import importlib.util

if importlib.util.find_spec("nbclient") is None or importlib.util.find_spec("ipykernel") is None:
    collect_ignore_glob = ["*"]
