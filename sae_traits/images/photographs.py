"""Photographs of organisms whose species nobody has said: examined as images are, without names."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from PIL import Image

from sae_traits.errors import ImageError
from sae_traits.images.decode import ImageFacts, examine_image
from sae_traits.images.listing import Listing
from sae_traits.images.reading import record_of
from sae_traits.logging import track
from sae_traits.schema import ImageRecord, Problem, Taxon


def read_photographs(listing: Listing, *, workers: int) -> tuple[tuple[ImageRecord, ...], tuple[Problem, ...]]:
    """The photographs that can be used, sorted by file, and what could not be used, the listing's problems included.

    All are in the split `test`: nothing is chosen or trained on them.
    """
    problems = list(listing.problems)
    records = []

    def examine(file: str) -> ImageFacts | ImageError:
        try:
            return examine_image(Path(listing.root, file))
        except ImageError as error:
            return error

    # `examine_image` refuses what Pillow warns of as a decompression bomb, so that its warning says nothing new.
    with warnings.catch_warnings(), ThreadPoolExecutor(max(1, workers)) as pool:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        answers = pool.map(examine, (row.file for row in listing.rows))
        for row, facts in zip(listing.rows, track(answers, "examining", total=len(listing.rows)), strict=True):
            if isinstance(facts, ImageError):
                problems.append(Problem(row.file, str(facts)))
                continue
            records.append(record_of(replace(row, mask_file=None), facts, Taxon(), "test"))
    records.sort(key=lambda record: record.file)
    problems.sort(key=lambda problem: (problem.file, problem.reason))
    return tuple(records), tuple(problems)
