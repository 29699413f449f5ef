"""Images whose label does not count: which latents describe them, and that the label leaks nowhere."""

from dataclasses import dataclass

import numpy as np
from describer_server.many import ManyCandidates
from hypothesis import given
from hypothesis.strategies import integers, lists, permutations, sampled_from, tuples
from scipy.sparse import csr_array

from sae_traits.config import ContrastConfig
from sae_traits.config.layers import resolve
from sae_traits.describers import make_describer
from sae_traits.geometry import Framing
from sae_traits.schema import SPLITS, BackboneInfo, ChosenLatent, Collection, Contrast, ImageRecord, Split, Taxon
from sae_traits.traits.annotate import plan_annotation
from sae_traits.traits.calls import planned_calls
from sae_traits.traits.encode import ImageCodes
from sae_traits.traits.label_free import strongest_choices, without_labels

INFO = BackboneInfo(
    backbone="texture", revision="1", layer=0, d_model=4, rows=4, columns=4, patch=16.0,
    framing=Framing(mode="squash", size=(64, 64)), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
)  # fmt: skip


def choice(latent, species, effect):
    contrast = Contrast(
        f_species=0.9, f_reference=0.1, effect=effect, q_value=0.01, significant=True, reference_rank="genus"
    )
    return ChosenLatent(species=species, latent=latent, threshold=1.0, contrast=contrast, n_fired=9, n_images=10)


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
        yield csr_array(counts)


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
    plan = plan_annotation(collection, MemoryCodes(), INFO, ContrastConfig(least_evidence=0.0))  # pyright: ignore[reportArgumentType]
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
    options = {"describer": "server", "describer_model": "m", "images_per_description": 3}
    describer = make_describer(resolve({"describe": options}).describe)
    shared = [call for task in planned_calls(plan.candidates(), plan.collection, describer) for call in task]
    assert max(len(call.members) for call in shared) == 3
    alone = [call for task in planned_calls(Unnamed(plan).candidates(), plan.collection, describer) for call in task]
    assert {len(call.members) for call in alone} == {1}
    assert {call.species for call in alone} == {None}
    assert sum(len(call.trait_ids) for call in shared) == len(alone)


def test_without_a_label_a_call_is_the_one_that_it_was_with_it(tmp_path):
    """So that what was answered before is not asked again."""
    plan, describer = ManyCandidates(tmp_path, 3), make_describer(resolve().describe)
    keys = [
        [call.key for task in planned_calls(candidates, plan.collection, describer) for call in task]
        for candidates in (plan.candidates(), Unnamed(plan).candidates())
    ]
    assert keys[0] == keys[1]
