"""Keys of rank_pattern and alpha_pattern match as PEFT's regular expression does."""

from __future__ import annotations

import re

import pytest

from loraloom.recipe.module_names import first_match

KEYS = ["q", r"a\.q", "a.q", "q|v", "^q", "", r"\.q", "q$", r"\w", "块", r"encoder\.0\.q", r"encoder\..*"]
MODULES = ["q", "a.q", "b.a.q", "aq", "xq", "a.v", "encoder.0.q", "my.encoder.0.q", "a.块", "块"]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_matches_as_in_peft(key: str) -> None:
    matched = [module for module in MODULES if first_match([key], module) is not None]
    assert matched == [module for module in MODULES if re.match(rf"(.*\.)?({key})$", module)]
