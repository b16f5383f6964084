"""The section `generation` of a recipe: how answers are generated."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from loraloom.recipe.relative_paths import Section
from loraloom.recipe.settings import DEFAULT_FROM, MAX_TOKENS
from loraloom.recipe.values import Count, Number, SettingError
from loraloom.text.message import Message, joined


class GenerationSettings(Section):
    """Settings for generating answers; names as in transformers' GenerationConfig."""

    max_new_tokens: Count = Field(
        default=256,
        ge=1,
        le=MAX_TOKENS,
        description=Message("Maximum number of tokens in an answer; by default, `data.max_target_length`."),
        json_schema_extra={DEFAULT_FROM: "data.max_target_length"},
    )
    num_beams: Count = Field(default=1, ge=1, le=256, description=Message("Number of beams; 1 is greedy."))
    do_sample: bool = Field(
        default=False, description=Message("Sample tokens instead of choosing the most likely one.")
    )
    temperature: Number | None = Field(
        default=None, gt=0, description=Message("Sampling temperature; only with do_sample.")
    )
    top_k: Count | None = Field(
        default=None,
        ge=1,
        description=Message("Sample from this many most likely tokens; only with do_sample."),
    )
    top_p: Number | None = Field(
        default=None,
        gt=0,
        le=1,
        description=Message(
            "Sample from the most likely tokens with this total probability; only with do_sample."
        ),
    )
    repetition_penalty: Number = Field(
        default=1.0,
        gt=0,
        description=Message("Values above 1 make tokens that already occurred less likely."),
    )
    no_repeat_ngram_size: Count = Field(
        default=0, ge=0, description=Message("Prevent n-grams of this size from occurring twice.")
    )
    length_penalty: Number | None = Field(
        default=None,
        description=Message("Exponent of the length in beam scores; only with num_beams above 1."),
    )
    batch_size: Count = Field(
        default=32, ge=1, le=65_536, description=Message("Number of rows answered together, per model.")
    )

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Self:
        """Refuse settings that transformers ignores in generation, but that keep it from saving a model."""
        if not self.do_sample:
            ignored = [key for key in ("temperature", "top_k", "top_p") if getattr(self, key) is not None]
            if ignored:
                raise SettingError(
                    Message(
                        "would be ignored: decoding is {detail} while do_sample is false. Set "
                        "do_sample: true, or remove {ignored}",
                        detail=(Message("greedy") if self.num_beams == 1 else Message("by beam search")),
                        ignored=joined(" and ", ignored),
                    ),
                    ignored[0],
                )
        if self.do_sample and self.num_beams > 1:
            raise SettingError(
                Message("cannot be combined with num_beams above 1; choose sampling or beam search"),
                "do_sample",
            )
        if self.num_beams == 1 and self.length_penalty is not None:
            raise SettingError(Message("would be ignored while num_beams is 1; remove it"), "length_penalty")
        return self
