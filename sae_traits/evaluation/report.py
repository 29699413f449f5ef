"""RUN/evaluation: results.json for machines, report.md for people, and a picture of some regions."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
from PIL import Image, ImageDraw, ImageFont, ImageOps

from sae_traits.describers.overlay import draw_region, place_region
from sae_traits.evaluation.statistics import interval_text
from sae_traits.images.decode import open_image
from sae_traits.schema import REGION_SOURCES, Collection, Trait

GALLERY_SIZE = 20
_COLUMNS, _TILE, _CAPTION = 5, 320, 44


def write_report(folder: Path, title: str, results: dict[str, Any], sections: dict[str, Sequence[str]]) -> None:
    """Write results.json and report.md.

    Args:
        folder: RUN/evaluation.
        title: heading of the report.
        results: plain values; NaN becomes null.
        sections: heading -> lines of Markdown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_without_nan(results), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / "results.json").write_text(text + "\n", encoding="utf-8")
    parts = [f"# {title}"]
    for heading, lines in sections.items():
        parts += ["", f"## {heading}", "", *lines]
    (folder / "report.md").write_text("\n".join(parts) + "\n", encoding="utf-8")


DRAWN_HEADING = "Against the truth of the drawn world"
ZERO_SHOT_HEADING = "Zero-shot classification"


def report_sections(
    results: dict[str, Any],
    *,
    species: Sequence[str],
    quality: Sequence[str],
    drawn: Sequence[str],
    zero_shot: Sequence[str],
    n_regions_drawn: int,
) -> dict[str, Sequence[str]]:
    """The sections of a run's report.

    Args:
        results: what results.json holds: sae, regions, traits, quality, on_animal, drawn, zero_shot.
        species: what was found of each species, as Markdown.
        quality: failures and consistency of the descriptions, as Markdown.
        drawn: the drawn world's scores as text; empty for real images.
        zero_shot: the zero-shot evaluation as Markdown; empty where it was skipped.
        n_regions_drawn: how many regions the gallery shows.
    """
    sae, traits = results["sae"], results["traits"]
    sections: dict[str, Sequence[str]] = {
        "Sparse autoencoder": [
            "Measured on validation images (training ones where there are none).",
            "",
            "| measure | value |",
            "| --- | --- |",
            f"| explained variance | {sae['explained_variance']:.4f} |",
            f"| mean squared error | {sae['mse']:.4g} |",
            f"| active latents a patch (L0) | {sae['l0']:.2f} |",
            f"| dead latents | {sae['dead_share']:.2%} |",
            f"| patches measured | {sae['n_patches']:,} |",
        ],
        "Traits": [
            f"Regions: {REGION_SOURCES[results['regions']]}.",
            "",
            f"{traits['n_traits']:,} traits of {traits['n_images']:,} images; {traits['n_significant']:,} with a "
            f"q-value of at most 0.05. Left out: {traits['n_background']} called background, {traits['n_invalid']} "
            f"invalid and {traits['n_failed']} failed answers, all kept in the ledger.",
        ],
        "What was found of each species": species,
        "Quality of the descriptions": quality,
    }
    if (score := results["on_animal"]) is not None:
        sections["Regions on the animal"] = [
            "Share of a region's patches that lies on the foreground mask; random: the same shapes elsewhere in the",
            "same image. Intervals are 95 % bootstrap intervals over images. No region was chosen by the masks.",
            "",
            "| regions | random | difference | traits | images |",
            "| --- | --- | --- | --- | --- |",
            f"| {' | '.join(interval_text(score[name]) for name in ('on_animal', 'random', 'gain'))} "
            f"| {score['n_traits']} | {score['n_images']} |",
            "",
            "| species | share |",
            "| --- | --- |",
            *(f"| {escape(species)} | {share:.3f} |" for species, share in score["by_species"].items()),
        ]
    if drawn:
        sections[DRAWN_HEADING] = ["```", *drawn, "```"]
    if n_regions_drawn:
        sections["Some regions"] = ["![Regions drawn on their images](figures/regions.png)"]
    figure = ["", "![Accuracy by kind of class text](figures/zero_shot.png)"]
    sections[ZERO_SHOT_HEADING] = [*zero_shot, *figure] if zero_shot else ["Skipped: no --clip was given."]
    return sections


def read_section(folder: Path, heading: str) -> str:
    """The text of one section of a written report; empty where it has none."""
    text = (folder / "report.md").read_text(encoding="utf-8")
    _, _, after = text.partition(f"\n## {heading}\n")
    return after.partition("\n## ")[0].strip()


def draw_gallery(collection: Collection, traits: Sequence[Trait], path: Path) -> int:
    """Draw some regions on their images, spread evenly over the traits, as one PNG; how many were drawn."""
    step = max(1, len(traits) // GALLERY_SIZE)
    chosen = traits[::step][:GALLERY_SIZE]
    if not chosen:
        return 0
    rows = math.ceil(len(chosen) / _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * _TILE, rows * (_TILE + _CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    # Pillow's own font lacks the multiplication sign of hybrids.
    font = ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), 12)
    for index, trait in enumerate(chosen):
        record = collection.images[trait.candidate.image]
        image = open_image(collection.path(record))
        tile = ImageOps.contain(image, (_TILE - 8, _TILE - 8))
        scale = tile.width / image.width, tile.height / image.height
        left, top = index % _COLUMNS * _TILE + 4, index // _COLUMNS * (_TILE + _CAPTION) + 4
        sheet.paste(draw_region(tile, place_region(trait.region, (0, 0), scale)), (left, top))
        latent = trait.candidate.latent
        picked_by = trait.candidate.region_source if latent is None else f"latent {latent}"
        species = record.taxon.species or "no label"
        caption = f"{species}, {picked_by}\n{_shorten(trait.description.text, 44)}"
        draw.multiline_text((left, top + _TILE - 6), caption, fill="black", font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return len(chosen)


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
