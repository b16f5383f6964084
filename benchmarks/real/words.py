"""Inflected Turkish words and their lemmas: names with an apostrophe, which are new, and ordinary nouns.

The names are those of countries and cities in CLDR, of the package babel. Suffixes follow the rules of
spelling: vowels by the last vowel, d or t by the last consonant, y or n between two vowels. Names are
inflected as they are written, so that a few forms differ from those of their pronunciation.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

VOWELS = "aeıioöuü"
VOICELESS = "çfhkpsşt"
BACK = "aıou"
# The high vowel that follows each vowel.
HIGH = {"a": "ı", "ı": "ı", "e": "i", "i": "i", "o": "u", "u": "u", "ö": "ü", "ü": "ü"}
CASES = ("dan", "da", "daki", "a", "ı", "ın")
# Common nouns.
NOUNS = """
ev okul masa araba göz baş deniz yol gün kapı pencere kitaplık öğretmen öğrenci çocuk anne baba kardeş
arkadaş komşu şarkı oyun oda bahçe sokak cadde köy ada göl dağ orman ağaç çiçek elma üzüm karpuz ekmek
peynir süt su çay kahve şeker tuz balık tavuk yumurta et para banka dükkan pazar fiyat iş işçi doktor
hastane ilaç asker polis avukat gazete dergi haber radyo televizyon telefon bilgisayar ekran masal roman
şiir yazar ressam tablo film tiyatro müzik spor futbol takım oyuncu hakem saat dakika hafta yıl mevsim
yaz kış bahar güneş yıldız bulut yağmur kar rüzgar
""".split()  # noqa: SIM905 (a list of a hundred lines says no more)


def inflect(stem: str, case: str, mark: str) -> str:
    """A stem with a case's suffix, after a mark (an apostrophe, or nothing)."""
    lowered = stem.replace("I", "ı").replace("İ", "i").lower()
    last_vowel = next(letter for letter in reversed(lowered) if letter in VOWELS)
    low, high = ("a" if last_vowel in BACK else "e"), HIGH[last_vowel]
    ends_in_vowel = lowered[-1] in VOWELS
    if case.startswith("d"):
        start = "t" if lowered[-1] in VOICELESS else "d"
        suffix = start + low + case[2:]
    elif case == "a":
        suffix = ("y" if ends_in_vowel else "") + low
    else:
        suffix = ("" if not ends_in_vowel else "n" if case == "ın" else "y") + high + case[1:]
    return f"{stem}{mark}{suffix}"


def names(packages: Path) -> list[str]:
    """The Turkish names of countries and cities that are one word of at least four letters, sorted."""
    sys.path.insert(0, str(packages))
    from babel import Locale

    turkish = Locale("tr")
    cities = (str(zone.get("city", "")) for zone in turkish.time_zones.values())
    found = {*map(str, turkish.territories.values()), *cities}
    return sorted(name for name in found if len(name) >= 4 and _is_plain(name))


def _is_plain(name: str) -> bool:
    letters = set("abcçdefgğhıijklmnoöprsştuüvwxyzABCÇDEFGHIİJKLMNOÖPRSŞTUÜVWYZ")
    return name[0].isupper() and set(name) <= letters and any(letter in VOWELS for letter in name.lower())


def split_names(all_names: Sequence[str], seed: int = 0) -> dict[str, list[str]]:
    """Names to train on and held-out ones; no name is in two parts."""
    shuffled = random.Random(seed).sample(list(all_names), len(all_names))
    held = len(shuffled) // 5
    return {"train": shuffled[2 * held :], "eval": shuffled[:held], "test": shuffled[held : 2 * held]}


def rows(stems: Sequence[str], mark: str, forms: int, seed: int = 1) -> Iterator[dict[str, str]]:
    """Some inflected forms of each stem, as rows with the stem as the answer."""
    chosen = random.Random(seed)
    for stem in stems:
        for case in chosen.sample(CASES, forms):
            yield {"instruction": inflect(stem, case, mark), "output": stem}
