"""What is planned by each kind of regions; images whose label does not count, and that it leaks nowhere."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from describer_server.many import ManyCandidates
from hypothesis import given
from hypothesis.strategies import integers, lists, permutations, sampled_from, tuples
from made_traits import firings_of_all

from sae_traits import SAE, SAEConfig
from sae_traits.config.describer import Measured, Server
from sae_traits.config.regions import PaperContrast, ReleasedLatents, SAERegions, SpecimenContrast
from sae_traits.describers import make_describer
from sae_traits.features.store import FeatureShard
from sae_traits.geometry import Framing
from sae_traits.schema import BackboneInfo, ChosenLatent, Collection, Contrast, ImageRecord, Taxon
from sae_traits.traits.calls import planned_calls
from sae_traits.traits.chosen import strongest_choices
from sae_traits.traits.codes import ImageCodes
from sae_traits.traits.encode import firing_thresholds
from sae_traits.traits.plan import plan_regions, thresholds_of, without_labels
from sae_traits.traits.released_latents import DatasetLatents
from sae_traits.vocabulary import SPLITS, Split

INFO = BackboneInfo(
    backbone="texture", revision="1", layer=0, d_model=4, rows=4, columns=4, patch=16.0,
    framing=Framing(mode="squash", size=(64, 64)), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
)  # fmt: skip


def choice(latent, species, effect):
    contrast = Contrast(
        f_species=0.9, f_reference=0.1, effect=effect, q_value=0.01, significant=True, reference_rank="genus"
    )
    return ChosenLatent(species=species, latent=latent, threshold=1.0, contrast=contrast, n_fired=9, n_individuals=10)


def test_each_latent_counts_as_for_the_species_that_it_tells_best():
    rows = [choice(3, "Gen b", 1.0), choice(3, "Gen a", 2.5), choice(7, "Gen b", 0.5), choice(3, "Gen c", 2.0)]
    found = strongest_choices(rows)
    assert {latent: (row.species, row.contrast.effect) for latent, row in found.items()} == {
        3: ("Gen a", 2.5),
        7: ("Gen b", 0.5),
    }


@given(
    lists(tuples(integers(0, 3), sampled_from("abc"), integers(0, 2)), unique_by=lambda row: row[:2]).flatmap(
        lambda rows: tuples(permutations(rows), permutations(rows))
    )
)
def test_the_order_of_the_rows_does_not_matter(orders):
    first, second = (strongest_choices(choice(z, f"Gen {s}", float(e)) for z, s, e in rows) for rows in orders)
    assert first == second
    for latent, row in first.items():
        assert row.contrast.effect == max(effect for z, _, effect in orders[0] if z == latent)


class MemoryCodes:
    """Latent 0 marks Gen a, latent 1 Gen b; both fire in the last two images, of which one is of each species."""

    thresholds = np.ones(3, dtype=np.float32)
    latent_background = None
    latent_places = None
    n_latents = 3
    fired = ({0: (0,)}, {0: (0,)}, {1: (5,)}, {1: (5,)}, {0: (0,), 1: (10,)}, {0: (0,), 1: (10,)})

    def images(self):
        for row, found in enumerate(self.fired):
            pairs = [(z, p) for z, patches in found.items() for p in patches]
            latents, patches = (np.array(column, np.int32) for column in zip(*pairs, strict=True))
            yield ImageCodes(row, latents, patches, np.full(len(pairs), 2, np.float32))

    def firing_counts(self):
        counts = np.zeros((6, 3), dtype=np.int64)
        for row, found in enumerate(self.fired):
            for latent, patches in found.items():
                counts[row, latent] = len(patches)
        yield firings_of_all(counts)


def collection_of(*species, root):
    splits: tuple[Split, ...] = ("train", "train", "train", "train", "validation", "test")
    return Collection(
        root,
        tuple(
            ImageRecord(
                image_id=f"s{row}", file=f"{row}.png", taxon=Taxon(genus="Gen", species=name), split=split,
                width=80, height=60, sha256=str(row),
            )
            for row, (name, split) in enumerate(zip(species, splits, strict=True))
        ),
    )  # fmt: skip


def candidates_of(collection):
    plan = plan_regions(SAERegions(contrast=SpecimenContrast(min_evidence=0)), collection, INFO, codes=MemoryCodes())  # pyright: ignore[reportArgumentType]
    return {record.image_id: [c.name for c, _ in found] for record, found in plan.candidates()}, plan


def test_an_image_without_a_label_gets_the_latents_of_all_species_and_one_with_a_label_its_own(tmp_path):
    labelled = collection_of("Gen a", "Gen a", "Gen b", "Gen b", "Gen a", "Gen b", root=tmp_path)
    with_labels, _ = candidates_of(labelled)
    assert (with_labels["s4"], with_labels["s5"]) == (["0"], ["1"])
    unnamed = without_labels(labelled, ("validation", "test"))
    assert [s.taxon.species for s in unnamed.images] == ["Gen a", "Gen a", "Gen b", "Gen b", None, None]
    label_free, plan = candidates_of(unnamed)
    assert sorted(label_free["s4"]) == sorted(label_free["s5"]) == ["0", "1"]
    assert {name: label_free[name] for name in ("s0", "s2")} == {name: with_labels[name] for name in ("s0", "s2")}
    assert plan.species_without_latents == ()
    assert plan.chosen.of(unnamed.images[4])[1].species == "Gen b"


def test_a_plan_of_some_images_has_these_alone_however_they_lie(tmp_path):
    _, plan = candidates_of(collection_of("Gen a", "Gen a", "Gen b", "Gen b", "Gen a", "Gen b", root=tmp_path))
    some = plan.only({4, 0})
    for _ in range(2):
        assert [record.image_id for record, _ in some.candidates()] == ["s0", "s4"]
    assert (some.collection, some.chosen) == (plan.collection, plan.chosen)


def test_latents_of_background_are_not_tested_and_cost_the_others_nothing(tmp_path):
    collection = collection_of("Gen a", "Gen a", "Gen b", "Gen b", "Gen a", "Gen b", root=tmp_path)
    of_first = []
    for background in (None, np.array([0.1, 0.9, np.nan], np.float32)):
        codes = MemoryCodes()
        codes.latent_background = background
        regions = SAERegions(contrast=SpecimenContrast(min_evidence=0))
        of_first.append(plan_regions(regions, collection, INFO, codes=codes).chosen["Gen a"][0].contrast)  # pyright: ignore[reportArgumentType]
    tested, alone = of_first
    assert (tested.q_value, alone.q_value) == (pytest.approx(2 / 6), pytest.approx(1 / 6))
    assert (tested.f_species, tested.f_reference, tested.effect) == (alone.f_species, alone.f_reference, alone.effect)


def test_other_labels_of_validation_and_test_change_nothing(tmp_path):
    truth = collection_of("Gen a", "Gen a", "Gen b", "Gen b", "Gen a", "Gen b", root=tmp_path)
    swapped = collection_of("Gen a", "Gen a", "Gen b", "Gen b", "Gen b", "Gen z", root=tmp_path)
    assert candidates_of(truth)[0] != candidates_of(swapped)[0]
    held_out = ("validation", "test")
    assert candidates_of(without_labels(truth, held_out))[0] == candidates_of(without_labels(swapped, held_out))[0]


@dataclass(frozen=True)
class Unnamed:
    """Candidates of images without labels."""

    plan: ManyCandidates

    def candidates(self):
        collection = without_labels(self.plan.collection, SPLITS)
        for _, found in self.plan.candidates():
            yield collection.images[found[0][0].image], found


def test_images_without_a_label_share_no_call(tmp_path):
    plan = ManyCandidates(tmp_path, 20)
    describer = make_describer(Server(model="m", images_per_description=3))
    shared = [call for task in planned_calls(plan.candidates(), plan.collection, describer) for call in task]
    assert max(len(call.members) for call in shared) == 3
    alone = [call for task in planned_calls(Unnamed(plan).candidates(), plan.collection, describer) for call in task]
    assert {len(call.members) for call in alone} == {1}
    assert {call.species for call in alone} == {None}
    assert sum(len(call.members) for call in shared) == len(alone)


def test_without_a_label_a_call_is_the_one_that_it_was_with_it(tmp_path):
    """So that what was answered before is not asked again."""
    plan, describer = ManyCandidates(tmp_path, 3), make_describer(Measured())
    keys = [
        [call.key for task in planned_calls(candidates, plan.collection, describer) for call in task]
        for candidates in (plan.candidates(), Unnamed(plan).candidates())
    ]
    assert keys[0] == keys[1]


def thresholds(contrast, collection, released=None):
    sae = SAE.from_config(SAEConfig(architecture="topk", d_model=4, n_latents=3, k=2), seed=0)
    return thresholds_of(contrast, sae, None, collection, released)  # pyright: ignore[reportArgumentType]


@dataclass
class FourImages:
    """Features of four images, whose number of patches the backbone tells."""

    info: BackboneInfo

    def count_shards(self, rows):
        return 1

    def shards(self, rows):
        features = torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
        yield FeatureShard(np.arange(4), np.arange(0, 401, 100), np.tile(np.arange(100, dtype=np.int32), 4), features)


@pytest.mark.parametrize(("side", "quantile"), [(4, 0.7), (32, 0.925)])
def test_the_firing_quantile_is_that_for_the_patches_of_an_image(tmp_path, side, quantile):
    collection = collection_of(*["Gen a"] * 6, root=tmp_path)  # of which four are for training
    sae = SAE.from_config(SAEConfig(architecture="topk", d_model=4, n_latents=3, k=2), seed=0)
    source = FourImages(replace(INFO, rows=side, columns=side))
    expected = firing_thresholds(sae, source, np.array([1.0] * 4 + [0.0] * 2), quantile)  # pyright: ignore[reportArgumentType]
    found = thresholds_of(SpecimenContrast(), sae, source, collection)  # pyright: ignore[reportArgumentType]
    assert found.tolist() == expected.tolist()
    given = SpecimenContrast(firing_quantile=0.5)
    lower = thresholds_of(given, sae, source, collection)  # pyright: ignore[reportArgumentType]
    assert (lower < found).all()


def test_algorithm_1_has_one_threshold_for_all_latents(tmp_path):
    collection = collection_of(*["Gen a"] * 6, root=tmp_path)
    assert thresholds(PaperContrast(), collection).tolist() == [np.float32(0.9)] * 3
    assert thresholds(PaperContrast(firing_threshold=0.25), collection).tolist() == [0.25] * 3


def test_algorithm_1_chooses_above_its_frequency_and_takes_every_region(tmp_path):
    labelled = collection_of("Gen a", "Gen a", "Gen b", "Gen b", "Gen a", "Gen b", root=tmp_path)
    plan = plan_regions(SAERegions(contrast=PaperContrast()), labelled, INFO, codes=MemoryCodes())  # pyright: ignore
    assert {species: list(latents) for species, latents in plan.chosen.items()} == {"Gen a": [0], "Gen b": [1]}
    none = SAERegions(contrast=PaperContrast(min_frequency=0.6))  # each latent has half of its genus' firings
    assert len(plan_regions(none, labelled, INFO, codes=MemoryCodes()).chosen) == 0  # pyright: ignore


def test_released_latents_bring_their_thresholds_and_no_label_is_looked_at(tmp_path):
    released = DatasetLatents("museum/moths", None, "museum/sae@1", {1: choice(1, "Hen z", 2.0)})
    labelled = collection_of("Gen a", "Gen a", "Gen b", "Gen b", "Gen a", "Gen b", root=tmp_path)
    contrast = ReleasedLatents(latents="museum/moths")
    assert thresholds(contrast, labelled, released).tolist() == [np.inf, 1.0, np.inf]
    plan = plan_regions(SAERegions(contrast=contrast), labelled, INFO, codes=MemoryCodes(), released=released)  # pyright: ignore
    assert {record.taxon for record in plan.collection.images} == {Taxon()}
    assert plan.species_without_latents == ()
    assert [(record.image_id, [c.name for c, _ in pairs]) for record, pairs in plan.candidates()] == [
        (f"s{row}", ["1"]) for row in (2, 3, 4, 5)
    ]


def test_label_free_regions_do_not_see_the_labels_of_validation_and_test(tmp_path):
    labelled = collection_of("Gen a", "Gen a", "Gen b", "Gen b", "Gen a", "Gen b", root=tmp_path)
    regions = SAERegions(label_free=True)
    plan = plan_regions(regions, labelled, INFO, codes=MemoryCodes())  # pyright: ignore[reportArgumentType]
    assert [r.taxon.species for r in plan.collection.images] == ["Gen a", "Gen a", "Gen b", "Gen b", None, None]
