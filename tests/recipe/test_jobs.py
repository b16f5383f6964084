"""Every recipe of docs/jobs.md can be read without a note, and names the rows that it answers for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from loraloom.recipe.reading import parse_recipe_with_notes

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "jobs.md").read_text(encoding="utf-8")
JOBS = dict(re.findall(r"^## (.+?)\n.*?```yaml\n(.*?)```", PAGE, flags=re.MULTILINE | re.DOTALL))


def test_there_are_at_least_ten() -> None:
    assert len(JOBS) >= 10
    assert PAGE.count("```yaml") == len(JOBS)


@pytest.mark.parametrize("job", JOBS)
def test_a_recipe_of_the_page_can_be_read(job: str) -> None:
    reading = parse_recipe_with_notes(JOBS[job], name="recipe.yaml")
    assert reading.notes == ()
    assert reading.recipe.data.test == 0.1
