"""What a collection says of its images."""

from dataclasses import replace
from pathlib import Path

from sae_traits.schema import Collection, ImageRecord, Taxon

RECORD = ImageRecord(
    image_id="a", file="a.png", taxon=Taxon(species="Aglais io"), split="train", width=4, height=3, sha256="0"
)
COLLECTION = Collection(
    Path("photographs"), (RECORD, replace(RECORD, image_id="b", split="test"), replace(RECORD, image_id="c", width=5))
)


def test_the_rows_of_a_split_come_in_the_order_of_the_collection():
    assert COLLECTION.rows("train").tolist() == [0, 2]
    assert COLLECTION.rows("test").tolist() == [1]
    assert COLLECTION.rows("validation").tolist() == []


def test_the_digest_is_of_the_named_fields_and_of_the_order():
    wider = replace(COLLECTION, images=(replace(RECORD, width=9), *COLLECTION.images[1:]))
    assert wider.digest("image_id", "sha256") == COLLECTION.digest("image_id", "sha256")
    assert wider.digest("image_id", "width") != COLLECTION.digest("image_id", "width")
    turned = replace(COLLECTION, images=COLLECTION.images[::-1])
    assert turned.digest("image_id") != COLLECTION.digest("image_id")
