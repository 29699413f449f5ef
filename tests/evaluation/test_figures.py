"""The picture of some regions: spread over the traits, with a font that has every letter of a name."""

from PIL import Image
from traits.made_traits import collection_of, described, trait_of

from sae_traits.evaluation.figures import GALLERY_SIZE, draw_gallery
from sae_traits.images.decode import open_image


def opener(folder):
    """Opens the photographs of a folder."""
    return lambda record: open_image(folder / record.file)


def test_regions_are_spread_evenly_over_the_traits_and_hybrids_have_a_letter(tmp_path):
    collection = collection_of(["Aus × bus"] * 45, root=tmp_path)
    for record in collection.images[::2]:
        Image.new("RGB", (record.width, record.height), "black").save(tmp_path / record.file)
    traits = [trait_of(row, 1, described()) for row in range(45)]
    path = tmp_path / "regions.png"
    assert draw_gallery(collection, traits, len(traits), path, opener(tmp_path)) == GALLERY_SIZE, (
        "every second one: the others are missing"
    )
    assert draw_gallery(collection, [], 0, tmp_path / "none.png", opener(tmp_path)) == 0
    assert not (tmp_path / "none.png").exists()
