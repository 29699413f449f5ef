"""The picture of some regions: of every species, with whole captions, in a font that has every letter of a name."""

from pathlib import Path

import matplotlib
from hypothesis import given
from hypothesis.strategies import integers, text
from PIL import Image, ImageFont
from traits.made_traits import collection_of, described, trait_of

from sae_traits.evaluation.figures import CLOSE_UP_SIDE, GALLERY_SIZE, MAX_TILES, draw_close_ups, draw_gallery
from sae_traits.evaluation.tasks.species_traits import TraitPicture
from sae_traits.images.decode import open_image
from sae_traits.traits.contact_sheet import wrap_text


def opener(folder):
    """Opens the photographs of a folder."""
    return lambda record: open_image(folder / record.file)


def test_every_species_is_shown_and_few_ones_several_times(tmp_path):
    names = [f"Aus × b{row // 3:02d}" for row in range(90)]
    collection = collection_of(names, root=tmp_path)
    for record in collection.images[::2]:
        Image.new("RGB", (record.width, record.height), "black").save(tmp_path / record.file)  # the others are missing
    traits = [trait_of(row, 1, described()) for row in range(90)]
    path, open_picture = tmp_path / "regions.png", opener(tmp_path)
    assert draw_gallery(collection, traits, path, open_picture) == 30, "one of each"
    first = path.read_bytes()
    assert draw_gallery(collection, traits, path, open_picture) == 30
    assert path.read_bytes() == first
    few = collection_of([f"Aus b{row % 4}" for row in range(90)], root=tmp_path)
    assert draw_gallery(few, traits[:42], path, open_picture) == GALLERY_SIZE, "five of each"
    assert draw_gallery(few, traits[:6], path, open_picture) == 6, "all that there are"
    many = collection_of([f"Aus b{row}" for row in range(MAX_TILES + 5)], root=tmp_path)
    traits = [trait_of(row, 1, described()) for row in range(MAX_TILES + 5)]
    assert draw_gallery(many, traits, path, open_picture) == MAX_TILES
    assert draw_gallery(collection, [], tmp_path / "none.png", open_picture) == 0
    assert not (tmp_path / "none.png").exists()


def test_which_regions_are_drawn_does_not_depend_on_their_order(tmp_path):
    collection = collection_of(["Aus bus"] * 60, root=tmp_path)
    for row, record in enumerate(collection.images):
        Image.new("RGB", (record.width, record.height), (4 * row, 0, 0)).save(tmp_path / record.file)
    traits = [trait_of(row, 1, described()) for row in range(60)]
    paths = tmp_path / "one.png", tmp_path / "other.png"
    for path, some in zip(paths, (traits, traits[::-1]), strict=True):
        assert draw_gallery(collection, some, path, opener(tmp_path)) == GALLERY_SIZE
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_of_an_image_one_region_is_drawn(tmp_path):
    collection = collection_of(["Aus bus"] * 3, root=tmp_path)
    traits = [trait_of(row, latent, described()) for row in range(3) for latent in range(8)]
    assert draw_gallery(collection, traits, tmp_path / "regions.png", opener(tmp_path)) == 3


def test_a_long_caption_is_whole(tmp_path):
    collection = collection_of(["Aus bus"], root=tmp_path)
    Image.new("RGB", (100, 80), "black").save(tmp_path / collection.images[0].file)
    heights = []
    for said in ("A part.", "A part that has a long sentence, with a colour and a place. " * 6):
        draw_gallery(collection, [trait_of(0, 1, described(said))], tmp_path / "regions.png", opener(tmp_path))
        heights.append(Image.open(tmp_path / "regions.png").height)
    assert heights[1] >= heights[0] + 5 * 16


@given(text(alphabet="abc defé×", max_size=200), integers(20, 200))
def test_wrapping_loses_no_letter_and_keeps_to_the_width(words, width):
    font = ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), 12)
    lines = wrap_text(words, font, width)
    assert "".join("".join(lines).split()) == "".join(words.split())
    assert all(font.getlength(line) <= width for line in lines)


def test_a_region_may_have_several_close_ups_and_those_of_before_go(tmp_path):
    collection = collection_of(["Aus bus", "Aus cus"], root=tmp_path)
    for record, colour in zip(collection.images, ("black", "red"), strict=True):
        Image.new("RGB", (100, 80), colour).save(tmp_path / record.file)
    traits = [trait_of(row, 1, described()) for row in range(2)]
    shown = {"000-0.jpg": "s0-1", "000-0-relative.jpg": "s1-1", "001-0-relative.jpg": "s0-1"}
    pictures = [TraitPicture(file=f"figures/traits/{file}", trait_id=of, split="train") for file, of in shown.items()]
    (tmp_path / "figures" / "traits").mkdir(parents=True)
    former = tmp_path / "figures" / "traits" / "009-2.jpg"
    former.write_bytes(b"")
    draw_close_ups(collection, traits, pictures, tmp_path, opener(tmp_path))
    drawn = {path.name: path for path in former.parent.iterdir()}
    assert drawn.keys() == shown.keys()
    assert drawn["000-0.jpg"].read_bytes() == drawn["001-0-relative.jpg"].read_bytes()
    corner = [
        Image.open(path).getpixel((CLOSE_UP_SIDE - 1, 0)) for path in (drawn["000-0.jpg"], drawn["000-0-relative.jpg"])
    ]
    assert corner[0] == (0, 0, 0)
    assert corner[1][0] > 240
