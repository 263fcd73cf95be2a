"""Organs by the names people give them."""

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from nnunetv2_unet3plus.conversion.findings import FaultyFileError, Finding

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
    """Every word for an organ, as `words_of` gives them; an unknown organ has its own words only."""
    asked = set(words_of(organ))
    for names in NAMES.values():
        words = frozenset(words_of(names))
        if asked & words:
            return words
    return frozenset(asked)


def matching(names: Mapping[Key, str], organ: str) -> list[Key]:
    """Those of the names that mean an organ.

    The very name that was asked for, else those that say nothing but the organ, else all that have a word for it.
    """
    if same := [key for key, name in names.items() if name.strip().casefold() == organ.strip().casefold()]:
        return same
    wanted = synonyms(organ)
    words = {key: words_of(name) for key, name in names.items()}
    exact = [key for key, of_name in words.items() if of_name and wanted.issuperset(of_name)]
    return exact or [key for key, of_name in words.items() if wanted.intersection(of_name)]


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
    if name.strip().casefold() != organ.strip().casefold() and not synonyms(organ).issuperset(words_of(name)):
        text = f"the only structure with the {organ} in its name was taken; it says more than that"
        findings.append(Finding("warning", "label", "name", text, f": {name!r}"))
    return found[0]


def is_mask_name(name: str) -> bool:
    """Whether a file's name says that it holds a mask."""
    words = set(words_of(name))
    return not words.isdisjoint(_MASK_WORDS.split()) or any(words & synonyms(organ) for organ in NAMES)
