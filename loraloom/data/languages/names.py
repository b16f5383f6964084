"""Suggestions for language codes that a tokenizer does not have: the code that is probably meant.

NLLB calls German `deu_Latn`, mBART `de_DE`, M2M100 `de`. A near match is only suggested, never used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from loraloom.recipe.typos import nearest

# ISO 639-1 codes and NLLB's ISO 639-3 codes for them; for a macrolanguage, that of its largest member.
_PAIRS = """
af:afr ak:aka am:amh ar:arb as:asm ay:ayr az:azj ba:bak be:bel bg:bul bm:bam bn:ben bo:bod br:bre
bs:bos ca:cat cs:ces cy:cym da:dan de:deu dz:dzo ee:ewe el:ell en:eng eo:epo es:spa et:est eu:eus
fa:pes ff:fuv fi:fin fj:fij fo:fao fr:fra fy:fry ga:gle gd:gla gl:glg gn:grn gu:guj ha:hau he:heb
hi:hin hr:hrv ht:hat hu:hun hy:hye id:ind ig:ibo is:isl it:ita ja:jpn jv:jav ka:kat kg:kon ki:kik
kk:kaz km:khm kn:kan ko:kor ku:kmr ky:kir lb:ltz lg:lug li:lim ln:lin lo:lao lt:lit lv:lvs mg:plt
mi:mri mk:mkd ml:mal mn:khk mr:mar ms:zsm mt:mlt my:mya nb:nob ne:npi nl:nld nn:nno no:nob ns:nso
ny:nya oc:oci om:gaz or:ory pa:pan pl:pol ps:pbt pt:por qu:quy rn:run ro:ron ru:rus rw:kin sa:san
sc:srd sd:snd sg:sag si:sin sk:slk sl:slv sm:smo sn:sna so:som sq:als sr:srp ss:ssw st:sot su:sun
sv:swe sw:swh ta:tam te:tel tg:tgk th:tha ti:tir tk:tuk tl:tgl tn:tsn tr:tur ts:tso tt:tat tw:twi
ug:uig uk:ukr ur:urd uz:uzn vi:vie wo:wol xh:xho yi:ydd yo:yor zh:zho zu:zul
"""
_THREE_LETTERS = dict(pair.split(":") for pair in _PAIRS.split())
# Other codes that people write for some of them.
_ALSO = {"ara": "arb", "fas": "pes", "msa": "zsm", "zho": "zho", "cmn": "zho", "swa": "swh", "nor": "nob"}


def suggest(name: str, codes: Iterable[str]) -> str:
    """Return the code that a name most likely means, or "" if no code is similar.

    >>> suggest("de", ["deu_Latn", "fra_Latn"]), suggest("deu_Latn", ["de_DE"]), suggest("__de__", ["de"])
    ('deu_Latn', 'de_DE', 'de')
    """
    known = list(codes)
    same = [code for code in known if _plain(code) == _plain(name)]
    if same:
        return same[0]
    wanted, script = language_of(name), _script(name)
    alike = [code for code in known if wanted and language_of(code) == wanted]
    alike.sort(key=lambda code: _script(code) != script)
    return alike[0] if alike else nearest(name, known)


def language_of(name: str) -> str:
    """Return a code's language as three letters, without script or region; "" for any other text."""
    letters = re.split(r"[_-]", name.strip("_ ").lower())[0]
    letters = _THREE_LETTERS.get(letters, letters)
    letters = _ALSO.get(letters, letters)
    return letters if re.fullmatch(r"[a-z]{3}", letters) else ""


def _plain(name: str) -> str:
    return name.strip("_ ").lower().replace("-", "_")


def _script(name: str) -> str:
    return name.strip("_ ").lower().replace("-", "_").partition("_")[2]
