"""Order, texts and crops: functions of seed and step, the same for any number of workers."""

import json
import random
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from golden_models import GOLDEN, needs_golden
from PIL import Image

from sae_traits.contrastive.batches import Order, PairsDataset, RandomCrop, TextChoice, load_batches
from sae_traits.contrastive.samples import Sample
from sae_traits.contrastive.texts import text_type_of_step
from sae_traits.errors import CollectionError, ImageError

SPECIES = np.array([0] * 30 + [1] * 3 + [2] * 3)


@needs_golden
def test_the_published_schedule_of_text_types():
    settings = json.loads((GOLDEN / "text_schedule" / "schedule.json").read_text())
    for n in (5, 6):
        types, expected = settings[f"types{n}"], settings[f"first_200_of_{n}"]
        assert [types.index(text_type_of_step(types, (), step)) for step in range(len(expected))] == expected
    captions = Counter(text_type_of_step(settings["types6"], (), step) for step in range(2000))["caption"]
    assert captions / 2000 == pytest.approx(settings["share_of_caption_in_first_2000_steps"])


def test_the_schedule_of_texts_leaves_the_generator_of_python_alone():
    random.seed(3)
    expected = random.random()
    random.seed(3)
    text_type_of_step(["a", "b"], (0.5, 0.5), 7)
    assert random.random() == expected


def test_every_row_comes_once_in_an_epoch_and_in_another_order_in_the_next():
    order = Order(n_rows=36, batch_size=9, seed=1)
    epochs = [np.concatenate([order.rows(step) for step in steps]) for steps in (range(4), range(4, 8))]
    for rows in epochs:
        assert sorted(rows) == list(range(36))
    assert epochs[0].tolist() != epochs[1].tolist()
    assert order.rows(5).tolist() == Order(n_rows=36, batch_size=9, seed=1).rows(5).tolist()


def test_balanced_rows_take_species_equally_often():
    order = Order(36, 12, 0, "balanced", SPECIES)
    drawn = Counter(SPECIES[np.concatenate([order.rows(step) for step in range(200)])].tolist())
    assert min(drawn.values()) > 700
    assert max(drawn.values()) < 900


def test_distinct_rows_have_no_species_twice():
    order = Order(36, 3, 0, "distinct", SPECIES)
    rows = [order.rows(step) for step in range(50)]
    assert all(len({*SPECIES[of_step].tolist()}) == 3 for of_step in rows)
    assert len({*np.concatenate(rows).tolist()}) > 25


@pytest.mark.parametrize("size", [(640, 480), (30, 400), (2000, 31)])
def test_a_crop_has_the_wanted_share_of_the_area_and_stays_inside(size):
    crop = RandomCrop(16, (0.5,) * 3, (0.5,) * 3, 0.9)
    rng = np.random.default_rng(0)
    for _ in range(100):
        left, upper, right, lower = crop.box(size, rng)
        assert 0 <= left < right <= size[0]
        assert 0 <= upper < lower <= size[1]
        assert 0.74 < (right - left) / (lower - upper) < 1.35
        if max(size) < 1.3 * min(size):
            assert (right - left) * (lower - upper) > 0.88 * size[0] * size[1]


def square(shade):
    return Image.new("RGB", (20, 20), (shade, shade, shade))


def missing():
    raise ImageError("the file is empty")


def samples(n=12):
    texts = [{"sci": (f"n{i}",), "trait": (f"t{i}", f"u{i}")} for i in range(n)]
    return [Sample(str(i), partial(square, 10 * i), texts[i], "A b") for i in range(n)]


def loaded(first, *, workers, n_processes=1, process=0, per="sample"):
    crop = RandomCrop(8, (0.0,) * 3, (1.0,) * 3)
    dataset = PairsDataset(samples(), crop, TextChoice(("sci", "trait"), (0.3, 0.7), per), seed=5)
    options = {"process": process, "n_processes": n_processes, "workers": workers}
    return list(load_batches(dataset, Order(12, 4, 5), first, 7, **options))


def test_batches_do_not_depend_on_workers_nor_on_where_a_training_resumes():
    whole = loaded(0, workers=0)
    for batch, other in zip(whole[3:], loaded(3, workers=2), strict=True):
        assert torch.equal(batch.pixels, other.pixels)
        assert batch.texts == other.texts
        assert torch.equal(batch.rows, other.rows)
    for batch in whole:
        shades = (batch.pixels[:, 0, 0, 0] * 255 / 10).round().long()
        assert torch.equal(shades, batch.rows)
        assert [int(text[1:]) for text in batch.texts] == batch.rows.tolist()


def test_processes_share_a_batch():
    halves = [loaded(0, workers=0, n_processes=2, process=process) for process in range(2)]
    for whole, *parts in zip(loaded(0, workers=0), *halves, strict=True):
        assert torch.equal(whole.pixels, torch.cat([part.pixels for part in parts]))
        assert whole.texts == parts[0].texts + parts[1].texts


def test_a_step_has_one_type_of_text_or_every_sample_its_own():
    kinds = [{text[0] == "n" for text in batch.texts} for batch in loaded(0, workers=0, per="batch")]
    assert all(len(of_step) == 1 for of_step in kinds)
    assert len({*map(tuple, kinds)}) == 2
    mixed = [{text[0] == "n" for text in batch.texts} for batch in loaded(0, workers=0)]
    assert any(len(of_step) == 2 for of_step in mixed)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_named(workers):
    crop, sample = RandomCrop(8, (0.0,) * 3, (1.0,) * 3), Sample("x.png", missing, {"sci": ("a",)}, None)
    dataset = PairsDataset([sample], crop, TextChoice(("sci",)), 0)
    with pytest.raises(CollectionError, match=r"^x\.png cannot be used: the file is empty; leave it out"):
        list(load_batches(dataset, Order(1, 1, 0), 0, 1, process=0, n_processes=1, workers=workers))
