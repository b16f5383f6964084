"""Answers from several models to one prompt, reported while they are generated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from loraloom.comparison.compared_rows import prompts_asked
from loraloom.data.encoding import encode_sources
from loraloom.evaluate.generation import answer
from loraloom.recipe import GenerationSettings
from loraloom.run.events import Report, quiet
from loraloom.session.answer_languages import decoder_starts, with_languages
from loraloom.session.answering_model import AnsweringModel


def answer_live(
    loaded: AnsweringModel,
    prompt: str,
    models: Sequence[str],
    settings: GenerationSettings,
    *,
    seed: int = 0,
    on_text: Callable[[Mapping[str, str]], None] = lambda texts: None,
    on_token: Callable[[], None] = lambda: None,
    report: Report = quiet,
) -> dict[str, str]:
    """Answer a prompt with several models in one pass.

    Args:
        loaded: the models.
        prompt: a question like those in the run's data; the recipe's prefix or template is added.
        models: names of the models that answer, which may include `base`.
        settings: decoding settings, the same for all models.
        seed: seed for sampling.
        on_text: called after each token with the answers so far by model.
        on_token: called before each token; may raise to stop.
        report: called with notes.

    Returns:
        The answers by model.

    Raises:
        DataError: the prompt is unusable, or the base does not know its language.
    """
    rows = with_languages(loaded, prompts_asked(loaded.recipe, None, [prompt], None, report), report)
    data, base = loaded.recipe.data, loaded.base
    sources, _ = encode_sources(
        rows, base.tokenizer, data.max_source_length, data.source_truncation, base.languages, base.frame
    )
    slots = [loaded.slots[name] for name in models]

    def texts(ids: Sequence[Sequence[int]]) -> dict[str, str]:
        return dict(zip(models, base.answer_text.texts(ids, loaded.answer_tokens), strict=True))

    answers = answer(
        loaded.bank,
        slots,
        sources,
        settings,
        starts=decoder_starts(loaded, rows),
        seed=seed,
        on_token=on_token,
        on_answers=lambda ids: on_text(texts(ids)),
    )
    return texts([answers[slot][0] for slot in slots])
