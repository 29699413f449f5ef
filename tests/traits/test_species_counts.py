import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from made_traits import firings_of_all
from scipy.sparse import csr_array

from sae_traits.schema import Taxon
from sae_traits.traits.species_counts import count_firings


def taxon(species, genus="Gen"):
    return None if species is None else Taxon(species=species, genus=genus)


def split_into_parts(counts, edges):
    """Each part holds the rows from one edge to the next."""
    ends = zip([0, *edges], [*edges, len(counts)], strict=True)
    return [(np.arange(first, last), csr_array(counts[first:last])) for first, last in ends]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_sums_are_those_of_a_dense_array_however_the_codes_are_cut(data):
    n_images, n_latents = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 5))
    names = data.draw(st.lists(st.sampled_from(["b", "a", "c", None]), min_size=n_images, max_size=n_images))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    dense = rng.integers(1, 9, (n_images, n_latents)) * (rng.random((n_images, n_latents)) < 0.5)
    edges = sorted(data.draw(st.lists(st.integers(0, n_images), max_size=3)))
    individuals = [str(i) for i in data.draw(st.lists(st.integers(0, 5), min_size=n_images, max_size=n_images))]
    parts = split_into_parts(dense.astype(np.int32), edges)
    counts = count_firings(parts, [taxon(n) for n in names], individuals, n_latents)
    species = sorted({name for name in names if name is not None})
    assert [t.species for t in counts.taxa] == species
    rows = [[i for i, name in enumerate(names) if name == wanted] for wanted in species]
    fired = [
        [(dense[[i for i in own if individuals[i] == one]] > 0).any(0) for one in sorted({individuals[i] for i in own})]
        for own in rows
    ]
    assert counts.n_individuals.tolist() == [len(of_species) for of_species in fired]
    assert counts.fired.toarray().tolist() == [np.sum(of_species, axis=0).tolist() for of_species in fired]
    assert counts.patches.toarray().tolist() == [dense[own].sum(0).tolist() for own in rows]
    if species:
        shares = np.mean([np.mean(of_species, axis=0) for of_species in fired], axis=0)
        np.testing.assert_allclose(counts.mean_share(), shares)


def test_a_sum_merged_many_times_is_the_same():
    rng = np.random.default_rng(0)
    dense = (rng.integers(1, 9, (40, 6)) * (rng.random((40, 6)) < 0.5)).astype(np.int32)
    taxa = [taxon(f"s{row % 7}") for row in range(40)]
    parts = split_into_parts(dense, range(1, 40))
    individuals = [str(row) for row in range(40)]
    at_once = count_firings(parts, taxa, individuals, 6)
    often = count_firings(parts, taxa, individuals, 6, pending_cells=10)
    np.testing.assert_array_equal(often.fired.toarray(), at_once.fired.toarray())
    np.testing.assert_array_equal(often.patches.toarray(), at_once.patches.toarray())


def test_a_large_count_does_not_overflow():
    part = firings_of_all(np.array([[2**31 - 1]], dtype=np.int32))
    counts = count_firings([part, part], [taxon("a")], ["x"], 1)
    assert counts.patches.toarray().tolist() == [[2**32 - 2]]


def test_a_species_has_the_genus_that_most_of_its_images_name():
    taxa = [taxon("a", "Second"), taxon("a", "First"), taxon("a", "Second"), taxon("b", "Z"), taxon("b", "Y")]
    counts = count_firings([firings_of_all(np.zeros((5, 2), dtype=np.int32))], taxa, list("vwxyz"), 2)
    assert [t.genus for t in counts.taxa] == ["Second", "Y"]
    assert counts.fired.nnz == 0


def test_a_collection_without_training_images_has_no_species():
    counts = count_firings([firings_of_all(np.array([[2, 0], [1, 1]], dtype=np.int32))], [None, None], ["x", "y"], 2)
    assert (counts.taxa, counts.fired.shape, counts.n_individuals.tolist()) == ((), (0, 2), [])


def test_latents_that_are_left_out_fire_nowhere_and_the_others_as_before():
    parts = [firings_of_all(np.array([[1, 0, 3], [0, 2, 4]], np.int32))]
    counts = count_firings(parts, [taxon("a"), taxon("b")], ["0", "1"], 3)
    without = counts.without([2])
    assert without.fired.toarray().tolist() == [[1, 0, 0], [0, 1, 0]]
    assert without.patches.toarray().tolist() == [[1, 0, 0], [0, 2, 0]]
    assert (without.fired.nnz, without.fired.dtype, without.patches.dtype) == (2, np.int32, np.int64)
    assert (without.n_latents, without.taxa) == (3, counts.taxa)
    assert counts.without([]).fired.toarray().tolist() == counts.fired.toarray().tolist()
