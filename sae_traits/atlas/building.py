"""Write the atlas of a release: every page, the pictures, and the data of atlas.js, into one folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae_traits.atlas.comparing import comparison_data, difference
from sae_traits.atlas.drawing import as_svg, close_up, full, histogram, letter_size
from sae_traits.atlas.nouns import Atlas, Species
from sae_traits.atlas.pictures import write_cover
from sae_traits.atlas.quality import quality_of
from sae_traits.atlas.reading import read_atlas
from sae_traits.atlas.reviewing import write_review
from sae_traits.atlas.search_data import search_columns
from sae_traits.errors import ReleaseError
from sae_traits.evaluation.results import Results
from sae_traits.evaluation.review.sheets import Sheet
from sae_traits.io import replacing
from sae_traits.logging import track
from sae_traits.rendering import render
from sae_traits.traits.firing_shares import FiringShares

TEMPLATES = Path(__file__).parent / "templates"
ASSETS = ("atlas.css", "atlas.js")
MARK = "made-by-sae-traits-atlas.txt"
"""In every atlas: a folder without it is somebody else's, and is not replaced."""
SPECIES_PER_PAGE, PHOTOGRAPHS_PER_PAGE, LATENTS_PER_PAGE = 24, 24, 24
MAX_STRONGEST, MAX_RELATIVES, MAX_APART, MAX_PLACES = 12, 12, 8, 200


@dataclass(frozen=True)
class Built:
    """What an atlas came to."""

    folder: Path
    n_species: int
    n_images: int
    n_unlabelled: int
    """Images without a label."""
    n_traits: int
    n_latents: int
    n_files: int
    n_bytes: int

    def lines(self) -> list[str]:
        shown = [f"{self.n_species:,} species"] if self.n_species else []
        shown.append(f"{self.n_images:,} images{'' if self.n_species else ' without a label'}")
        if self.n_species and self.n_unlabelled:
            shown.append(f"{self.n_unlabelled:,} without a label")
        shown += [f"{self.n_traits:,} traits", f"{self.n_latents:,} latents"]
        return [
            f"{self.folder / 'index.html'}: {', '.join(shown)}",
            f"  {self.n_files:,} files, {self.n_bytes / 1e6:,.1f} MB; open it by double click, or put the folder on "
            "any web server",
        ]


def build_atlas(
    dataset: Path,
    out: Path,
    *,
    results: Results | None = None,
    firing: FiringShares | None = None,
    costs: Sequence[tuple[str, str]] = (),
    suggestions: Mapping[int, str] | None = None,
    sheet: Sheet | None = None,
    workers: int = 2,
) -> Built:
    """Write the atlas of a dataset's folder; the same release gives the same bytes.

    Args:
        out: a new folder, or an earlier atlas, which is replaced when the new one is complete.
        results: of the evaluation of the run that made the dataset.
        firing: how often the latents fire in each species, of the same run; a dataset does not have it.
        costs: what making it took, as names and values.
        suggestions: names that a describer proposes for latents without one.
        sheet: for raters; a folder of its own has it, without what its items are.
        workers: threads that make pictures.

    Raises:
        ReleaseError: there is no such dataset, or `out` holds something else than an atlas.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file()):
        raise ReleaseError(f"{out} is no atlas, and would be replaced by one; name a new folder (--out)")
    try:
        with replacing(out) as folder:
            scored = results.tasks.get("localisation") if results else None
            atlas = read_atlas(dataset, folder, workers, scored.by_latent if scored else None)
            for number, name in (suggestions or {}).items():
                if (latent := atlas.latents.get(number)) is not None and not latent.name:
                    latent.suggestion = name
            _Writer(folder, atlas, firing, has_review=sheet is not None).write(results, costs)
            if sheet is not None:
                write_review(folder, atlas, sheet, TEMPLATES)
    except OSError as error:
        raise ReleaseError(f"cannot write {out}: {error.strerror or error}; make room, or name another") from error
    files = [path for path in out.rglob("*") if path.is_file()]
    return Built(
        folder=out,
        n_species=atlas.n_species,
        n_images=len(atlas.images),
        n_unlabelled=atlas.n_unlabelled,
        n_traits=atlas.n_traits,
        n_latents=len(atlas.latents),
        n_files=len(files),
        n_bytes=sum(path.stat().st_size for path in files),
    )


class _Writer:
    """Writes the files of one atlas below a folder."""

    def __init__(self, folder: Path, atlas: Atlas, firing: FiringShares | None, *, has_review: bool) -> None:
        self._folder, self._atlas, self._firing, self._has_review = folder, atlas, firing, has_review

    def write(self, results: Results | None, costs: Sequence[tuple[str, str]]) -> None:
        """Write everything but the pictures, which are there."""
        atlas = self._atlas
        for name in ("species", "latents", "data/compare", "pictures/covers"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        for name in ASSETS:
            (self._folder / name).write_bytes((TEMPLATES / name).read_bytes())
        (self._folder / MARK).write_text("sae-traits atlas writes this folder anew each time.\n", encoding="utf-8")
        for species in atlas.species:
            if (picture := species.cover.picture) is not None:
                write_cover(self._folder / picture, self._folder / "pictures" / "covers" / f"{species.key}.webp")
        self._collection(results, costs)
        for species in track(atlas.species, "pages of species", len(atlas.species), unit="page"):
            self._species(species)
            compared = comparison_data(atlas, species, self._firing)
            self._data(f"compare/{species.key}", f"species[{json.dumps(species.key)}]", compared)
        self._latents()
        self._images()
        choices = [[one.key, one.name] for one in atlas.species if one.has_label or not atlas.n_species]
        self._data("species", "choices", choices)
        self._data("search", "search", search_columns(atlas))
        self._page("compare.html", "compare.html.jinja")
        self._page("names.html", "names.html.jinja")

    def _collection(self, results: Results | None, costs: Sequence[tuple[str, str]]) -> None:
        quality, species = quality_of(self._atlas, results), self._atlas.species
        self._listing("index", "collection.html.jinja", species, SPECIES_PER_PAGE, quality=quality, costs=costs)

    def _species(self, species: Species) -> None:
        atlas = self._atlas
        relatives = atlas.relatives(species)
        apart = species.shown_latents
        described_first = sorted(species.images, key=lambda image: not image.traits)
        differences = [difference(species, relative, self._firing) for relative in relatives[:MAX_RELATIVES]]
        self._listing(
            f"species/{species.key}",
            "species.html.jinja",
            described_first,
            PHOTOGRAPHS_PER_PAGE,
            one=species,
            apart=apart[:MAX_APART],
            n_apart=len(apart),
            differences=differences,
            n_relatives=len(relatives),
        )

    def _latents(self) -> None:
        latents = sorted(
            self._atlas.latents.values(),
            key=lambda one: (-max((row.contrast.effect for row in one.of_species), default=-1e9), one.number),
        )
        self._listing("latents", "latents.html.jinja", latents, LATENTS_PER_PAGE, n_shown=4)
        for latent in track(latents, "pages of latents", len(latents), unit="page"):
            values = [trait.activation for _, trait in latent.regions if trait.activation is not None]
            places = [
                (
                    round(100 * (trait.box[0] + trait.box[2] / 2) / image.size[0], 1),
                    round(100 * (trait.box[1] + trait.box[3] / 2) / image.size[1], 1),
                )
                for image, trait in latent.regions[:: max(1, -(-len(latent.regions) // MAX_PLACES))]
            ]
            self._page(
                latent.page,
                "latent.html.jinja",
                latent=latent,
                strongest=latent.strongest(MAX_STRONGEST),
                bars=histogram(values),
                places=places,
            )
        self._data("latents", "latents", {one.number: one.name for one in latents if one.name})
        self._data("suggested", "suggested", {one.number: one.suggestion for one in latents if one.suggestion})

    def _images(self) -> None:
        pages = ((species, i) for species in self._atlas.species for i in range(len(species.images)))
        for species, i in track(pages, "pages of images", len(self._atlas.images)):
            images = species.images
            self._page(
                images[i].page,
                "image.html.jinja",
                image=images[i],
                one=species,
                before=images[i - 1] if i else None,
                after=images[i + 1] if i + 1 < len(images) else None,
                place=i + 1,
            )

    def _listing(self, name: str, template: str, items: Sequence[Any], n: int, **values: Any) -> None:
        """Write the pages that list some items, at most `n` each."""
        pages = _paged(name, items, n)
        paths = [path for path, _ in pages]
        for number, (path, shown) in enumerate(pages):
            self._page(path, template, shown=shown, pages=paths, number=number, **values)

    def _page(self, path: str, template: str, **values: Any) -> None:
        root = "../" * path.count("/")
        text = render(
            TEMPLATES,
            template,
            atlas=self._atlas,
            root=root,
            path=path,
            as_svg=as_svg,
            close_up=close_up,
            letter=_letter,
            letter_size=letter_size,
            full=full,
            has_review=self._has_review,
            **values,
        )
        (self._folder / path).write_text(text, encoding="utf-8")

    def _data(self, name: str, variable: str, values: Any) -> None:
        """Write values as a classic script, which browsers load from file:// too."""
        # ASCII alone: no character ends a line of JavaScript that does not end one of JSON.
        text = json.dumps(values, separators=(",", ":"), allow_nan=False)
        (self._folder / "data" / f"{name}.js").write_text(f"atlas.{variable}={text};\n", encoding="ascii")


def _paged(name: str, items: Sequence[Any], n: int) -> list[tuple[str, Sequence[Any]]]:
    """Pages of at most `n` items each, as path and items; one page where there is none."""
    n_pages = max(1, -(-len(items) // n))
    # No name of PageNames has an underscore: the second page of a species is no page of another one.
    return [(f"{name}_{i + 1}.html" if i else f"{name}.html", items[i * n : (i + 1) * n]) for i in range(n_pages)]


def _letter(index: int) -> str:
    """A, B, …, Z, 27, …: what a region is called in its image."""
    return chr(ord("A") + index) if index < 26 else str(index + 1)
