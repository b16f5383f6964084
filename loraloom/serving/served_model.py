"""Models of a server (a base and its adapters): lookup by name, encoding of prompts, adding and removing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loraloom.bank.peft_folder import read_adapter
from loraloom.data.encoding import encode_sources
from loraloom.data.examples import examples_of
from loraloom.data.formats.row import Findings, Row
from loraloom.data.languages.codes import DecoderStart
from loraloom.data.prompts.prompts import Prompt, prompts_of_texts
from loraloom.errors import LoRALoomError
from loraloom.recipe import DataSettings, GenerationSettings, is_experiment_name
from loraloom.run.documents.comparison import BASE_NAME
from loraloom.run.events import quiet
from loraloom.serving.job import Decoding, Job, JobError, unknown_model
from loraloom.session.answer_languages import in_languages, with_languages
from loraloom.session.answering_model import AnsweringModel
from loraloom.session.answering_ranks import with_tensors_of_bank
from loraloom.text.message import Message

MAX_SOURCE_TOKENS = 1 << 16  # of a prompt that are counted, to report its length
MAX_ANSWER_TOKENS = 4096
PROMPT = "prompt"
# The recipe's settings for its own columns do not apply to a conversation in a request.
OF_COLUMNS = ("columns", "labels", "source_lang_column", "target_lang_column")


@dataclass(frozen=True)
class ReadyPrompt:
    """A prompt, ready to be encoded and answered.

    Args:
        source: token ids of the encoder's input.
        start: first input of the decoder, and the first token of the answer if the language determines it.
    """

    source: list[int]
    start: DecoderStart


class ServedModel:
    """A server's models, which requests address by name.

    Args:
        loaded: base and adapters.
    """

    def __init__(self, loaded: AnsweringModel) -> None:
        self.loaded, self.base, self.bank = loaded, loaded.base, loaded.bank
        self.recipe = loaded.recipe
        self.text_of = lambda tokens: self.base.answer_text.texts([tokens], self.loaded.answer_tokens)[0]

    @property
    def names(self) -> list[str]:
        """Names of the models that accept requests, starting with the base."""
        return list(self.loaded.slots)

    def slot(self, name: str) -> str | None:
        """Return the slot of a model.

        Raises:
            JobError: there is no such model.
        """
        if name not in self.loaded.slots:
            raise unknown_model(name)
        return self.loaded.slots[name]

    def read(self, job: Job) -> ReadyPrompt:
        """Encode the prompt of a request in the same format as the sources that the model was trained on.

        Raises:
            JobError: the prompt is empty, too long, or in a language that the base does not know.
        """
        param = "messages" if job.messages else PROMPT
        try:
            recipe = in_languages(self.recipe, job.source_lang, job.target_lang)
            prompt = _of_messages(job.messages, recipe.data) if job.messages else _of_text(job, recipe.data)
            own = {job.model: adapter} if (adapter := self.loaded.adapters.get(job.model)) else {}
            (prompt,) = with_languages(replace(self.loaded, adapters=own), [prompt], quiet)
            source = self._encoded(prompt)
            start = self.base.decoder_start(prompt.target_lang)
        except LoRALoomError as error:
            raise JobError.of(error, param) from None
        limit = self.recipe.data.max_source_length
        if len(source) > limit:
            message = Message(
                "the prompt has {num:,} tokens, but the run was trained with at most {limit:,} "
                "(data.max_source_length)",
                num=len(source),
                limit=limit,
            )
            raise JobError(422, "context_length_exceeded", message, param=param)
        return ReadyPrompt(source, start)

    def settings(self, decoding: Decoding) -> GenerationSettings:
        """Return the decoding settings for a request; settings that it omits are taken from the recipe.

        Raises:
            JobError: a setting is impossible for this model, or settings contradict each other.
        """
        own = self.recipe.generation
        self._check_length(decoding.max_tokens or own.max_new_tokens)
        beams = own.num_beams if decoding.num_beams is None else decoding.num_beams
        samples = own.do_sample if decoding.temperature is None else decoding.temperature > 0
        if decoding.num_beams is None and samples and decoding.temperature is not None:
            beams = 1
        if samples and beams > 1:
            raise JobError(
                422,
                "unprocessable",
                Message("beam search does not sample; set `temperature` to 0"),
                param="num_beams",
            )
        sampling = {
            "temperature": decoding.temperature or own.temperature,
            "top_p": own.top_p if decoding.top_p is None else decoding.top_p,
            "top_k": own.top_k if decoding.top_k is None else decoding.top_k,
        }
        return own.model_copy(
            update={
                "max_new_tokens": decoding.max_tokens or own.max_new_tokens,
                "num_beams": beams,
                "do_sample": samples,
                **(sampling if samples else dict.fromkeys(sampling)),
                **({} if beams > 1 else {"length_penalty": None}),
            }
        )

    def add(self, name: str, folder: Path) -> None:
        """Attach an adapter.

        Raises:
            JobError: the name is taken or invalid, or the folder contains no adapter for this base.
        """
        if name in self.loaded.slots:
            message = Message("there is already a model `{name}`", name=name)
            raise JobError(409, "name_taken", message, param="name")
        if not is_experiment_name(name):
            message = Message(
                "a name has at most 64 letters, digits, `-`, `_` and `.`, and starts with a letter or digit; "
                "`base` is reserved"
            )
            raise JobError(422, "invalid_name", message, param="name")
        try:
            with self.bank.plain_base() as base:
                adapter = read_adapter(folder, base)
            self.bank.attach(name, adapter.settings, seed=0, tensors=adapter.tensors)
        except LoRALoomError as error:
            raise JobError.of(error, "folder", where=name) from None
        self.loaded.adapters.update(with_tensors_of_bank(self.bank, {name: adapter}))
        self.loaded.slots[name] = name

    def replace(self, name: str, folder: Path | None) -> None:
        """Repeat a change made in an earlier process: attach an adapter, or remove it if `folder` is None.

        Raises:
            JobError: as in `add` and `hide`.
        """
        if folder is not None:
            self.add(name, folder)
            return
        self.hide(name)
        self.drop(name)

    def hide(self, name: str) -> None:
        """Hide an adapter from new requests.

        Raises:
            JobError: there is no such adapter, or the name is that of the base, which cannot be removed.
        """
        if name == BASE_NAME:
            raise JobError(422, "invalid_name", Message("the base cannot be removed"), param="name")
        if name not in self.loaded.slots:
            raise unknown_model(name)
        del self.loaded.slots[name]

    def drop(self, name: str) -> None:
        """Detach a hidden adapter."""
        self.bank.drop(name)
        del self.loaded.adapters[name]

    def _encoded(self, prompt: Prompt) -> list[int]:
        base, truncation = self.base, self.recipe.data.source_truncation
        (source,), _ = encode_sources(
            [prompt], base.tokenizer, MAX_SOURCE_TOKENS, truncation, base.languages, base.frame
        )
        return list(source)

    def _check_length(self, max_tokens: int) -> None:
        positions = self.base.dimensions.num_positions
        limit = min(MAX_ANSWER_TOKENS, MAX_ANSWER_TOKENS if positions is None else positions - 1)
        if max_tokens > limit:
            message = Message("an answer of this model can have at most {limit:,} tokens", limit=limit)
            raise JobError(422, "unprocessable", message, param="max_tokens")


def _of_text(job: Job, settings: DataSettings) -> Prompt:
    return prompts_of_texts([job.prompt or ""], settings, shown_as=PROMPT)[0]


def _without_unanswered(messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    kept: list[dict[str, str]] = []
    for message in messages:
        if message["role"] == "assistant" and not message["content"].strip():
            while kept and kept[-1]["role"] == "user":
                kept.pop()
        else:
            kept.append(message)
    return kept


def _of_messages(messages: Sequence[dict[str, str]], settings: DataSettings) -> Prompt:
    """Build the source for a conversation that ends with a question, as if it were a row of a data file.

    A question whose answer was empty is left out; otherwise it would become part of the next question.
    """
    messages = _without_unanswered(messages)
    fresh = {
        key: field.get_default(call_default_factory=True, validated_data={})
        for key in OF_COLUMNS
        if (field := type(settings).model_fields[key])
    }
    row = Row("messages", 1, None, {"messages": list(messages)})
    read = examples_of(
        iter([row]),
        settings.model_copy(update=fresh),
        Findings(),
        shown_as="messages",
        to_answer=True,
        with_answers=False,
    )
    if len(read.examples) != 1 or not messages or messages[-1]["role"] != "user":
        raise JobError(
            422,
            "unprocessable",
            Message("the last message must be the user's question"),
            param="messages",
        )
    e = read.examples[0]
    return Prompt(
        e.source, None, e.path, e.row, e.parts, source_lang=e.source_lang, target_lang=e.target_lang
    )
