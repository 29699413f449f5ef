"""What is background is learnt from photographs whose middles differ from their edges, and from no others."""

import logging
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from sae_traits.errors import StoreError
from sae_traits.features.background import MIN_INDIVIDUALS, Background, learn_background, shifted
from sae_traits.features.store import FeatureShard
from sae_traits.geometry import Framing
from sae_traits.schema import BackboneInfo, Collection, ImageRecord, Taxon

SIDE, GRID = 112, 14
INFO = BackboneInfo(
    backbone="means", revision="1", layer=0, d_model=5, rows=GRID, columns=GRID, patch=None,
    framing=Framing(mode="squash", size=(SIDE, SIDE)), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
)  # fmt: skip


CROPPED = replace(INFO, framing=Framing(mode="crop", size=(SIDE, SIDE), shortest_side=128))
"""As many models crop: no patch of a plain photograph lies near the photograph's edge."""


class MeanColours:
    """Mean colour of each patch, and as in networks that pad, how near to the edge of the input it is."""

    def __init__(self, info=INFO):
        self.info = info

    def prepare(self, image):
        return torch.from_numpy(np.array(self.info.grid(image.size).frame(image), np.float32) / 255).permute(2, 0, 1)

    def encode(self, batch):
        means = torch.nn.functional.avg_pool2d(batch, SIDE // GRID).flatten(2).transpose(1, 2)
        place = torch.linspace(-1, 1, GRID).abs()
        padding = torch.maximum(place[:, None], place[None]).flatten().expand(len(batch), -1)
        noise = torch.randn(*means.shape[:2], 1, generator=torch.Generator().manual_seed(0))
        return torch.cat([means, padding[..., None], noise], dim=2)


def photograph(kind, generator):
    """A disc on a ground, both of noisy colours; or a ground alone, which is what a close-up shows."""
    pixels = generator.normal((90, 140, 70), 30, (90, 120, 3))
    if kind != "close-up":
        y, x = np.mgrid[:90, :120]
        cx, cy = (60, 45) if kind == "centred" else generator.uniform((0, 0), (120, 90))
        disc = (x - cx) ** 2 + (y - cy) ** 2 < 22**2
        pixels[disc] = generator.normal((200, 90, 60), 30, (int(disc.sum()), 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def collection_of(kind, folder, n_images=60):
    generator = np.random.default_rng(7)
    for number in range(n_images):
        photograph(kind, generator).save(folder / f"{number}.png")
    record = ImageRecord(image_id="", file="", taxon=Taxon(), split="train", width=120, height=90, sha256="")
    return Collection(
        folder, tuple(replace(record, image_id=str(i), individual_id=str(i), file=f"{i}.png") for i in range(n_images))
    )


class Computed:
    """A source of the features of a collection."""

    def __init__(self, collection, backbone):
        self.collection, self.backbone = collection, backbone

    def shards(self, rows):
        for row in rows:
            path = self.collection.path(self.collection.images[row])
            if path.is_file():
                yield replace(shard_of(Image.open(path), self.backbone), images=np.array([row]))


class AllTheSame(Computed):
    """A source in which no patch can be told from another."""

    def shards(self, rows):
        for shard in super().shards(rows):
            yield replace(shard, features=torch.zeros_like(shard.features))


class Nothing(Computed):
    """A source that lost all photographs."""

    def shards(self, rows):
        return iter(())


def learn(collection, info=INFO, source=Computed):
    backbone = MeanColours(info)
    return learn_background(collection, backbone, source(collection, backbone))


def shard_of(image, backbone=None):
    backbone = backbone or MeanColours()
    features = backbone.encode(backbone.prepare(image)[None])[0]
    patches = np.arange(GRID * GRID, dtype=np.int32)
    return FeatureShard(np.array([0]), np.array([0, len(patches)]), patches, features)


def test_what_lies_at_the_edges_of_photographs_is_background(tmp_path):
    background = learn(collection_of("centred", tmp_path))
    assert background.is_known
    assert background.separation > 0.95
    image = Image.new("RGB", (120, 90), (90, 140, 70))
    image.paste((200, 90, 60), (0, 0, 60, 90))  # the colour of the disc over the left half, edges and all
    probability = background.of_shard(shard_of(image), INFO).reshape(GRID, GRID)
    assert probability[:, :5].max() < 0.5 < probability[:, -5:].min()


DISH, ORGANISM, AROUND = (190, 200, 230), (200, 80, 20), (40, 60, 120)


def dishes(folder, n_images=40, *, n_with_organism=None, around=25.0, width=52, radius=8):
    """Small textured discs on plain dishes, whose dark surroundings are at the photographs' edges.

    Args:
        n_with_organism: photographs; the others show an empty dish. None for all.
        around: deviation of the colours of what surrounds the dishes.
        width: half of a dish's, of photographs of 120 x 90 pixels.
        radius: of the organisms.
    """
    collection = collection_of("close-up", folder, n_images)
    generator = np.random.default_rng(3)
    y, x = np.mgrid[:90, :120]
    for number, record in enumerate(collection.images):
        pixels = generator.normal(AROUND, around, (90, 120, 3))
        is_dish = np.maximum(np.abs(x - 60) / width, np.abs(y - 45) / (0.75 * width)) < 1
        pixels[is_dish] = np.array(DISH) + generator.uniform(-6, 6)
        cx, cy = generator.uniform((50, 36), (70, 54))
        disc = (x - cx) ** 2 + (y - cy) ** 2 < radius**2
        if n_with_organism is None or number < n_with_organism:
            pixels[disc] = generator.normal(ORGANISM, 25, (int(disc.sum()), 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / record.file)
    return collection


def background_of(background, colour):
    """The mean probability that patches of one colour show background."""
    return float(background.of_shard(shard_of(Image.new("RGB", (120, 90), colour)), INFO).mean())


def test_plain_ground_in_the_middle_of_photographs_is_background(tmp_path):
    background = learn(dishes(tmp_path))
    assert background.separation > 0.95, "of edges and what is no plain ground"
    assert background_of(background, ORGANISM) < 0.3
    assert background_of(background, DISH) > 0.5, "0.18 if it counted as what lies in the middle, and the organism 0.46"
    assert background_of(background, AROUND) > 0.9


def test_plain_surroundings_of_dishes_leave_them_ground(tmp_path):
    background = learn(dishes(tmp_path, around=2, width=38))
    assert background_of(background, ORGANISM) < 0.3
    assert background_of(background, DISH) > 0.4, "0.1 if only the larger of two plain areas counted"


def test_ground_that_reaches_the_edges_does_not_hide_that_they_differ_from_the_organism(tmp_path):
    background = learn(dishes(tmp_path, width=200, radius=10))
    assert background.separation > 0.85, "0.76 if ground in the middle counted as organism, at the edges 0.5 as none"
    assert background_of(background, ORGANISM) < 0.1
    assert background_of(background, DISH) > 0.8


def test_organisms_that_are_plain_themselves_are_no_ground(tmp_path):
    collection = collection_of("close-up", tmp_path, 40)
    y, x = np.mgrid[:90, :120] - np.array([45, 60])[:, None, None]
    for number, record in enumerate(collection.images):
        pixels = np.array(Image.open(tmp_path / record.file))
        pixels[np.hypot(x, y) < 32] = np.array(ORGANISM) + number % 7
        Image.fromarray(pixels).save(tmp_path / record.file)
    background = learn(collection)
    assert background.is_known
    assert background_of(background, ORGANISM) < 0.2


@pytest.mark.parametrize("n_with_organism", [0, 1, 5])
def test_a_few_photographs_with_more_than_plain_ground_do_not_decide(n_with_organism, tmp_path):
    background = learn(dishes(tmp_path, n_with_organism=n_with_organism, width=200))
    assert not background.is_known
    assert math.isnan(background.separation)


def test_what_a_crop_leaves_of_photographs_has_edges_and_a_middle_too(tmp_path):
    collection = collection_of("centred", tmp_path)
    with warnings.catch_warnings(action="error"):
        assert learn(collection, CROPPED).separation > 0.95
        assert learn(collection, CROPPED, AllTheSame).separation == 0.5, "plain photographs have their say"


@pytest.mark.parametrize("info", [INFO, CROPPED], ids=["squash", "crop"])
def test_without_plain_photographs_to_compare_nothing_is_known(info, tmp_path):
    with warnings.catch_warnings(action="error"):
        background = learn(collection_of("centred", tmp_path), info, Nothing)
    assert math.isnan(background.separation)
    assert not background.is_known


def test_a_smaller_collection_says_as_much_of_the_same_patch(tmp_path):
    collection = collection_of("centred", tmp_path, n_images=96)
    organism = shard_of(Image.new("RGB", (120, 90), (200, 90, 60)))
    learnt = [learn(replace(collection, images=collection.images[:n])) for n in (24, 96)]
    said = [float(background.of_shard(organism, INFO).mean()) for background in learnt]
    assert said[0] == pytest.approx(said[1], abs=0.03), "0.21 apart with one C for both"


@pytest.mark.parametrize("kind", ["close-up", "anywhere"])
def test_where_edges_and_middles_show_the_same_nothing_is_known(kind, tmp_path):
    background = learn(collection_of(kind, tmp_path))
    assert not background.is_known
    assert 0.35 < background.separation < 0.7


def test_a_few_photographs_teach_nothing(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="sae_traits")
    few = collection_of("centred", tmp_path, n_images=MIN_INDIVIDUALS - 1)
    assert not learn(few).is_known
    unknown = replace(few, images=tuple(replace(record, split="test") for record in few.images))
    assert math.isnan(learn(unknown).separation)


def test_many_photographs_of_few_individuals_teach_nothing_either(tmp_path):
    collection = collection_of("centred", tmp_path)
    images = [
        replace(record, individual_id=f"i{n % (MIN_INDIVIDUALS - 1)}") for n, record in enumerate(collection.images)
    ]
    assert not learn(replace(collection, images=tuple(images))).is_known


@pytest.mark.slow
def test_a_large_photograph_is_shrunk_and_teaches_the_same(tmp_path):
    collection = collection_of("centred", tmp_path, n_images=30)
    plain = learn(collection)
    for record in collection.images:
        with Image.open(tmp_path / record.file) as image:
            image.resize((2400, 1800), Image.Resampling.NEAREST).save(tmp_path / record.file, compress_level=1)
    large = learn(replace(collection, images=tuple(replace(r, width=2400, height=1800) for r in collection.images)))
    assert large.separation == pytest.approx(plain.separation, abs=0.05)


def test_the_same_seed_learns_the_same_and_labels_do_not_matter(tmp_path):
    collection = collection_of("centred", tmp_path)
    named = replace(collection, images=tuple(replace(r, taxon=Taxon(species="Aus bus")) for r in collection.images))
    first, second = learn(collection), learn(named)
    assert np.array_equal(first.weights, second.weights)
    assert (first.bias, first.separation) == (second.bias, second.separation)


def test_a_shifted_photograph_is_continued_by_its_mirror_images():
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = Image.fromarray(np.repeat(pixels[..., None], 3, axis=2))
    assert np.array_equal(np.asarray(shifted(image, (0, 0)))[..., 0], pixels)
    assert np.asarray(shifted(image, (2, 1)))[..., 0].tolist() == [[6, 7, 7, 6], [10, 11, 11, 10], [10, 11, 11, 10]]
    assert np.array_equal(np.asarray(shifted(image, (8, 6)))[..., 0], pixels)


def test_probabilities_are_smoothed_within_an_image_and_its_patches_only():
    background = Background(np.array([4, 0, 0, 0, 0], np.float32), 0.0, 1.0)
    features = torch.zeros(2 * GRID * GRID, 5)
    features[GRID * GRID :, 0] = 1  # the second image is background everywhere
    patches = np.tile(np.arange(GRID * GRID, dtype=np.int32), 2)
    offsets = np.array([0, GRID * GRID, 2 * GRID * GRID])
    probability = background.of_shard(FeatureShard(np.array([0, 1]), offsets, patches, features), INFO)
    assert probability[: GRID * GRID] == pytest.approx(0.5)
    assert probability[GRID * GRID :] == pytest.approx(1 / (1 + np.exp(-4)))
    few = FeatureShard(np.array([0]), np.array([0, 3]), np.array([0, 1, 14], np.int32), torch.ones(3, 5))
    assert background.of_shard(few, INFO) == pytest.approx(1 / (1 + np.exp(-4)))


def test_a_model_is_read_as_it_was_written_and_a_damaged_one_is_refused(tmp_path):
    path = tmp_path / "background.safetensors"
    background = Background(np.arange(5, dtype=np.float32), -1.5, 0.875)
    background.save(path)
    again = Background.open(path)
    assert np.array_equal(again.weights, background.weights)
    assert (again.bias, again.separation, again.is_known) == (-1.5, 0.875, True)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(StoreError, match="annotate"):
        Background.open(path)


def test_a_photograph_that_is_gone_is_named_and_the_others_are_learnt_from(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="sae_traits")
    collection = collection_of("centred", tmp_path)
    (tmp_path / "3.png").unlink()
    assert learn(collection).is_known
    assert str(tmp_path / "3.png") in caplog.text
