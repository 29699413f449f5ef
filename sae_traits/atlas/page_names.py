"""Names of files made of names in data, which may hold anything: letters, digits and hyphens only, and no two alike."""

import hashlib
import re
import unicodedata

_OTHER = re.compile(r"[^a-z0-9]+")
MAX_LENGTH = 60


class PageNames:
    """Gives every text a name of its own; the same texts in any order get the same names unless two are much alike."""

    def __init__(self) -> None:
        self._taken: dict[str, str] = {}

    def of(self, text: str) -> str:
        """The name of a text; where another text has it already, with a hash."""
        plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
        name = _OTHER.sub("-", plain).strip("-")
        if not name or name != plain.replace(" ", "-") or len(name) > MAX_LENGTH or self._taken.get(name, text) != text:
            name = f"{name[:MAX_LENGTH].rstrip('-')}-{_digest(text)[:8]}".lstrip("-")
        self._taken[name] = text
        return name


def folder_of(text: str) -> str:
    """One of 256 folders, so that none holds more files than a repository on the Hub may have in one."""
    return _digest(text)[:2]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
