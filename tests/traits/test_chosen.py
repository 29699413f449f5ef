import numpy as np
import pytest
from made_traits import firings_of_all
from scipy.sparse import lil_array

from sae_traits.errors import StoreError
from sae_traits.schema import Taxon
from sae_traits.traits.chosen import (
    DroppedLatent,
    choose_latents,
    latents_everywhere,
    latents_on_background,
    read_chosen,
    write_chosen,
)
from sae_traits.traits.contrast import BLOCK_CELLS, SpeciesContrasts, paper_contrast, specimen_contrast
from sae_traits.traits.species_counts import count_firings

LARGE, SMALL = 30, 2


def count(n_latents=5):
    """Latent 0 marks Gen a, 1 a few of it; 2 fires everywhere; 3 fires in one image of Hen c, 4 in both."""
    sizes = {"Gen a": LARGE, "Gen b": LARGE, "Hen c": SMALL, "Hen d": SMALL}
    taxa = [Taxon(species=name, genus=name.split()[0]) for name, size in sizes.items() for _ in range(size)]
    fired = lil_array((len(taxa), n_latents), dtype=np.int32)
    fired[:, 2] = 1
    fired[:LARGE, 0] = 1
    fired[: LARGE // 8, 1] = 1
    fired[2 * LARGE, 3] = 1
    fired[2 * LARGE : 2 * LARGE + SMALL, 4] = 1
    return count_each(fired, taxa, n_latents)


def count_each(fired, taxa, n_latents):
    """Every image is of an individual of its own."""
    return count_firings([firings_of_all(fired)], taxa, [str(row) for row in range(len(taxa))], n_latents)


@pytest.fixture
def counts():
    return count()


THRESHOLDS = np.arange(5, dtype=np.float32)


def choose_all(counts, *args, **options):
    """Of species without significant latents all of them, too."""
    return choose_latents(specimen_contrast(counts), THRESHOLDS, *args, significant_only=False, **options)


def test_significant_latents_are_chosen_and_on_request_all_of_a_species_that_has_none(counts):
    every = SpeciesContrasts.join(specimen_contrast(counts))
    a = slice(*every.offsets[:2])
    assert every.latent[a].tolist() == [0, 1]
    assert every.significant[a].tolist() == [True, False]
    assert {species: sorted(latents) for species, latents in choose_latents([every], THRESHOLDS).items()} == {
        "Gen a": [0]
    }
    chosen = choose_all(counts)
    assert {species: sorted(latents) for species, latents in chosen.items()} == {"Gen a": [0], "Hen c": [3, 4]}
    assert "Gen b" not in chosen
    assert len(chosen) == 2
    assert chosen["Gen a"][0].contrast.significant
    assert not chosen["Hen c"][4].contrast.significant


def test_what_is_chosen_carries_its_threshold_counts_and_contrast(counts):
    latent = choose_all(counts)["Hen c"][4]
    assert (latent.species, latent.latent, latent.threshold) == ("Hen c", 4, 4.0)
    assert (latent.n_fired, latent.n_individuals) == (SMALL, SMALL)
    assert (latent.contrast.f_species, latent.contrast.f_reference) == (1.0, 0.0)
    assert latent.contrast.reference_rank == "genus"
    every = SpeciesContrasts.join(specimen_contrast(counts))
    assert latent.contrast.effect == every.effect[(every.row_species == 2) & (every.latent == 4)][0]


def test_nothing_of_algorithm_1_is_tested_so_all_of_it_is_chosen(counts):
    every = SpeciesContrasts.join(paper_contrast(counts, 1e-3))
    chosen = choose_latents(paper_contrast(counts, 1e-3), THRESHOLDS)
    assert sum(map(len, chosen.values())) == len(every.latent) > 0
    assert all(np.isnan(latent.contrast.q_value) for own in chosen.values() for latent in own.values())


def test_a_latent_that_fires_everywhere_is_dropped_with_its_reason(counts):
    dropped = latents_everywhere(counts, max_species_share=0.95)
    assert dropped == (DroppedLatent(2, "fires in 100 % of the average species' individuals"),)
    assert latents_everywhere(counts, max_species_share=1) == ()


def test_a_dropped_latent_is_chosen_for_no_species(counts):
    chosen = choose_all(counts, (DroppedLatent(0, ""),))
    assert {species: sorted(latents) for species, latents in chosen.items()} == {"Gen a": [1], "Hen c": [3, 4]}
    assert chosen.dropped == (DroppedLatent(0, ""),)


def test_a_latent_on_background_is_dropped_with_its_reason_and_an_unknown_one_stays():
    background = np.array([0.2, 0.51, np.nan, 0.5], np.float32)
    assert latents_on_background(background) == (
        DroppedLatent(1, "fires on background with a mean probability of 0.51"),
    )
    assert latents_on_background(None) == ()


def test_a_chosen_latent_says_how_probably_it_is_background(counts):
    background = np.array([0.25, 0.1, 0.1, np.nan, 0.4], np.float32)
    chosen = choose_all(counts, (), background)
    seen = {choice.latent: choice.background for latents in chosen.values() for choice in latents.values()}
    assert seen == {0: 0.25, 3: None, 4: 0.4}


def test_a_chosen_latent_says_where_it_usually_fires(counts):
    places = np.array([[0.25, 0.75], [0.5, 0.5], [0.5, 0.5], [np.nan, np.nan], [0.0, 1.0]])
    chosen = choose_all(counts, places=places)
    seen = {choice.latent: choice.usual_place for latents in chosen.values() for choice in latents.values()}
    assert seen == {0: (0.25, 0.75), 3: None, 4: (0.0, 1.0)}


def test_where_labels_mean_nothing_no_latent_is_chosen():
    generator = np.random.default_rng(0)
    taxa = [Taxon(species=f"Gen {name}", genus="Gen") for name in "abcd" for _ in range(12)]
    fired = (generator.random((len(taxa), 300)) < 0.3).astype(np.int32)
    contrasts = SpeciesContrasts.join(specimen_contrast(count_each(fired, taxa, 300)))
    assert len(contrasts.latent) > 300  # by chance many fire more often in one species than in the others
    assert contrasts.can_be_significant.all()
    assert not choose_latents([contrasts], np.zeros(300, np.float32))
    asked_for = choose_latents([contrasts], np.zeros(300, np.float32), significant_only=False)
    assert sum(map(len, asked_for.values())) == len(contrasts.latent)
    assert not any(choice.contrast.significant for latents in asked_for.values() for choice in latents.values())


def test_what_no_test_was_passed_for_is_chosen_only_where_no_species_could_be_tested():
    few = [Taxon(species=f"Gen {name}", genus="Gen") for name in "ab" for _ in range(2)]
    many = [Taxon(species=f"Hen {name}", genus="Hen") for name in "cd" for _ in range(12)]

    def fired_in(taxa):  # latent 0 in all of Gen a, latent 1 in all of Hen c
        return np.array([[t.species == "Gen a", t.species == "Hen c"] for t in taxa], dtype=np.int32)

    def chosen(taxa, **options):
        rows = specimen_contrast(count_each(fired_in(taxa), taxa, 2))
        return {
            species: {z: c.contrast.significant for z, c in latents.items()}
            for species, latents in choose_latents(rows, np.zeros(2, np.float32), **options).items()
        }

    assert chosen(few) == {"Gen a": {0: False}}
    assert chosen(few + many) == {"Hen c": {1: True}}
    assert chosen(few + many, significant_only=False) == {"Gen a": {0: False}, "Hen c": {1: True}}


def test_what_fires_in_all_of_one_common_species_does_not_fire_everywhere():
    taxa = [Taxon(species="Gen a")] * 98 + [Taxon(species="Gen b")] * 2
    fired = np.array([[1, 1]] * 98 + [[0, 1]] * 2, dtype=np.int32)
    assert [d.latent for d in latents_everywhere(count_each(fired, taxa, 2), max_species_share=0.95)] == [1]


def test_nothing_is_dropped_where_there_is_a_single_species():
    fired = np.ones((5, 2), dtype=np.int32)
    assert latents_everywhere(count_each(fired, [Taxon(species="Gen a")] * 5, 2), max_species_share=0.95) == ()


@pytest.mark.parametrize("contrast", [specimen_contrast, lambda counts: paper_contrast(counts, 0)])
def test_blocks_of_species_give_what_one_block_gives(counts, contrast):
    one = list(contrast(counts))
    many = list(contrast(count(n_latents=BLOCK_CELLS // 2 + 1)))  # so wide that every species is a block
    assert (len(one), len(many)) == (1, 4)
    whole, joined = SpeciesContrasts.join(one), SpeciesContrasts.join(many)
    assert whole.species == joined.species
    assert whole.reference_rank == joined.reference_rank
    for name in ("offsets", "latent", "f_species", "f_reference", "effect", "q_value", "n_fired"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(joined, name))


def test_what_was_chosen_is_the_same_to_the_last_bit_in_another_process(tmp_path, counts):
    background = np.linspace(0, 1, counts.n_latents, dtype=np.float32)
    places = np.stack([background, background**2], axis=1).astype(np.float64)
    for known, usual in ((None, None), (background, None), (background, places)):
        chosen = choose_latents(specimen_contrast(counts), THRESHOLDS, (DroppedLatent(0, "why"),), known, usual)
        write_chosen(tmp_path / "chosen.npz", chosen)
        read = read_chosen(tmp_path / "chosen.npz")
        assert {species: dict(read[species]) for species in read} == {name: dict(chosen[name]) for name in chosen}
        assert read.dropped == chosen.dropped
    (tmp_path / "chosen.npz").write_bytes(b"PK")
    with pytest.raises(StoreError, match="prepare the shards again"):
        read_chosen(tmp_path / "chosen.npz")
