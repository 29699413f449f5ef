import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_traits import firings_of_all
from safetensors.numpy import load_file
from scipy.sparse import csr_array
from scipy.stats import fisher_exact

from sae_traits.schema import Taxon
from sae_traits.traits import contrast
from sae_traits.traits.contrast import SpeciesContrasts, relative_frequency, shrunken_effect
from sae_traits.traits.species_counts import count_firings


def taxon(label, family="Family", order="Order"):
    return Taxon(species=label, genus=label.split()[0], family=family, order=order)


def counts_of(rows):
    return csr_array(np.array(rows, dtype=np.int32))


def frame(blocks):
    """The rows of a contrast as a table."""
    found = SpeciesContrasts.join(blocks)
    return pd.DataFrame(
        {
            "species": np.array(found.species, dtype=object)[found.row_species],
            "latent": found.latent,
            "f_species": found.f_species,
            "f_reference": found.f_reference,
            "effect": found.effect,
            "q_value": found.q_value,
            "significant": found.significant,
            "reference_rank": np.array(found.reference_rank, dtype=object)[found.row_species],
            "n_fired": found.n_fired,
            "n_individuals": found.n_individuals[found.row_species],
        }
    )


def count(counts, taxa, individuals=None):
    """The firings of species; every image is of an individual of its own where nothing is said."""
    return count_firings(
        [firings_of_all(counts)], taxa, individuals or [str(row) for row in range(len(taxa))], counts.shape[1]
    )


def specimen_contrast(counts, taxa, individuals=None):
    return frame(contrast.specimen_contrast(count(counts, taxa, individuals)))


def paper_contrast(counts, taxa, min_frequency, individuals=None):
    return frame(contrast.paper_contrast(count(counts, taxa, individuals), min_frequency))


def test_algorithm_1_selects_exactly_what_the_reference_pipeline_selects(golden):
    activations = load_file(golden / "contrast" / "activations.safetensors")["activations"]
    expected = json.loads((golden / "contrast" / "expected.json").read_text())
    fired = activations > np.float32(expected["activation_threshold"])
    taxa = [taxon(label) for label in expected["labels"]]
    assert len(expected["selected_by_t_freq"]) >= 4
    for t_freq, selected in expected["selected_by_t_freq"].items():
        chosen = paper_contrast(counts_of(fired.sum(1)), taxa, float(t_freq))
        pairs = set(zip(chosen["species"], chosen["latent"], strict=True))
        ours = {
            (image, int(latent), tuple(np.flatnonzero(fired[image, :, latent])))
            for image, label in enumerate(expected["labels"])
            for latent in np.flatnonzero(fired[image].any(0))
            if (label, latent) in pairs
        }
        assert ours == {(row["image"], row["latent"], tuple(row["patches"])) for row in selected}


def test_relative_frequency_by_hand_and_for_a_silent_group():
    counts = counts_of([[1, 2, 5], [0, 0, 0]])
    assert relative_frequency(counts).toarray().tolist() == [[1 / 8, 2 / 8, 5 / 8], [0, 0, 0]]


def test_the_paper_never_finds_a_latent_for_a_species_alone_in_its_genus_and_ours_does():
    taxa = [taxon("Solus unicus")] * 5 + [taxon("Par primus")] * 5 + [taxon("Par secundus")] * 5
    counts = counts_of([[4, 1, 0]] * 5 + [[0, 5, 1]] * 5 + [[0, 1, 1]] * 5)
    paper = paper_contrast(counts, taxa, 1e-3)
    assert "Solus unicus" not in set(paper["species"])
    ours = specimen_contrast(counts, taxa)
    alone = ours[ours["species"] == "Solus unicus"]
    assert alone["latent"].tolist() == [0]
    assert set(alone["reference_rank"]) == {"family"}
    assert set(ours.loc[ours["species"] == "Par primus", "reference_rank"]) <= {"genus"}


@pytest.mark.parametrize(
    ("others", "rank"),
    [
        ([Taxon(species="Gen b", genus="Gen", family="F", order="O")], "genus"),
        ([Taxon(species="Hen b", genus="Hen", family="F", order="O")], "family"),
        ([Taxon(species="Hen b", genus="Hen", family="E", order="O")], "order"),
        ([Taxon(species="Hen b", genus="Hen", family="E", order="P")], "collection"),
        ([Taxon(species="Hen b", genus="Hen")], "collection"),
    ],
)
def test_the_reference_is_the_closest_group_with_a_second_species(others, rank):
    taxa = [Taxon(species="Gen a", genus="Gen", family="F", order="O"), *others]
    table = specimen_contrast(counts_of([[1, 0], [0, 1]]), taxa)
    assert set(table.loc[table["species"] == "Gen a", "reference_rank"]) == {rank}


def test_a_family_that_only_some_images_name_holds_for_the_whole_species():
    partly = [Taxon(species="Gen a", genus="Gen", family=None)] * 6 + [taxon("Gen a")] * 2
    rest = [taxon("Hen b")] * 6
    counts = counts_of([[1, 0]] * 7 + [[0, 1]] + [[1, 0]] + [[0, 1]] * 5)
    pd.testing.assert_frame_equal(
        specimen_contrast(counts, partly + rest), specimen_contrast(counts, [taxon("Gen a")] * 8 + rest)
    )


def test_an_image_counts_once_however_many_patches_fired():
    taxa = [taxon("G a")] * 4 + [taxon("G b")] * 4
    few = specimen_contrast(counts_of([[1, 1]] * 4 + [[0, 1]] * 4), taxa)
    many = specimen_contrast(counts_of([[90, 1]] * 4 + [[0, 7]] * 4), taxa)
    pd.testing.assert_frame_equal(few, many)


@st.composite
def collections(draw):
    n_species = draw(st.integers(2, 5))
    sizes = draw(st.lists(st.integers(1, 6), min_size=n_species, max_size=n_species))
    genera = draw(st.lists(st.integers(0, 2), min_size=n_species, max_size=n_species))
    taxa = [taxon(f"G{genera[s]} s{s}") for s in range(n_species) for _ in range(sizes[s])]
    n_latents = draw(st.integers(1, 6))
    generator = np.random.default_rng(draw(st.integers(0, 2**31)))
    counts = generator.integers(0, 3, (len(taxa), n_latents)) * (generator.random((len(taxa), n_latents)) < 0.6)
    return taxa, counts


@given(collections())
@settings(max_examples=60, deadline=None)
def test_the_contrast_equals_its_definition_written_as_loops(drawn):
    taxa, counts = drawn
    table = specimen_contrast(counts_of(counts), taxa)
    found = {(row.species, row.latent): row for row in table.itertuples()}
    once = counts > 0
    species_of = np.array([t.species for t in taxa])
    genus_of = np.array([t.genus for t in taxa])
    for species in set(species_of):
        mine = species_of == species
        genus = genus_of[mine][0]
        group = genus_of == genus
        rank = "genus"
        if len(set(species_of[group])) < 2:
            group, rank = np.full(len(taxa), True), "family"
        rest = group & ~mine
        p_values = {}
        for latent in range(counts.shape[1]):
            a, b = int(once[mine, latent].sum()), int(once[rest, latent].sum())
            if a + b:
                cells = [[a, mine.sum() - a], [b, rest.sum() - b]]
                higher = a * max(int(rest.sum()), 1) > b * int(mine.sum())  # others are not tested: p = 1
                p_values[latent] = fisher_exact(cells, alternative="greater").pvalue if higher else 1.0
        order = sorted(p_values, key=lambda z: p_values[z], reverse=True)
        q_value, running = {}, 1.0
        for position, latent in enumerate(order):
            running = min(running, p_values[latent] * len(order) / (len(order) - position))
            q_value[latent] = running
        for latent in range(counts.shape[1]):
            a, b = int(once[mine, latent].sum()), int(once[rest, latent].sum())
            row = found.get((species, latent))
            if row is None:
                prior = np.clip([once[:, latent].mean()], 0.01, 0.99)
                effect = shrunken_effect(np.array([a]), int(mine.sum()), np.array([b]), int(rest.sum()), prior)
                assert a == 0 or effect[0] <= 0
                continue
            assert row.effect > 0
            assert row.reference_rank == rank
            assert (row.n_fired, row.n_individuals) == (a, mine.sum())
            assert row.f_species == pytest.approx(a / mine.sum())
            assert row.f_reference == pytest.approx(b / rest.sum())
            assert row.q_value == pytest.approx(q_value[latent])
            assert row.significant == (row.q_value <= 0.05)


@given(collections(), st.randoms())
@settings(max_examples=60, deadline=None)
def test_two_photographs_of_each_individual_change_nothing(drawn, random):
    taxa, counts = drawn
    rows = [*range(len(taxa))] * 2
    random.shuffle(rows)
    individuals = [f"individual {row}" for row in rows]
    twice = counts_of(counts[rows]), [taxa[row] for row in rows], individuals
    pd.testing.assert_frame_equal(specimen_contrast(*twice), specimen_contrast(counts_of(counts), taxa))
    twice_paper = paper_contrast(twice[0], twice[1], 1e-3, individuals)
    pd.testing.assert_frame_equal(twice_paper, paper_contrast(counts_of(counts), taxa, 1e-3))
    once, double = count(counts_of(counts), taxa), count(*twice)
    assert double.n_individuals.tolist() == once.n_individuals.tolist()
    assert double.fired.toarray().tolist() == once.fired.toarray().tolist()
    assert double.mean_share().tolist() == once.mean_share().tolist()


def test_an_individual_fired_a_latent_if_any_of_its_images_did():
    taxa = [taxon("G a")] * 3 + [taxon("G b")] * 2
    table = specimen_contrast(counts_of([[1, 0], [0, 1], [0, 1], [0, 0], [0, 0]]), taxa, ["x", "x", "y", "z", "z"])
    assert table[["latent", "n_fired", "n_individuals"]].to_numpy().tolist() == [[0, 1, 2], [1, 2, 2]]
    assert table["f_species"].tolist() == [0.5, 1.0]


def test_an_effect_weighs_the_prior_as_four_individuals():
    # (2 + 4 x 0.5) / (2 + 4) against (0 + 4 x 0.5) / (8 + 4): odds of 2 and of 1 / 5
    effect = shrunken_effect(np.array([2]), 2, np.array([0]), 8, np.array([0.5]))
    assert effect[0] == pytest.approx(np.log(2 / (1 / 5)))


def test_the_effect_shrinks_small_samples_towards_the_prior():
    prior = np.array([0.1])
    two_of_two = shrunken_effect(np.array([2]), 2, np.array([1]), 20, prior)
    many = shrunken_effect(np.array([19]), 20, np.array([1]), 20, prior)
    assert many[0] > two_of_two[0] > 0
    nothing = shrunken_effect(np.array([0]), 0, np.array([0]), 0, prior)
    assert nothing[0] == pytest.approx(0)


def test_a_clear_difference_in_a_large_class_is_significant():
    taxa = [taxon("G a")] * 30 + [taxon("G b")] * 30
    table = specimen_contrast(counts_of([[1, 1]] * 30 + [[0, 1]] * 30), taxa)
    assert table["latent"].tolist() == [0]
    assert table["significant"].tolist() == [True]
    assert float(table["q_value"].iloc[0]) < 1e-10


def test_nothing_fired_gives_an_empty_table():
    table = specimen_contrast(counts_of([[0, 0]] * 4), [taxon("G a")] * 2 + [taxon("G b")] * 2)
    assert len(table) == 0


def ranked(species, **ranks):
    return Taxon(species=species, genus=species.split()[0], **ranks)


@pytest.mark.parametrize(
    ("taxa", "ranks"),
    [
        # a genus of wasps and one of grasses, each with relatives in its family
        (
            [
                ranked("Ammo sabulosa", kingdom="Animalia", family="Sphecidae"),
                ranked("Sphex funerarius", kingdom="Animalia", family="Sphecidae"),
                ranked("Ammo arenaria", kingdom="Plantae", family="Poaceae"),
                ranked("Poa annua", kingdom="Plantae", family="Poaceae"),
            ],
            {"family"},
        ),
        # known by their kingdoms alone
        ([ranked("Ammo a", kingdom="Animalia"), ranked("Ammo b", kingdom="Plantae")], {"collection"}),
        # a family's name that two orders have
        (
            [ranked("Aus a", order="Diptera", family="Syrphidae"), ranked("Bus b", order="Else", family="Syrphidae")],
            {"collection"},
        ),
        # a rank that one of them lacks tells nothing apart
        ([ranked("Aus a", family="Apidae"), ranked("Aus b")], {"genus"}),
    ],
)
def test_homonyms_are_no_relatives(taxa, ranks):
    counts = counts_of(np.eye(len(taxa), dtype=int))
    assert set(specimen_contrast(counts, taxa)["reference_rank"]) == ranks


def test_algorithm_1_does_not_put_homonyms_into_one_genus():
    taxa = [ranked("Ammo a", kingdom="Animalia"), ranked("Ammo b", kingdom="Plantae")]
    assert paper_contrast(counts_of([[9, 1], [1, 9]]), taxa, 0.01).empty
    relatives = [replace(taxon, kingdom="Animalia") for taxon in taxa]
    assert len(paper_contrast(counts_of([[9, 1], [1, 9]]), relatives, 0.01)) == 2


def test_thousands_of_species_of_one_individual_each_are_contrasted():
    n = 2000
    taxa = [ranked(f"Gen{i} a", family=f"F{i % 700}") for i in range(n)]
    generator = np.random.default_rng(0)
    counts = csr_array((generator.random((n, 64)) < 0.2).astype(np.int32))
    table = specimen_contrast(counts, taxa)
    assert table["species"].nunique() > 0.99 * n
    assert set(table["reference_rank"]) == {"family"}
