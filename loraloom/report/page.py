"""The report page: one self-contained HTML file, in which text from a dataset cannot run code.

The page's Content-Security-Policy allows only its own style sheet and script, identified by their hashes.
Therefore the page has no `style=` attributes and no event handlers, and charts are SVG with classes.
"""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from loraloom.architectures.families import LINEAR_NAMES
from loraloom.report import charts, figures, plots
from loraloom.report.answer_differences import AnswerDifference, mark_difference
from loraloom.report.axes import colour
from loraloom.report.comparison_view import ComparisonView
from loraloom.report.content import Content
from loraloom.report.training_view import group_of
from loraloom.report.visible_text import page_plural, page_text, prose_html, visible_html, word_html
from loraloom.run.documents.comparison import BASE_NAME, Difference
from loraloom.text import catalogue, units
from loraloom.text.visible import visible

FOLDER = Path(__file__).parent
# Visible rows, rows on the page, characters of a text: a page must be usable on a phone.
FIRST_ROWS = 5
MOST_ROWS = 2000
# The same for prompts, of which readers want to see the first few.
FIRST_PROMPTS = 10
MOST_PROMPTS = 200
MOST_CHARACTERS = 4000
# Visible sentences and pairs of experiments; a table nearby has all of them.
MOST_VERDICTS = 6
# In the order in which data flows through a model.
PARTS = ("encoder", "decoder", "cross")
# Number of texts used to detect the language.
SAMPLE = 50


def render_page(content: Content) -> str:
    """Render the report as one HTML file."""
    style, script = (_asset(name) for name in ("page.css", "page.js"))
    template = environment().get_template("page.html.j2")
    return template.render(
        style=Markup(style), script=Markup(script), policy=policy(style, script), **page_values(content)
    )


def page_values(content: Content) -> dict[str, Any]:
    """Return the values of a run that the templates in `parts/` show."""
    return {
        "content": content,
        "compared": content.comparison,
        "colours": _colours(content),
        "first_rows": FIRST_ROWS,
        "most_rows": MOST_ROWS,
        "first_prompts": FIRST_PROMPTS,
        "most_prompts": MOST_PROMPTS,
        "most_verdicts": MOST_VERDICTS,
        "judged": _judged(content.comparison),
        "pair_reach": _farthest(content.comparison.pairs if content.comparison else []),
        "first_reach": _first_reach(content),
        "effect_charts": plots.effect_charts(content),
        "search_charts": plots.search_charts(content.search),
        "rate_test_chart": plots.rate_test_chart(content.range_test, content),
        "kinds": _moved_kinds(content.comparison),
        "farthest": _largest_movement(content.comparison),
        **plots.curves(content),
    }


def policy(style: str, script: str) -> str:
    """Build the page's Content-Security-Policy, which allows this style sheet and script and nothing else."""
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _asset(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


@cache
def environment() -> Environment:
    """Return the Jinja environment of the report's templates, with the filters and functions they use."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "p_value": figures.p_written,
        "prose": prose_html,
        "rendered": catalogue.rendered,
        "word": word_html,
        "seen": visible_html,
        "size": units.size,
        "duration": units.duration,
        "share": lambda share: catalogue.rendered(units.percent(share)),
        "setting": units.setting,
        "shortened": shortened,
        "visible": visible,
        "day": lambda time: time.replace("T", " ")[:16],
    }
    environment.globals |= {
        "_": page_text,
        "ngettext": page_plural,
        "page_language": catalogue.language,
        "described": figures.described,
        "ordered": figures.ordered,
        "written": figures.written,
        "written_difference": figures.written_difference,
        "written_gain": figures.written_gain,
        "interval_chart": charts.interval_chart,
        "bar_chart": charts.bar_chart,
        "verdict_class": charts.verdict_class,
        "verdict_word": figures.verdict_word,
        "mark": _mark,
        "reach": _reach,
        "language": _language,
        "base_name": BASE_NAME,
    }
    return environment


def shortened(text: str) -> tuple[str, int]:
    """Return the beginning of a text, and the number of characters omitted."""
    return text[:MOST_CHARACTERS], max(0, len(text) - MOST_CHARACTERS)


def _mark(base: str, text: str) -> AnswerDifference:
    return mark_difference(shortened(base)[0], shortened(text)[0])


def _colours(content: Content) -> dict[str, str]:
    """Map each adapter to the colour classes of its experiment, the same in every part of the page."""
    names = [trained.name for trained in content.experiments]
    for compared in (*([content.comparison] if content.comparison else []), *content.prompts):
        names += compared.adapters
    groups = list(dict.fromkeys(map(group_of, names)))
    own = {name: colour(groups.index(group_of(name))) for name in [*groups, *names]}
    return {BASE_NAME: "base"} | own


def _judged(compared: ComparisonView | None) -> list[str]:
    """List the figures that have a difference with an interval, in the order of the page."""
    if compared is None:
        return []
    return figures.ordered(key for own in compared.differences.values() for key in own)


def _first_reach(content: Content) -> float:
    """Return how far the intervals of differences from the best experiment reach from 0, as their scale."""
    places = content.ranking.places if content.ranking else []
    return _farthest(place.from_best for place in places if place.from_best)


def _moved_kinds(compared: ComparisonView | None) -> list[str]:
    """List the kinds of linears, such as `encoder q`, whose weights any adapter moves."""
    moved = compared.movement.values() if compared else []
    return sorted({kind for each in moved for kind in each.kinds}, key=_kind_order)


def _largest_movement(compared: ComparisonView | None) -> float:
    moved = compared.movement.values() if compared else []
    return max((value for each in moved for value in each.kinds.values()), default=0.0)


def _kind_order(kind: str) -> tuple[int, int, str]:
    part, _, suffix = kind.partition(" ")
    return _index(PARTS, part), _index(LINEAR_NAMES, suffix), kind


def _index(order: Sequence[str], name: str) -> int:
    return order.index(name) if name in order else len(order)


def _reach(compared: ComparisonView, key: str) -> float:
    """Return how far the intervals of a figure's differences reach from 0, as the scale of its column."""
    return _farthest(own[key] for own in compared.differences.values() if key in own)


def _farthest(differences: Iterable[Difference]) -> float:
    return max((max(abs(d.low), abs(d.high), abs(d.difference)) for d in differences), default=0.0)


def _language(compared: ComparisonView) -> str:
    """Return the language tag of a comparison's rows."""
    return language_of(row.source for row in islice(compared.rows, SAMPLE))


def language_of(texts: Iterable[str]) -> str:
    """Derive a language tag from the writing system of texts, so that browsers choose the right glyphs.

    >>> language_of(["如何处理焦虑"]), language_of(["plain words"]), language_of(["こんにちは、世界"])
    ('zh', '', 'ja')
    """
    scripts = Counter(
        unicodedata.name(char, "").partition(" ")[0]
        for text in texts
        for char in text[:400]
        if char.isalpha()
    )
    total = scripts.total()
    if scripts["HIRAGANA"] + scripts["KATAKANA"] > 0.1 * total:
        return "ja"
    if scripts["HANGUL"] > 0.3 * total:
        return "ko"
    return "zh" if scripts["CJK"] > 0.3 * total else ""
