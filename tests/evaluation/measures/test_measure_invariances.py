"""What no measure may depend on; and what the best, the worst and the indifferent model get."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis.strategies import integers
from sklearn.metrics import average_precision_score, ndcg_score, top_k_accuracy_score

from sae_traits.errors import CollectionError
from sae_traits.evaluation.benchmarks.tasks.attributes import macro_f1
from sae_traits.evaluation.measures.agreement import krippendorff_alpha
from sae_traits.evaluation.measures.attributes import fishnet_right
from sae_traits.evaluation.measures.calibration import expected_calibration_error
from sae_traits.evaluation.measures.classification import macro, rank_codes, score_classes
from sae_traits.evaluation.measures.clustering import clustering_right, semi_supervised_k_means
from sae_traits.evaluation.measures.distance_matrices import mantel
from sae_traits.evaluation.measures.few_shot import draw_support, few_shot, independent_folds, simple_shot
from sae_traits.evaluation.measures.retrieval import ranked_scores, retrieve
from sae_traits.evaluation.measures.structure import (
    centred,
    structure_of_traits,
    structure_of_variants,
    variant_figures,
    within_variance_in_span,
)
from sae_traits.evaluation.measures.svm import newt_task
from sae_traits.evaluation.statistics import bootstrap_intervals

EXAMPLES = settings(max_examples=15, deadline=None)
SEED = integers(0, 10_000)


def tied_vectors(generator, n, d=6):
    """Vectors of which many are equal: few different ones, and of different lengths."""
    few = generator.normal(size=(max(2, n // 3), d))
    lengths = 2.0 ** generator.integers(-2, 3, size=(n, 1))  # powers of two leave directions exactly as they are
    return (few[generator.integers(len(few), size=n)] * lengths).astype(np.float32)


def taxonomy(generator, n_classes):
    """Species, genera and families of classes; some not known."""
    genus = generator.integers(max(2, n_classes // 2), size=n_classes)
    lineages = [(f"species {place}", f"genus {of}", f"family {of // 2}") for place, of in enumerate(genus)]
    return rank_codes([(s, "" if place == 1 else g, f) for place, (s, g, f) in enumerate(lineages)])


def every_score(scores):
    return np.stack(
        [
            scores.top(1),
            scores.top(3),
            scores.confidence,
            scores.distance,
            *scores.rank_right,
            *scores.rank_right_summed,
        ]
    )


@EXAMPLES
@given(seed=SEED, n_classes=integers(3, 12), block=integers(1, 50))
def test_classification_depends_on_no_order_and_no_block(seed, n_classes, block):
    generator = np.random.default_rng(seed)
    images, classes = tied_vectors(generator, 40), tied_vectors(generator, n_classes)
    truth, ranks = generator.integers(n_classes, size=40), taxonomy(generator, n_classes)
    expected = every_score(score_classes(images, classes, truth, ranks=ranks))
    assert every_score(score_classes(images, classes, truth, ranks=ranks, block=block)) == pytest.approx(
        expected, nan_ok=True, abs=1e-5
    )
    rows, order = generator.permutation(40), generator.permutation(n_classes)
    shuffled = score_classes(images[rows], classes[order], np.argsort(order)[truth[rows]], ranks=ranks[:, order])
    assert every_score(shuffled) == pytest.approx(expected[:, rows], nan_ok=True, abs=1e-5)


@EXAMPLES
@given(seed=SEED)
def test_without_ties_classification_is_scikit_learns_and_taxa_are_counted_plainly(seed):
    generator = np.random.default_rng(seed)
    images, classes = generator.normal(size=(30, 5)), generator.normal(size=(7, 5))
    truth, ranks = generator.integers(7, size=30), taxonomy(generator, 7)
    scores = score_classes(images, classes, truth, ranks=ranks, logit_scale=10)
    unit = [vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (images, classes)]
    logits = 10 * unit[0] @ unit[1].T
    assume(np.diff(np.sort(logits, axis=1)).min() > 1e-4)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for k in (1, 3):
        assert scores.top(k).mean() == pytest.approx(top_k_accuracy_score(truth, logits, k=k, labels=range(7)))
    assert scores.confidence == pytest.approx(probabilities.max(axis=1), abs=1e-5)
    for image, (first, own) in enumerate(zip(logits.argmax(axis=1), truth, strict=True)):
        shared = [rank for rank, of in enumerate(ranks) if of[first] == of[own] >= 0]
        assert scores.distance[image] == (0 if first == own else min(shared, default=3))
        for rank, of in enumerate(ranks):
            if of[own] < 0:
                assert np.isnan([scores.rank_right[rank, image], scores.rank_right_summed[rank, image]]).all()
                continue
            assert scores.rank_right[rank, image] == (of[first] == of[own])
            sums = {taxon: probabilities[image, of == taxon].sum() for taxon in set(of.tolist()) - {-1}}
            alone = [probabilities[image, place] for place in np.flatnonzero(of < 0)]
            best = sums[of[own]] >= max([*sums.values(), *alone])
            assert scores.rank_right_summed[rank, image] == best


def test_a_perfect_classifier_is_right_at_every_rank_though_two_classes_have_the_same_text():
    classes = np.eye(6, dtype=np.float32)
    truth = np.repeat(np.arange(6), 4)
    ranks = rank_codes([(f"s{place}", f"g{place // 2}") for place in range(6)])
    scores = score_classes(classes[truth], classes, truth, ranks=ranks)
    assert (scores.top(1) == 1).all()
    assert (scores.rank_right == 1).all()
    assert (scores.rank_right_summed == 1).all()
    assert (scores.distance == 0).all()
    assert macro(scores.top(1), truth) == 1
    assert expected_calibration_error(scores.confidence, scores.top(1)) == pytest.approx(0, abs=1e-6)


def test_an_indifferent_classifier_gets_chance():
    truth = np.arange(12) % 6
    ranks = rank_codes([(f"s{place}", f"g{place // 2}", "f") for place in range(6)])
    scores = score_classes(np.ones((12, 3)), np.ones((6, 3)), truth, ranks=ranks)
    assert scores.top(1) == pytest.approx([1 / 6] * 12)
    assert scores.top(3) == pytest.approx([1 / 2] * 12)
    assert scores.rank_right == pytest.approx(np.array([[1 / 6] * 12, [1 / 3] * 12, [1] * 12]))
    assert scores.rank_right_summed == pytest.approx(np.array([[1 / 6] * 12, [1 / 3] * 12, [1] * 12]))
    assert scores.distance == pytest.approx([(0 + 1 + 4 * 2) / 6] * 12)
    assert expected_calibration_error(scores.confidence, scores.top(1)) == pytest.approx(0, abs=1e-6)


@EXAMPLES
@given(seed=SEED, block=integers(1, 40))
def test_few_shot_depends_on_no_order_of_queries_no_names_and_no_block(seed, block):
    generator = np.random.default_rng(seed)
    features, labels = tied_vectors(generator, 40), generator.integers(5, size=40)
    labels[:10] = np.arange(10) % 5
    names = np.array(["e", "a", "d", "b", "c"])[labels]
    folds = independent_folds(labels, 2)
    _, expected = few_shot(features, labels, folds)
    assert few_shot(features, names, folds, block=block)[1] == pytest.approx(expected, nan_ok=True)
    assert [fold.support.tolist() for fold in independent_folds(names, 2)] == [f.support.tolist() for f in folds]
    order = generator.permutation(30)
    support, queries = folds[0].support, folds[0].queries
    right = simple_shot(features[support], labels[support], features[queries], labels[queries])
    queries = queries[order]
    shuffled = simple_shot(features[support], labels[support], features[queries], labels[queries], block=block)
    assert shuffled == pytest.approx(right[order])


def test_few_shot_at_the_size_of_nabirds_never_holds_all_distances():
    n_images, n_classes, width = 48_562, 555, 8
    labels = np.sort(np.arange(n_images) % n_classes)
    means = np.random.default_rng(0).normal(size=(n_classes, width)).astype(np.float32)
    features = means[labels]
    folds = independent_folds(labels, 1, n_folds=1)
    tracemalloc.start()
    try:
        accuracies, _ = few_shot(features, labels, folds)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert accuracies == (1.0,)
    assert peak < 4 * n_images * n_classes  # the distances alone, in float32


def test_few_shot_of_perfect_and_of_constant_features():
    labels = np.repeat(np.arange(4), 6)
    folds = independent_folds(labels, 1)
    assert few_shot(np.eye(4)[labels], labels, folds)[0] == (1,) * 5
    assert np.mean(few_shot(np.ones((24, 3)), labels, folds)[0]) == pytest.approx(1 / 4)


def test_support_is_drawn_per_class_and_a_class_that_is_too_small_is_named():
    labels = np.array(["b"] * 4 + ["a"] * 3)
    assert sorted(labels[draw_support(labels, 2, seed=1)]) == ["a", "a", "b", "b"]
    with pytest.raises(CollectionError, match="'a' has 3 images, fewer than the 4"):
        independent_folds(labels, 4)
    with pytest.raises(CollectionError, match="none is left"):
        independent_folds(labels[1:], 3)


def test_newt_depends_on_no_names():
    generator = np.random.default_rng(0)
    features, labels = generator.normal(size=(40, 5)), np.arange(40) % 2
    is_train = np.arange(40) < 20
    first = newt_task(features, labels, is_train)
    assert (newt_task(features, np.array(["no", "yes"])[labels], is_train).right == first.right).all()
    assert newt_task(np.eye(2)[labels] + generator.normal(0, 0.01, (40, 2)), labels, is_train).right.all()


def test_attributes_of_a_perfect_and_of_a_constant_model():
    labels = (np.arange(60).reshape(20, 3) % 2).astype(int)
    labels[:, 2] = 0  # never there, never predicted: says nothing
    for said, score in ((labels > 0, 1), (np.zeros(labels.shape, bool), 0)):
        assert macro_f1(said[None], labels, np.zeros(20, np.int64)).mean == score
    assert fishnet_right(np.where(labels, 0.1, -0.1), labels).all()
    assert fishnet_right(np.full(labels.shape, -1.0), labels).mean() == (labels.sum(axis=1) == 0).mean()


@EXAMPLES
@given(seed=SEED)
def test_clustering_depends_on_no_order_and_no_names(seed):
    generator = np.random.default_rng(seed)
    labels, clusters = generator.integers(4, size=30), generator.integers(6, size=30)
    order, names = generator.permutation(30), generator.permutation(6)
    share = clustering_right(labels, clusters).mean()
    assert clustering_right(labels[order], names[clusters][order]).mean() == share
    assert clustering_right(np.array(list("dbca"))[labels], clusters).mean() == share
    assert clustering_right(labels, labels + 3).all()
    assert clustering_right(labels, np.zeros(30)).mean() == np.bincount(labels).max() / 30


def test_k_means_finds_separate_classes_and_keeps_the_labelled_ones():
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 8)
    features = 10 * np.eye(5)[labels] + generator.normal(0, 0.1, (40, 5))
    labelled = np.flatnonzero((labels < 2) & (np.arange(40) % 2 == 0))
    unlabelled = np.setdiff1d(np.arange(40), labelled)
    clusters = semi_supervised_k_means(features[unlabelled], features[labelled], labels[labelled], 5, seed=0)
    assert (clusters[: len(labelled)] == labels[labelled]).all()
    assert clustering_right(labels[unlabelled], clusters[len(labelled) :]).all()


@EXAMPLES
@given(seed=SEED, block=integers(1, 30))
def test_retrieval_depends_on_no_order_no_names_and_no_block(seed, block):
    generator = np.random.default_rng(seed)
    queries, gallery = tied_vectors(generator, 20), tied_vectors(generator, 30)
    own = np.concatenate([np.arange(8), generator.integers(8, size=22)])
    wanted = generator.integers(8, size=20)

    def scores(*arguments, **options):
        found = retrieve(*arguments, ks=(1, 4), depth=7, **options)
        parts = (*found.recall.values(), found.rank, found.reciprocal_rank, found.average_precision, found.ndcg)
        return np.stack(parts)

    expected = scores(queries, gallery, wanted, own)
    rows, order, names = generator.permutation(20), generator.permutation(30), np.array(list("hgfedcba"))
    assert scores(queries, gallery, names[wanted], names[own], block=block) == pytest.approx(expected, abs=1e-9)
    shuffled = scores(queries[rows], gallery[order], wanted[rows], own[order])
    assert shuffled == pytest.approx(expected[:, rows], abs=1e-9)


@EXAMPLES
@given(seed=SEED)
def test_expected_values_under_ties_are_means_over_random_orders(seed):
    generator = np.random.default_rng(seed)
    scores, relevant = generator.integers(3, size=8), generator.random(8) < 0.4
    relevant[0] = True
    n_draws = 4000
    noise = generator.random((n_draws, 8))
    orders = np.argsort(-(scores + 0.5 * noise), axis=1)
    hits = relevant[orders]
    place = hits.argmax(axis=1)
    expected = ranked_scores(scores, relevant, 4)
    reciprocal = np.where(place < 4, 1 / (place + 1), 0)
    assert expected.reciprocal_rank == pytest.approx(reciprocal.mean(), abs=0.03)
    assert expected.precision == pytest.approx(hits[:, :4].mean(), abs=0.03)
    assert ranked_scores(scores, relevant, 8).average_precision == pytest.approx(
        average_precision_score(relevant, scores)
    )
    assert expected.ndcg == pytest.approx(ndcg_score([relevant], [scores], k=4))
    angle = scores[None] / 5
    gallery = np.concatenate([np.cos(angle), np.sin(angle)]).T[:, ::-1]
    found = retrieve(np.array([[1.0, 0.0]]), gallery, [True], relevant, ks=(2,))
    assert found.recall[2][0] == pytest.approx((place < 2).mean(), abs=0.03)
    assert found.rank[0] == pytest.approx((place + 1).mean(), abs=0.1)


def test_retrieval_of_a_perfect_model_with_duplicates_and_of_a_constant_one():
    groups = np.array([0, 1, 2, 2, 2, 3])
    vectors = np.eye(4)[groups]
    perfect = retrieve(vectors, vectors, groups, groups, ks=(1, 5), depth=2)
    for measure in (*perfect.recall.values(), perfect.reciprocal_rank, perfect.average_precision, perfect.ndcg):
        assert (measure == 1).all()
    assert (perfect.rank == 1).all()
    assert retrieve(vectors, vectors, groups, groups, protocol="published").recall[1].mean() < 1
    constant = retrieve(np.ones((6, 2)), np.ones((6, 2)), np.arange(6), np.arange(6), ks=(1, 3))
    assert constant.recall[1] == pytest.approx([1 / 6] * 6)
    assert constant.recall[3] == pytest.approx([1 / 2] * 6)
    assert constant.rank == pytest.approx([3.5] * 6)


def test_a_tie_across_k_counts_in_part_and_as_published_by_its_first_rows():
    scores, relevant = [3, 2, 2, 2, 1], [0, 1, 0, 0, 0]
    assert ranked_scores(scores, relevant, 2).recall == pytest.approx(1 / 3)
    assert ranked_scores(scores, relevant, 2).reciprocal_rank == pytest.approx(1 / 3 * 1 / 2)
    assert ranked_scores(scores, relevant, 2, protocol="published").recall == 1
    assert ranked_scores(scores[::-1], relevant[::-1], 2, protocol="published").recall == 0
    assert ranked_scores(scores[::-1], relevant[::-1], 2).recall == pytest.approx(1 / 3)


def test_a_query_without_its_group_in_the_gallery_is_named():
    with pytest.raises(CollectionError, match="query 1, of group 'wasp'"):
        retrieve(np.eye(2), np.eye(2), ["bee", "wasp"], ["bee", "fly"])
    with pytest.raises(CollectionError, match="without a relevant row"):
        ranked_scores([1, 2], [0, 0], 2)


@EXAMPLES
@given(seed=SEED)
@example(seed=1726)  # whose centred means seem to span a direction more, by rounding
def test_structure_depends_on_no_order_and_no_names(seed):
    generator = np.random.default_rng(seed)
    embeddings, species = generator.normal(size=(36, 8)), np.arange(36) % 4
    variants = generator.integers(2, size=36)
    order, names = generator.permutation(36), np.array(["d", "b", "a", "c"])
    figures = variant_figures(centred(embeddings, species), variants)
    shuffled = variant_figures(centred(embeddings[order], names[species][order]), 1 - variants[order])
    assert shuffled.share_in_span == pytest.approx(figures.share_in_span)
    assert shuffled.fisher_ratio == pytest.approx(figures.fisher_ratio)
    rotation = np.linalg.qr(generator.normal(size=(8, 8)))[0]
    in_span, total = within_variance_in_span(embeddings @ rotation + 3, species)
    expected_in_span, expected_total = within_variance_in_span(embeddings, species)
    assert in_span.sum() / total.sum() == pytest.approx(expected_in_span.sum() / expected_total.sum())
    matrix = np.abs(np.subtract.outer(embeddings[:9, 0], embeddings[:9, 0]))
    other = np.abs(np.subtract.outer(embeddings[:9, 1], embeddings[:9, 1]))
    rows = np.ix_(generator.permutation(9), range(9))[0].ravel()
    r, _ = mantel(matrix, other, n_permutations=0)
    assert mantel(matrix[rows][:, rows], other[rows][:, rows], n_permutations=0)[0] == pytest.approx(r)
    assert mantel(matrix, 2 * matrix + 1 - np.eye(9), n_permutations=0)[0] == pytest.approx(1)


def test_species_with_one_image_of_each_variant_have_no_fisher_ratio():
    embeddings = np.random.default_rng(0).normal(size=(42, 16)).astype(np.float32)
    species, variants = np.repeat(np.arange(11), 4)[:42], np.tile([0, 0, 1, 1], 11)[:42]
    variants[40:] = 0, 1
    figures = variant_figures(centred(embeddings, species), variants)
    assert np.isnan(figures.fisher_ratios).tolist() == [False] * 10 + [True]
    of_others = variant_figures(centred(embeddings[:40], species[:40]), variants[:40])
    assert figures.fisher_ratio == pytest.approx(of_others.fisher_ratio)
    found = structure_of_variants(embeddings, species, variants, n_permutations=19)["fisher_ratio"]
    assert np.isfinite([found.value, found.null_mean, found.interval.low]).all()
    assert found.interval.n_groups == 10
    pairs = embeddings[:20], np.arange(20) // 2, np.arange(20) % 2
    assert set(structure_of_variants(*pairs, n_permutations=19)) == {"share_in_span"}


def test_structure_without_anything_to_compare_says_so():
    with pytest.raises(CollectionError, match="both variants"):
        structure_of_variants(np.eye(4), [0, 0, 1, 1], [0, 0, 1, 1])
    with pytest.raises(CollectionError, match="too few, or all equal"):
        structure_of_traits(np.eye(4), [0, 1, 2, 3], 1 - np.eye(4))


def test_agreement_depends_on_no_order_and_leaves_lonely_ratings_out():
    generator = np.random.default_rng(0)
    ratings = generator.integers(4, size=(3, 12)).astype(float)
    ratings[0, :4] = np.nan
    for level in ("nominal", "ordinal", "interval"):
        alpha = krippendorff_alpha(ratings, level)
        assert krippendorff_alpha(ratings[::-1, generator.permutation(12)], level) == pytest.approx(alpha)
        lonely = np.concatenate([ratings, [[9.0], [np.nan], [np.nan]]], axis=1)
        assert krippendorff_alpha(lonely, level) == pytest.approx(alpha)
    assert np.isnan(krippendorff_alpha(np.ones((2, 5))))
    assert np.isnan(krippendorff_alpha(np.array([[1.0, np.nan], [np.nan, 2.0]])))


def test_intervals_of_many_measures_are_those_of_each():
    generator = np.random.default_rng(0)
    values = generator.random((50, 3))
    values[:10, 1] = np.nan
    values[:, 2] = np.nan
    first, second, empty = bootstrap_intervals(values, n_resamples=4000)
    assert first.mean == pytest.approx(values[:, 0].mean())
    half = 1.96 * values[:, 0].std() / np.sqrt(50)
    assert (first.low, first.high) == pytest.approx((first.mean - half, first.mean + half), abs=0.01)
    assert second.mean == pytest.approx(values[10:, 1].mean())
    assert second.n_groups == 40
    assert np.isnan([empty.mean, empty.low, empty.high]).all()
    grouped = bootstrap_intervals(np.repeat(values[:, :1], 4, axis=0), groups=np.repeat(np.arange(50), 4))[0]
    assert (grouped.low, grouped.high) == pytest.approx((first.low, first.high), abs=0.01)
