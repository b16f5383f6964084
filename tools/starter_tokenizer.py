"""The starter's vocabulary: a unigram model of its corpus, with bytes for everything else."""

from __future__ import annotations

import io
import random

import sentencepiece
from starter_corpus import Corpus
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

SEED = 20
VOCAB_SIZE = 3_584
NUM_SENTINELS = 20
PAD, EOS, UNK = 0, 1, 2


def build_tokenizer(corpus: Corpus) -> Tokenizer:
    """A unigram vocabulary over the corpus; other characters are spelt as UTF-8 bytes, so none is unknown."""
    specials = ["<pad>", "</s>", "<unk>", *(f"<extra_id_{number}>" for number in range(NUM_SENTINELS))]
    byte_pieces = [f"<0x{value:02X}>" for value in range(256)]
    # No piece spans a mark of punctuation: an opening and the advice behind it must not grow together.
    marks = Regex(r"[\p{P}\p{S}0-9A-Za-z▁\n]")
    printable = [chr(code) for code in range(0x21, 0x7F)]
    alphabet = [*printable, "▁", "\n", *"，。！？、；：“”‘’（）《》「」…—·"]
    learnt = io.BytesIO()
    # sentencepiece on one thread: the trainer in tokenizers gives other pieces on every run.
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus.pieces(random.Random(SEED))),
        model_writer=learnt,
        model_type="unigram",
        vocab_size=VOCAB_SIZE - len(specials) - len(byte_pieces) + 1,  # it counts its own specials and marks
        character_coverage=1.0,
        max_sentencepiece_length=4,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        num_threads=1,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        user_defined_symbols=[mark for mark in alphabet if mark not in ("▁", "\n")],
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=learnt.getvalue())
    pieces = {processor.id_to_piece(id_): processor.get_score(id_) for id_ in range(3, len(processor))}
    scores = {piece: score for piece, score in pieces.items() if piece not in alphabet}
    lowest = min(scores.values())
    vocab = [(piece, 0.0) for piece in specials]
    vocab += [(mark, lowest) for mark in alphabet]
    vocab += sorted(scores.items(), key=lambda entry: (-entry[1], entry[0]))
    vocab += [(piece, lowest - 10) for piece in byte_pieces]

    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=UNK, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(marks, "isolated")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens(specials)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", EOS)]
    )
    return tokenizer
