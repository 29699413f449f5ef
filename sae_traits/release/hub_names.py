"""The Hub's names for licences and for the sizes of datasets."""

from __future__ import annotations

import re

HUB_LICENSES = frozenset(
    {"apache-2.0", "mit", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"}
    | {"cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"}
    | {"cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "odbl", "odc-by", "pddl"}
)
"""The licences of images and data that the Hub has identifiers for."""


def hub_license(licenses: set[str | None]) -> str:
    """The Hub's identifier where all images share one licence that it knows; `unknown` where none has one."""
    if licenses == {None}:
        return "unknown"
    if len(licenses) > 1:
        return "other"
    identifier = _identifier(str(next(iter(licenses))))
    return identifier if identifier in HUB_LICENSES else "other"


def _identifier(license_text: str) -> str:
    """`CC BY-NC 4.0` and `https://creativecommons.org/licenses/by-nc/4.0/` as `cc-by-nc-4.0`."""
    text = license_text.strip().lower()
    deed = re.fullmatch(r"https?://creativecommons\.org/(?:licenses|publicdomain)/([a-z-]+)/(\d\.\d)(?:/.*)?", text)
    if deed:
        return "cc0-1.0" if deed[1] == "zero" else f"cc-{deed[1]}-{deed[2]}"
    text = re.sub(r"[\s_-]+", "-", text)
    return "cc0-1.0" if text == "cc0" else text


def size_category(n_rows: int) -> str:
    """The Hub's identifier of a number of rows."""
    bounds = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
    return next((name for bound, name in bounds if n_rows < bound), "10M<n<100M" if n_rows < 10**8 else "100M<n<1B")
