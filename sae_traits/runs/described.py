"""The traits of a run by their number, for what needs some of them only: a run may have millions."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import TypeAdapter

from sae_traits.evaluation.review.sheets import Described
from sae_traits.runs.context import Context
from sae_traits.runs.release import names_of_latents
from sae_traits.schema import Trait
from sae_traits.traits.latent_names import named_traits


class DescribedTraits(Sequence[Described]):
    """Traits as they are released, each read with its image when it is asked for.

    Args:
        context: the run.
        of_images: ids of the images whose traits these are; None for all.

    Raises:
        StoreError: it is not annotated.
    """

    def __init__(self, context: Context, *, of_images: Collection[str] | None = None) -> None:
        context.steps.check(reading=["annotate"])
        self._images = context.collection.images
        self._file = pq.ParquetFile(context.folder.traits)
        self._names = names_of_latents(context)
        self._trait = TypeAdapter(Trait)
        groups = (self._file.metadata.row_group(group) for group in range(self._file.num_row_groups))
        self._starts = np.cumsum([0, *(group.num_rows for group in groups)])
        self._rows = np.arange(self._starts[-1])
        if of_images is not None:
            image_of = self._file.read(["candidate.image"])["candidate"].combine_chunks().field("image").to_numpy()
            is_one = np.array([image.image_id in of_images for image in self._images])
            self._rows = self._rows[is_one[image_of]]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> Described:  # pyright: ignore[reportIncompatibleMethodOverride]  # no slices
        row = self._rows[number]
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        (values,) = self._file.read_row_group(group).slice(row - self._starts[group], 1).to_pylist()
        (trait,) = named_traits([self._trait.validate_python(values)], self._names)
        return self._images[trait.candidate.image], trait

    def without(self, trait_ids: Collection[str]) -> NDArray[np.intp]:
        """The numbers of the traits that are not among these."""
        ids = self._file.read(["trait_id"])["trait_id"].take(self._rows)
        return np.flatnonzero(~ids.to_pandas().isin(trait_ids))
