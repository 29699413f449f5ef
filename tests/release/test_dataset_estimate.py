"""How large a dataset will be, from the sizes of the images' files."""

import pytest

from sae_traits.config.release import ReleaseConfig
from sae_traits.errors import ReleaseError
from sae_traits.release.dataset import BYTES_PER_TRAIT, estimate_dataset
from sae_traits.schema import Collection, ImageRecord, Taxon


@pytest.fixture
def collection(tmp_path):
    """Three images of 400 x 200 pixels and 10,000 bytes."""
    records = []
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(bytes(10_000))
        records.append(
            ImageRecord(
                image_id=str(number),
                file=f"{number}.jpg",
                taxon=Taxon(species="Fictus primus"),
                split="train",
                width=400,
                height=200,
                sha256="0" * 64,
            )
        )
    return Collection(tmp_path, tuple(records))


def test_an_image_is_there_twice_and_smaller_where_it_is_reduced(collection):
    rows = 3 * 5 * BYTES_PER_TRAIT
    whole = estimate_dataset(collection, ReleaseConfig(longest_side=512), traits_per_image=5)
    assert whole == 3 * 2 * 10_000 + rows
    halved = estimate_dataset(collection, ReleaseConfig(longest_side=200), traits_per_image=5)
    assert halved == 3 * (10_000 + 2_500) + rows


def test_a_release_by_reference_holds_rows_alone(collection):
    (collection.root / "0.jpg").unlink()
    by_reference = ReleaseConfig(images="reference")
    assert estimate_dataset(collection, by_reference, traits_per_image=4) == 3 * 4 * BYTES_PER_TRAIT
    with pytest.raises(ReleaseError, match=r"0\.jpg"):
        estimate_dataset(collection, ReleaseConfig(), traits_per_image=4)
