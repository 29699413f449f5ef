"""A run as HTML: its summary, and some of its traits with their pictures."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup, escape

from sae_traits.release.loading import Released
from sae_traits.release.tables import Row
from sae_traits.rendering import render

N_PICTURES = 8


def html_of(folder: Path, summary: Sequence[str]) -> str:
    """The summary of a run, and a picture of a trait per species for the first species."""
    pictures = [
        {"data": _data_address(row), "species": row["species"] or "no label", "text": row["text"]}
        for row in _shown(folder)
    ]
    text = escape("\n".join(summary))  # with its columns, which `rendering` would take for blanks
    return render(Path(__file__).parent, "run.html.jinja", summary=text, pictures=pictures)


def _shown(folder: Path) -> list[Row]:
    """A previewed trait of each of some species; none where there is no dataset yet, or it holds no images."""
    if not (folder / "dataset" / "README.md").is_file():
        return []
    dataset = Released.open(str(folder))
    by_species: dict[str | None, Row] = {}
    for split in dataset.splits("preview"):
        for row in dataset.rows("preview", split, images=True):
            if row.get("image") and len(by_species) < N_PICTURES:
                by_species.setdefault(row["species"], row)
    return list(by_species.values())


def _data_address(row: Row) -> Markup:
    data = base64.b64encode(row["image"]["bytes"]).decode("ascii")
    return Markup(f"data:image/jpeg;base64,{data}")  # noqa: S704  # letters and digits
