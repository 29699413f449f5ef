from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_traits import record_of

from sae_traits import SAE, SAEConfig
from sae_traits.errors import StoreError
from sae_traits.features.background import PatchBackground
from sae_traits.features.store import FeatureShard
from sae_traits.geometry import Framing
from sae_traits.schema import BackboneInfo
from sae_traits.traits.codes import THRESHOLDS_FILE, Codes, probabilities_of
from sae_traits.traits.encode import (
    QuantileSketch,
    encode_collection,
    encode_parts,
    firing_thresholds,
    training_weights,
)
from sae_traits.traits.usual_places import UsualPlaces

N_LATENTS, D_MODEL = 12, 5


class MemoryStore:
    """A feature store in memory, with shards of differing sizes and images with differing numbers of patches."""

    info = BackboneInfo(
        backbone="texture", revision="1", layer=0, d_model=D_MODEL, rows=3, columns=6, patch=None,
        framing=Framing(mode="squash", size=(64, 64)), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
    )  # fmt: skip

    def __init__(self, n_patches=(4, 0, 7, 3, 5), shards=((0, 1, 2), (3, 4))):
        generator = torch.Generator().manual_seed(3)
        self.n_images = len(n_patches)
        self.features = [torch.randn(n, D_MODEL, generator=generator) for n in n_patches]
        self.patches = [np.arange(n, dtype=np.int32) * 2 for n in n_patches]
        self.rows = shards
        self.given = []
        """Rows of each shard that was asked for."""

    @property
    def units(self):
        return [range(rows[0], rows[-1] + 1) for rows in self.rows]

    def count_shards(self, records=None):
        return len(self._chosen(records))

    def _chosen(self, records):
        chosen = range(self.n_images) if records is None else list(records)
        rows = [tuple(row for row in own if row in chosen) for own in self.rows]
        return [own for own in rows if own]

    def shards(self, records=None):
        for rows in self._chosen(records):
            self.given.append(rows)
            yield FeatureShard(
                np.array(rows),
                np.cumsum([0, *(len(self.features[r]) for r in rows)]),
                np.concatenate([self.patches[r] for r in rows]),
                torch.cat([self.features[r] for r in rows]),
            )


@pytest.fixture
def sae():
    return SAE.from_config(SAEConfig(architecture="topk", d_model=D_MODEL, n_latents=N_LATENTS, k=4), seed=0)


def dense(sae, store):
    with torch.no_grad():
        return [sae.encode(features).numpy() for features in store.features]


def test_the_codes_are_exactly_the_activations_above_the_thresholds(sae, tmp_path):
    store = MemoryStore()
    thresholds = np.linspace(0.1, 1.2, N_LATENTS, dtype=np.float32)
    codes = encode_collection(sae, store, thresholds, tmp_path)
    found = {
        (c.image, int(z), int(p)): float(v)
        for c in codes.images()
        for z, p, v in zip(c.latents, c.patches, c.values, strict=True)
    }
    expected = {
        (row, z, int(store.patches[row][i])): float(latents[i, z])
        for row, latents in enumerate(dense(sae, store))
        for i, z in zip(*np.nonzero(latents > thresholds), strict=True)
    }
    assert found == pytest.approx(expected)
    assert len(found) > 10
    counts = np.zeros((5, N_LATENTS), int)
    for images, of_images in codes.firing_counts():
        assert of_images.sum(axis=1).all(), "no rows of images in which nothing fired, of other parts above all"
        counts[images] += of_images.toarray()
    for row, latents in enumerate(dense(sae, store)):
        assert counts[row].tolist() == (latents > thresholds).sum(0).tolist()


def test_thresholds_come_from_the_training_images_alone(sae):
    store = MemoryStore()
    training = np.array([1.0, 1.0, 1.0, 0.0, 0.0])
    before = firing_thresholds(sae, store, training, 0.5)
    assert store.given == [(0, 1, 2)], "features of other images are not even asked for"
    store.features[3] = store.features[3] * 100
    assert firing_thresholds(sae, store, training, 0.5).tolist() == before.tolist()
    values = np.concatenate([latents for row, latents in enumerate(dense(sae, store)) if training[row] > 0])
    for latent in range(N_LATENTS):
        positive = np.sort(values[values[:, latent] > 0, latent])
        if len(positive) == 0:
            assert before[latent] == np.inf
        else:
            exact = positive[int(0.5 * (len(positive) - 1))]
            assert before[latent] <= exact <= before[latent] * (1 + 2**-QuantileSketch.MANTISSA_BITS) + 1e-7


def test_two_photographs_of_each_individual_have_the_thresholds_of_one_to_within_an_activation(sae):
    once, twice = MemoryStore((4, 2, 7)[:3], ((0, 1, 2),)), MemoryStore((4, 2, 7) * 2, ((0, 1, 2), (3, 4, 5)))
    twice.features = [*once.features, *once.features]
    records = [record_of(row) for row in range(3)]
    again = [replace(record, image_id=f"again {row}") for row, record in enumerate(records)]
    weights, halves = training_weights(records), training_weights([*records, *again])
    assert (weights.tolist(), halves.tolist()) == ([1.0] * 3, [0.5] * 6)
    activations = np.concatenate(dense(sae, once))
    for quantile in (0.0, 0.3, 0.7, 0.9):
        of_once, of_twice = (
            firing_thresholds(sae, once, weights, quantile),
            firing_thresholds(sae, twice, halves, quantile),
        )
        above = (activations > of_once).sum(axis=0) - (activations > of_twice).sum(axis=0)
        assert set(above.tolist()) <= {0, 1}


@given(
    activations=st.lists(st.tuples(st.floats(2**-16, 2**16, width=32), st.integers(1, 5)), min_size=1, max_size=60),
    q=st.floats(0, 0.999),
    factor=st.floats(1e-3, 1e3),
)
@settings(max_examples=100, deadline=None)
def test_a_factor_of_all_weights_changes_no_quantile(activations, q, factor):
    values, weights = (torch.tensor(column) for column in zip(*activations, strict=True))
    quantiles = []
    for times in (1, factor):
        sketch = QuantileSketch(2)
        sketch.add(torch.ones(len(values), dtype=torch.int32), values, weights * times)
        quantiles.append(sketch.quantile(q).tolist())
    assert quantiles[0] == quantiles[1]


def test_equal_weights_of_any_size_give_the_quantiles_of_ones():
    """Sums of tenths, thirds and sevenths fall a little short of a whole, or go beyond it."""
    for n in range(2, 40):
        values = 2.0 ** torch.arange(-n // 2, n - n // 2)
        sketches = [QuantileSketch(1) for _ in range(4)]
        for sketch, weight in zip(sketches, (1, 0.1, 1 / 3, 1 / 7), strict=True):
            for value in values:
                sketch.add(torch.tensor([0]), value[None], torch.tensor([weight], dtype=torch.float64))
        for q in (0.1, 0.25, 0.5, 0.7, 0.9):
            assert len({sketch.quantile(q).item() for sketch in sketches}) == 1


def test_values_beyond_the_scale_are_kept_in_its_last_bins_and_to_their_latent():
    sketch = QuantileSketch(3)
    sketch.add(torch.tensor([1, 1]), torch.tensor([1e-9, 1e9]), torch.ones(2))
    assert sketch.quantile(0)[[0, 2]].tolist() == [np.inf, np.inf]
    assert sketch.quantile(0)[1] == 2.0**sketch.LOWEST_EXPONENT
    assert sketch.quantile(1)[1] == pytest.approx(2.0**sketch.HIGHEST_EXPONENT, rel=0.02)


def test_an_individual_with_many_photographs_counts_as_one_with_one():
    values, weights = (
        torch.cat([torch.full((20,), 8.0), torch.full((3,), 2.0)]),
        torch.tensor([1 / 20] * 20 + [1.0] * 3),
    )
    sketch = QuantileSketch(1)
    sketch.add(torch.zeros(23, dtype=torch.int32), values, weights)
    assert (sketch.quantile(0.7).tolist(), sketch.quantile(0.9).tolist()) == ([2], [8])


@given(
    values=st.lists(st.floats(2**-16, 2**16, width=32), min_size=1, max_size=60),
    q=st.floats(0, 0.999),
)
@settings(max_examples=100, deadline=None)
def test_a_quantile_is_within_a_bin_of_the_exact_one(values, q):
    sketch = QuantileSketch(3)
    for value in values:
        sketch.add(torch.tensor([1]), torch.tensor([value]), torch.ones(1))
    exact = np.sort(np.array(values, np.float32))[int(np.floor(q * (len(values) - 1)))]
    found = sketch.quantile(q)
    assert found[1] <= exact < found[1] * (1 + 2**-sketch.MANTISSA_BITS) * (1 + 1e-6)
    assert found[0] == np.inf


def test_encoding_again_leaves_no_part_of_an_earlier_one(sae, tmp_path):
    thresholds = np.zeros(N_LATENTS, np.float32)
    encode_collection(sae, MemoryStore(shards=((0,), (1,), (2,), (3, 4))), thresholds, tmp_path)
    encode_collection(sae, MemoryStore(), thresholds, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("part-*")) == ["part-00000.parquet", "part-00001.parquet"]


def test_a_part_that_was_made_of_the_same_is_kept_and_of_something_else_made_anew(sae, tmp_path):
    store, thresholds = MemoryStore(), np.zeros(N_LATENTS, np.float32)

    def made(made_of, numbers=range(2)):
        store.given.clear()
        files = list(encode_parts(sae, store, thresholds, tmp_path, numbers, made_of=made_of))
        assert sorted(files) == [tmp_path / f"part-{n:05d}.parquet" for n in numbers]
        return store.given

    assert made("one", range(1, 2)) == [(3, 4)]
    assert made("one") == [(0, 1, 2)]
    assert made("one") == []
    assert made("another") == [(0, 1, 2), (3, 4)]
    assert made("") == [(0, 1, 2), (3, 4)], "what depends on nothing that is known is never kept"


@pytest.mark.parametrize("silent", [(0, 1, 2), (3, 4), (0, 1, 2, 3, 4)])
def test_parts_in_which_nothing_fires_are_passed_over(sae, tmp_path, silent, caplog):
    store = MemoryStore()
    with torch.no_grad():
        for row in silent:
            store.features[row] = torch.zeros_like(store.features[row])
    thresholds = np.full(N_LATENTS, 1e-3, np.float32)
    codes = encode_collection(sae, store, thresholds, tmp_path)
    fired = [image.image for image in codes.images()]
    assert fired == [row for row in range(5) if row not in silent and len(store.features[row])]
    assert [row for images, _ in codes.firing_counts() for row in images] == fired
    assert ("no latent fires anywhere" in caplog.text) is (not fired)


def probabilities(shard):
    """Of patch p of image i (i + p / 20) / 10; not known in image 3."""
    image = np.repeat(shard.images, np.diff(shard.offsets))
    return np.where(image == 3, np.nan, (image + shard.patches / 20) / 10).astype(np.float32)


def test_the_background_of_patches_is_kept_and_that_of_latents_is_a_weighted_mean_of_it(sae, tmp_path):
    store, weights = MemoryStore(), np.array([1, 0, 0.5, 1, 0])
    background, thresholds = PatchBackground(probabilities), np.zeros(N_LATENTS, np.float32)
    codes = encode_collection(sae, store, thresholds, tmp_path, background=background, weights=weights)
    assert Codes.open(tmp_path).backgrounds == ("background-00000.parquet", "background-00001.parquet")
    total, weight = np.zeros((2, N_LATENTS))
    for found in codes.images():
        assert found.background is not None
        assert found.background.shape == (18,)
        where = store.patches[found.image]
        if found.image == 3:
            assert np.isnan(found.background).all()
            continue
        assert found.background[where] == pytest.approx((found.image + where / 20) / 10, abs=0.5 / 254 + 1e-6)
        assert np.isnan(np.delete(found.background, where)).all()
        np.add.at(total, found.latents, weights[found.image] * found.values * found.background[found.patches])
        np.add.at(weight, found.latents, weights[found.image] * found.values)
    assert codes.latent_background is not None
    fired = weight > 0
    assert codes.latent_background[fired] == pytest.approx(total[fired] / weight[fired], abs=1e-5)
    assert np.isnan(codes.latent_background[~fired]).all()
    assert fired.any()


def test_where_latents_usually_fire_is_kept_with_the_codes(sae, tmp_path):
    store, weights = MemoryStore(), np.array([1, 0, 0.5, 1, 0])
    background, thresholds = PatchBackground(lambda shard: probabilities(shard) / 2), np.zeros(N_LATENTS, np.float32)
    codes = encode_collection(sae, store, thresholds, tmp_path, background=background, weights=weights)
    places = UsualPlaces(N_LATENTS, weights, (3, 6))
    for part, of_part in zip(codes.parts, codes.backgrounds, strict=True):
        table = pq.read_table(tmp_path / of_part)
        stored = np.stack([np.asarray(values.values) for values in table["background"]])
        places.add(pq.read_table(tmp_path / part), table["image"].to_numpy(), probabilities_of(stored))
    assert codes.latent_places is not None
    np.testing.assert_array_equal(codes.latent_places, places.value)
    known = ~np.isnan(codes.latent_places).any(axis=1)
    assert codes.latent_background is not None
    assert known.tolist() == (~np.isnan(codes.latent_background)).tolist()
    assert len(np.unique(codes.latent_places[known], axis=0)) > 2


def test_codes_of_an_earlier_version_say_what_to_do(sae, tmp_path):
    thresholds = np.zeros(N_LATENTS, np.float32)
    encode_collection(sae, MemoryStore(), thresholds, tmp_path, background=PatchBackground(probabilities))
    pq.write_table(pq.read_table(tmp_path / THRESHOLDS_FILE).drop_columns(["usual_x"]), tmp_path / THRESHOLDS_FILE)
    with pytest.raises(StoreError, match="earlier version; run `sae-traits annotate` again"):
        Codes.open(tmp_path)


def test_codes_without_background_know_none_and_leave_none_behind(sae, tmp_path):
    thresholds = np.zeros(N_LATENTS, np.float32)
    encode_collection(sae, MemoryStore(), thresholds, tmp_path, background=PatchBackground(probabilities))
    codes = encode_collection(sae, MemoryStore(), thresholds, tmp_path)
    assert codes.latent_background is None
    assert codes.latent_places is None
    assert all(found.background is None for found in codes.images())
    assert not list(tmp_path.glob("background-*"))
