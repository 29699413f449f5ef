"""The terms of images by their licences as written, which may ask for more than a licence of weights made from them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sae_traits.rendering import HUB_LICENSES, license_identifier

Licenses = Mapping[str | None, int]
"""Licence as written, None where none was given -> images."""

_OTHER = "of other or unknown terms"
_KINDS = {
    "non-commercial": re.compile(r"(?<![a-z])nc(?![a-z])|non?-?commercial|not-for-commercial"),
    "share-alike": re.compile(r"(?<![a-z])sa(?![a-z])|share-?alike|gpl|odbl"),
    "no-derivatives": re.compile(r"(?<![a-z])nd(?![a-z])|no-?deriv"),
}
_FREE = re.compile(r"cc-?0|public-?domain|cc-mark|cc-by(?:-\d|$)|attribution|no-known-copyright")
"""Begins a licence that asks for no more than names; the identifiers of the Hub are known as well."""


def terms_warning(license: str, licenses: Licenses) -> str | None:
    """What a publisher of weights should know of the terms of their training images; None where these ask for no more.

    Args:
        license: of the weights; terms that it has itself are none to warn of.
        licenses: of the images that they were trained on.
    """
    counts: dict[str, int] = {}
    for written, n_images in licenses.items():
        for kind in _terms(written) - _terms(license):
            counts[kind] = counts.get(kind, 0) + n_images
    if not counts:
        return None
    parts = ", ".join(f"{counts[kind]:,} {kind}" for kind in (*_KINDS, _OTHER) if kind in counts)
    return (
        f"a licence is said of weights that were trained on {sum(licenses.values()):,} images, of which by their own "
        f"licences {parts}; say it only if these terms allow it"
    )


def _terms(license: str | None) -> set[str]:
    """What a licence asks for beyond names; it is unknown of one that is neither known nor says so."""
    if license is None:
        return {_OTHER}
    identifier = license_identifier(license)
    found = {kind for kind, said in _KINDS.items() if said.search(identifier)}
    is_free = identifier in HUB_LICENSES or _FREE.match(identifier)
    return found or (set() if is_free else {_OTHER})
