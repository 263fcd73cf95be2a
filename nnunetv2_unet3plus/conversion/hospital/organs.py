"""Organs by the names people give them."""

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from nnunetv2_unet3plus.conversion.findings import FaultyFileError, Finding
from nnunetv2_unet3plus.errors import UserError

Key = TypeVar("Key")

# English, Latin, German, French, Spanish, Italian, Portuguese, Dutch, Danish/Norwegian, Swedish, Finnish, Polish,
# Czech, Turkish, Russian, Chinese, Japanese, Korean.
NAMES: Mapping[str, str] = {
    "spleen": (
        "spleen lien splen milz rate bazo milza baço milt milten mjälte perna śledziona slezina dalak селезёнка "
        "селезенка 脾 脾脏 脾臓 비장"
    ),
    "liver": (
        "liver hepar leber foie hígado fegato fígado lever leveren levern maksa wątroba játra karaciğer печень 肝 肝脏 "
        "肝臓 간"
    ),
    "pancreas": (
        "pancreas bauchspeicheldrüse pankreas pancréas páncreas alvleesklier bukspyttkirtel bukspottkörtel haima "
        "trzustka slinivka поджелудочная 胰腺 膵臓 췌장"
    ),
    "kidney": (
        "kidney kidneys ren niere nieren rein reins riñón riñones rene reni rim rins nier nyre njure munuainen nerka "
        "nerki ledvina ledviny böbrek почка почки 肾 肾脏 腎臓 신장"
    ),
}

_NOT_THE_ORGAN = (
    "tumor tumors tumour tumours lesion lesions cyst cysts metastasis metastases met mets gtv ctv ptv itv prv margin "
    "ring minus not no without ohne sans sin vessels bed dose"
)

_MASK_WORDS = (
    "mask masks label labels labelmap seg segm segmentation segmentations gt ground truth roi contour contours "
    "annotation annotations manual"
)


def words_of(name: str) -> list[str]:
    """The words of a name, without case, accents and digits: `Milz_links2` has `milz` and `links`."""
    parted = re.sub(r"(?<=[a-zа-я])(?=[A-ZА-Я])", " ", name)
    plain = unicodedata.normalize("NFKD", parted.casefold())
    # Hangul comes apart under NFKD, too; NFC puts it together after the accents are gone.
    plain = unicodedata.normalize("NFC", "".join(sign for sign in plain if not unicodedata.combining(sign)))
    return [word for word in re.split(r"[\W\d_]+", plain) if word]


def synonyms(organ: str) -> frozenset[str]:
    """Every word for the organ in a name; none if it is not one of `NAMES`."""
    asked = set(words_of(organ))
    for names in NAMES.values():
        words = frozenset(words_of(names))
        if asked & words:
            return words
    return frozenset()


def matching(names: Mapping[Key, str], organ: str) -> list[Key]:
    """Those of the names that mean an organ.

    The very name that was asked for, else those that say nothing else, else all that have a word for it. What was asked
    for beside the organ, as in `left kidney`, must be there as it is; a tumour of an organ, or what lies around it, is
    not the organ.
    """
    if same := [key for key, name in names.items() if _plainly(name) == _plainly(organ)]:
        return same
    any_of = synonyms(organ)
    all_of = set(words_of(organ)) - any_of
    words = {key: set(words_of(name)) for key, name in names.items()}
    found = [key for key, of in words.items() if of and all_of <= of and (of & any_of or not any_of)]
    exact = [key for key in found if words[key] <= all_of | any_of]
    return exact or [key for key in found if words[key].isdisjoint(set(_NOT_THE_ORGAN.split()) - all_of)]


def _plainly(name: str) -> str:
    return " ".join(name.casefold().split())


def choose(names: Mapping[Key, str], organ: str, path: Path, findings: list[Finding]) -> Key:
    """The one of a file's structures that is an organ.

    Args:
        names: Structure -> its name.
        organ: The organ, in any of the languages above.
        path: The file, for messages.
        findings: That the name says more than the organ is added here.

    Raises:
        FaultyFileError: If none or several are; the names it has are listed.
    """
    listed = "; it has " + (", ".join(repr(name) for name in names.values()) or "none at all")
    found = matching(names, organ)
    if not found:
        text = f"no structure here is named as the {organ} is; name one with --organ"
        raise FaultyFileError(path, "label", "no such organ", text, listed)
    if len(found) > 1:
        text = f"{len(found)} structures have the {organ} in their names; rename all but one"
        raise FaultyFileError(path, "label", "several masks", text, listed)
    name = names[found[0]]
    if _plainly(name) != _plainly(organ) and not set(words_of(name)) <= synonyms(organ) | set(words_of(organ)):
        text = f"the only structure with the {organ} in its name was taken; it says more than that"
        findings.append(Finding("warning", "label", "name", text, f": {name!r}"))
    return found[0]


def is_mask_name(name: str, organ: str) -> bool:
    """Whether a file's name says that it holds a mask: it says so, or names an organ."""
    return says_mask(name) or bool(organs_in(name)) or bool(matching({0: name}, organ))


def says_mask(name: str) -> bool:
    """Whether a name has a word for masks in it."""
    return not set(words_of(name)).isdisjoint(_MASK_WORDS.split())


def organs_in(name: str) -> list[str]:
    """The known organs that a name names, in English."""
    return [organ for organ in NAMES if not synonyms(organ).isdisjoint(words_of(name))]


def english(organ: str) -> str:
    """The organ's English name where it is known, with what was asked for beside it: `left kidney`.

    Raises:
        UserError: If nothing is left of a name that nnU-Net could use.
    """
    known = next((name for name in NAMES if synonyms(name) == synonyms(organ)), None)
    others = [word for word in words_of(organ) if word not in synonyms(organ)]
    name = " ".join([*others, known] if known else others)
    if not name or name in ("background", "ignore"):
        raise UserError(f"--organ {organ!r}: not the name of an organ; give one such as spleen")
    return name
