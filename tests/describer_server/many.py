"""As many candidates as a test wants, and a process that has them described: it can be killed and started again.

`python many.py FOLDER N_IMAGES JSON` describes N_IMAGES x TRAITS candidates, writes FOLDER/traits.parquet, and prints
one line of JSON: counts, and the processor time that it and its workers took, start-up included. The JSON has the
options of the describer, and as `class` the name of its class in `config.describer`.
"""

from __future__ import annotations

import json
import resource
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from sae_traits.io import hash_of_file
from sae_traits.schema import Candidate, ChosenLatent, Collection, Contrast, ImageRecord, Region, Taxon
from sae_traits.traits.chosen import LatentsBySpecies

WIDTH, HEIGHT = 160, 120
TRAITS = 5
CONTRAST = Contrast(
    f_species=0.9, f_reference=0.1, effect=2.0, q_value=0.01, significant=True, reference_rank="genus"
)  # fmt: skip


class Chosen(LatentsBySpecies):
    """The same latents for every species."""

    def __init__(self, species: set[str]) -> None:
        self._species = sorted(species)

    def __getitem__(self, species: str) -> dict[int, ChosenLatent]:
        return {
            latent: ChosenLatent(
                species=species, latent=latent, threshold=1.0, contrast=CONTRAST, n_fired=9, n_individuals=10
            )
            for latent in range(TRAITS)
        }

    def __iter__(self) -> Iterator[str]:
        return iter(self._species)

    def __len__(self) -> int:
        return len(self._species)


@dataclass(frozen=True)
class ManyCandidates:
    """A plan with TRAITS candidates per image and five species, made up on the way."""

    folder: Path
    n_images: int

    species_without_latents = ()
    outlines = None

    @cached_property
    def collection(self) -> Collection:
        """Small images, no two alike; drawn unless they are there."""
        (self.folder / "images").mkdir(parents=True, exist_ok=True)
        return Collection(self.folder / "images", tuple(self._image(row) for row in range(self.n_images)))

    def _image(self, row: int) -> ImageRecord:
        file = self.folder / "images" / f"{row}.png"
        if not file.is_file():
            pixels = np.empty((HEIGHT, WIDTH, 3), np.uint8)
            pixels[:] = 40 + row % 200, 90, 200 - row // 200 % 200
            pixels[20:60, 30 + row % 60 : 60 + row % 60] = 230, 159, 0
            Image.fromarray(pixels).save(file)
        return ImageRecord(
            image_id=f"s{row}", file=file.name, taxon=Taxon(genus="Gen", species=f"Gen {'abcde'[row % 5]}"),
            split="test" if row % 4 == 0 else "train", width=WIDTH, height=HEIGHT, sha256=hash_of_file(file),
        )  # fmt: skip

    @cached_property
    def chosen(self) -> Chosen:
        """The latents of each species."""
        return Chosen({record.species for record in self.collection.images})

    def species_of(self, record: ImageRecord, candidate: Candidate) -> str | None:
        """The species that a candidate speaks for: its image's."""
        return record.species

    def candidates(self) -> Iterator[tuple[ImageRecord, list[tuple[Candidate, Region]]]]:
        """Every image with its candidates, as AnnotationPlan gives them."""
        for row, record in enumerate(self.collection.images):
            yield record, [(_candidate(row, latent), _region(row, latent)) for latent in range(TRAITS)]


def _candidate(row: int, latent: int) -> Candidate:
    return Candidate(image=row, latent=latent, patches=(latent,), peak=2.0, contrast=CONTRAST)


def _region(row: int, latent: int) -> Region:
    x, y, width, height = 8.0 * latent, 10.0 * latent, 30.0 + row % 7, 20.0
    ring = (x, y, x + width, y, x + width, y + height, x, y + height)
    share = width * height / (WIDTH * HEIGHT)
    return Region(box=(x, y, width, height), polygons=(ring,), patches=(latent,), area_fraction=share)


def main() -> None:
    """Describe, export, and say what came of it."""
    # Here, not above: worker processes import this file, too, and are to stay small as they are on the command line.
    from sae_traits.config import describer as configs
    from sae_traits.describers import make_describer
    from sae_traits.traits.annotate import describe_candidates, export_traits
    from sae_traits.traits.ledger import Ledger

    folder, n_images, options = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
    config = getattr(configs, options.pop("class"))(**options)
    plan, describer = ManyCandidates(folder, n_images), make_describer(config)
    with Ledger(folder / "ledger.sqlite") as ledger:
        describe_candidates(plan, describer, ledger, workers=config.workers)  # pyright: ignore[reportArgumentType]
        annotation = export_traits(
            plan, ledger,  # pyright: ignore[reportArgumentType]
            traits_file=folder / "traits.parquet", latents_file=folder / "latents.parquet",
        )  # fmt: skip
        counts = Counter(call.state for call in ledger)
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_seconds = sum(times.ru_utime + times.ru_stime for times in usage)
    print(json.dumps({"annotation": asdict(annotation), "ledger": counts, "cpu_seconds": cpu_seconds}))


if __name__ == "__main__":
    main()
