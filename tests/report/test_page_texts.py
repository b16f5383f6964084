"""Texts of the page: values are escaped once, and tags that the page itself made stay tags."""

from __future__ import annotations

from markupsafe import Markup

from loraloom.report.visible_text import page_plural, page_text


def test_texts_are_escaped_and_markup_is_kept() -> None:
    assert page_text("<b>{name}</b> of {count:,}", name="<i>", count=1200) == "<b>&lt;i&gt;</b> of 1,200"
    assert page_text("with {keys}", keys=Markup("<code>lora.r</code>")) == "with <code>lora.r</code>"
    assert page_plural("{count} of {name}", "{count} of {name}s", count=2, name=Markup("<b>a</b>")) == (
        "2 of <b>a</b>s"
    )
