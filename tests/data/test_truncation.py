"""What a source that is too long loses: what is least worth, never the question, never EOS."""

from __future__ import annotations

import json

import numpy as np
import pytest
from data_files import write_lines
from hypothesis import given
from hypothesis import strategies as st

from loraloom.data.encoding import describe_cuts, encode, encode_sources
from loraloom.data.examples import read_examples
from loraloom.data.prompts.prompts import prompts_of_texts, read_prompts
from loraloom.data.sources.source import Kind, Piece, join, packed, pieces_of
from loraloom.data.sources.truncation import CUT_NAMES, Truncation, truncate_all
from loraloom.recipe import DataSettings

EOS = 1
F, S, H, X, Q = Kind.FIXED, Kind.SYSTEM, Kind.HISTORY, Kind.INPUT, Kind.QUESTION


class Characters:
    """A character is a token; EOS at the end."""

    eos_token_id = EOS

    def __call__(self, text=None, text_target=None, **_):
        return {"input_ids": [[*map(ord, each), EOS] for each in (text if text is not None else text_target)]}


class Words(Characters):
    """Four letters of a word are a token, so that a cut inside of a word gives other tokens."""

    def __call__(self, text=None, text_target=None, **_):
        texts = text if text is not None else text_target
        return {"input_ids": [[*map(hash, self.pieces(each)), EOS] for each in texts]}

    @staticmethod
    def pieces(text):
        return [w[at : at + 4] for w in text.split(" ") for at in range(0, len(w), 4)]


def cut(pieces, limit):
    """A text's characters after the cut, and the kinds that were cut."""
    tokens = [[*map(ord, text), EOS] for text in [join(pieces)]]
    assert len(tokens[0]) > limit
    done = truncate_all(
        [(pieces, len(tokens[0]))], limit, lambda texts: [[*map(ord, text), EOS] for text in texts]
    )
    return text_of(done[0].ids), kinds_of(done[0])


def text_of(ids):
    assert ids[-1] == EOS
    return "".join(map(chr, ids[:-1]))


def kinds_of(shortened: Truncation):
    return {Kind(bit) for bit in range(5) if shortened.cuts >> bit & 1}


def talk(number):
    return [Piece(H, f"turn {turn:02} ", "\n") for turn in range(number)]


def test_whole_turns_of_the_history_go_oldest_first():
    pieces = [Piece(S, "system", "\n"), *talk(10), Piece(Q, "and then?")]
    text, kinds = cut(pieces, 6 + 1 + 9 + 1 + 2 * 9)  # with room for two turns
    assert text == "system\nturn 08 \nturn 09 \nand then?"
    assert kinds == {H}


def test_of_a_newest_turn_that_does_not_fit_its_end_stays():
    pieces = [Piece(H, "old", "\n"), Piece(H, "a long answer to the end", "\n"), Piece(Q, "and then?")]
    assert cut(pieces, 18) == ("the end\nand then?", {H})


def test_history_that_has_no_room_goes_before_the_system_text_does():
    pieces = [Piece(S, "s" * 40, "\n"), *talk(3), Piece(Q, "and then?")]
    assert cut(pieces, 31) == ("s" * 20 + "\nand then?", {S, H})
    assert cut(pieces, 10) == ("and then?", {S, H})


def test_inside_the_context_the_longest_is_cut_first_and_at_its_end():
    pieces = [Piece(S, "s" * 10, "\n"), Piece(Q, "why?", "\n"), Piece(X, "0123456789" * 9)]
    assert cut(pieces, 38) == ("s" * 10 + "\nwhy?\n" + "0123456789" * 2 + "0", {X})
    assert cut(pieces, 17) == ("sssss\nwhy?\n01234", {S, X})
    assert cut(pieces, 5) == ("why?", {S, X})


def test_a_question_is_cut_only_when_it_is_too_long_by_itself_and_then_at_its_end():
    pieces = [Piece(S, "system", "\n"), Piece(Q, "0123456789")]
    assert cut(pieces, 11) == ("0123456789", {S})
    assert cut(pieces, 10) == ("012345678", {S, Q})


def test_a_short_prefix_stays_beside_a_question_that_must_be_cut_anyway():
    prefix = Piece(F, "sum: ")
    assert cut([prefix, Piece(Q, "q" * 100)], 41) == ("sum: " + "q" * 35, {Q})
    assert cut([prefix, Piece(Q, "q" * 38)], 41) == ("s " + "q" * 38, {F})  # the question fits by itself
    assert cut([prefix, Piece(X, "i" * 30), Piece(Q, "q" * 30)], 41) == ("sum: iiiii" + "q" * 30, {X})


def test_a_long_prefix_is_a_context_like_others():
    pieces = [Piece(F, "p" * 100), Piece(Q, "q" * 20), Piece(F, "?")]
    assert cut(pieces, 41) == ("p" * 19 + "q" * 20 + "?", {F})
    assert cut(pieces, 21) == ("q" * 20, {F})


def test_a_prefix_that_is_cut_does_not_melt_with_the_question():
    pieces = [Piece(F, "translate into English:\n"), Piece(Q, "how are you?")]
    assert cut(pieces, 22) == ("translat\nhow are you?", {F})
    assert cut(pieces, 24) == ("translate how are you?", {F})


def test_what_stood_beside_a_dropped_piece_is_not_left_behind():
    pieces = [Piece(Q, "why?", "\n"), Piece(X, "input")]
    assert cut(pieces, 5) == ("why?", {X})


@given(
    st.lists(st.tuples(st.sampled_from([F, S, H, X]), st.text("ab ", min_size=1, max_size=60)), max_size=6),
    st.text("abcdefgh ", min_size=1, max_size=60),
    st.integers(4, 60),
)
def test_it_always_fits_and_a_question_that_fits_is_whole(before, question, limit):
    pieces = [*(Piece(kind, text, " ") for kind, text in before), Piece(Q, question)]
    source, whole = join(pieces), Words()

    def tokens(text):
        return whole(text=[text])["input_ids"][0]

    if len(tokens(source)) <= limit:
        return
    attempts = {}

    def tokenize(texts):
        attempts.update({tuple(tokens(text)): text for text in texts})
        return [tokens(text) for text in texts]

    (done,) = truncate_all([(pieces, len(tokens(source)))], limit, tokenize)
    assert len(done.ids) <= limit
    assert done.ids[-1] == EOS
    if len(tokens(question)) <= limit:
        assert not done.cuts >> Q & 1
        assert attempts[tuple(done.ids)].endswith(question)
    else:
        assert done.cuts >> Q & 1


@given(st.lists(st.tuples(st.sampled_from(list(Kind)), st.text(max_size=5), st.sampled_from(["", "\n"]))))
def test_a_source_gives_its_pieces_back(parts):
    pieces = [Piece(*part) for part in parts]
    kept = [piece for piece in pieces if piece.text]
    found = pieces_of(join(pieces), packed(pieces))
    assert join(found) == join(pieces)
    if kept:
        assert [(piece.kind, piece.text) for piece in found] == [(piece.kind, piece.text) for piece in kept]


def read(tmp_path, rows, **settings):
    write_lines(tmp_path / "data.jsonl", rows)
    return read_examples(
        tmp_path / "data.jsonl", DataSettings(train="data.jsonl", **settings), shown_as="data.jsonl"
    ).examples


def sources(examples, limit, truncation="context"):
    ids, cuts = encode_sources(examples, Characters(), limit, truncation)
    return [text_of(row) for row in ids], cuts


def test_turns_of_a_conversation_stay_apart(tmp_path):
    turns = [{"input": f"Question number {n}?", "output": "A long answer. " * 10} for n in range(6)]
    examples = read(tmp_path, [{"conversation": turns}], conversation_history=True)
    cut_right, _ = sources(examples, 100, "right")
    assert len(set(cut_right)) == 2
    texts, cuts = sources(examples, 100)
    assert len(set(texts)) == 6
    assert all(text.endswith(f"Question number {n}?") for n, text in enumerate(texts))
    assert describe_cuts("train", cuts, 100) == (
        "5 of 6 train sources are cut to 100 tokens: the history in 5"
    )


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"source_prefix": "Be kind and brief. " * 22}, "the prefix or template"),
        ({"source_prefix": "{notes} Question: {instruction}"}, "the input"),
        (
            {"source_prefix": "{{" + "Be kind. " * 50 + "}} {instruction} in one word"},
            "the prefix or template",
        ),
    ],
)
def test_whatever_stands_in_front_the_question_stays(tmp_path, settings, kind):
    rows = [{"instruction": f"Why {n}?", "notes": "n" * 400, "response": "So."} for n in range(16)]
    examples = read(tmp_path, rows, **settings)
    assert len(set(sources(examples, 256, "right")[0])) == 1
    texts, cuts = sources(examples, 256)
    assert all(f"Why {n}?" in text for n, text in enumerate(texts))
    assert kind in describe_cuts("", cuts, 256)


def test_the_system_text_of_a_conversation_gives_way(tmp_path):
    rows = [
        {
            "messages": [
                {"role": "system", "content": "s" * 400},
                {"role": "user", "content": f"Why {n}?"},
                {"role": "assistant", "content": "So."},
            ]
        }
        for n in range(16)
    ]
    texts, cuts = sources(read(tmp_path, rows), 64)
    assert texts == ["s" * (62 - len(f"Why {n}?")) + f"\nWhy {n}?" for n in range(16)]
    assert describe_cuts("", cuts, 64).endswith(": the system text in 16")


def test_prompts_are_cut_as_rows_are(tmp_path):
    settings = DataSettings(train="x", source_prefix="p" * 400)
    texts, _ = sources(prompts_of_texts(["Why?"], settings), 64)
    assert texts == ["p" * 59 + "Why?"]
    write_lines(tmp_path / "asked.jsonl", [{"instruction": "Why?", "input": "i" * 400}])
    asked = read_prompts(tmp_path / "asked.jsonl", DataSettings(train="x"), shown_as="asked.jsonl")
    assert sources(asked, 64)[0] == ["Why?\n" + "i" * 58]


def test_right_cuts_as_0_1_did(tmp_path):
    rows = [{"instruction": "Why?", "input": "0123456789" * n, "response": "So."} for n in (1, 9)]
    encoded = encode(
        read(tmp_path, rows),
        Characters(),
        max_source_length=20,
        max_target_length=20,
        truncation="right",
    )
    assert text_of(encoded[1].input_ids.tolist()) == "Why?\n01234567890123"
    assert (encoded.source_cuts > 0).tolist() == [False, True]
    assert CUT_NAMES[int(np.log2(encoded.source_cuts[1]))] == "the end"


def test_a_row_keeps_few_bytes_for_its_parts(tmp_path):
    (alone,) = read(tmp_path, [{"instruction": "q", "response": "a"}])
    assert alone.parts == b""
    (both,) = read(tmp_path, [{"instruction": "q", "input": "i", "response": "a"}])
    assert len(both.parts) < 20
    assert json.dumps([piece.text for piece in pieces_of(both.source, both.parts)]) == '["q", "i"]'
