"""The measures return what the programs that define them do: released code, scikit-learn, scikit-bio, torchmetrics."""

import numpy as np
import pytest
import sklearn
import torch
from golden_set import keys_with, load

from sae_traits.errors import CollectionError
from sae_traits.evaluation.benchmarks.tasks.attributes import macro_f1
from sae_traits.evaluation.measures.agreement import krippendorff_alpha
from sae_traits.evaluation.measures.attributes import fishnet_right
from sae_traits.evaluation.measures.calibration import expected_calibration_error
from sae_traits.evaluation.measures.class_names import ClassName, class_text
from sae_traits.evaluation.measures.classification import macro, score_classes
from sae_traits.evaluation.measures.clustering import clustering_right, semi_supervised_k_means
from sae_traits.evaluation.measures.distance_matrices import mantel
from sae_traits.evaluation.measures.few_shot import few_shot, independent_folds, simple_shot
from sae_traits.evaluation.measures.retrieval import ranked_scores, retrieve
from sae_traits.evaluation.measures.structure import centred, variant_figures, within_variance_in_span
from sae_traits.evaluation.measures.svm import newt_task
from sae_traits.evaluation.prompts import Prompter, unit_length

PROTOCOLS = ("published", "corrected")


class Recorded:
    """A text encoder that was asked before: text n in template m has the features that were recorded of them."""

    context_length = 77

    def __init__(self, features):
        self.features = unit_length(features)

    def count_tokens(self, text):
        return 1

    def embed_texts(self, texts):
        places = [tuple(map(int, text.split())) for text in texts]
        return torch.from_numpy(np.stack([self.features[number, template] for template, number in places]))


def test_zero_shot_is_open_clips():
    arrays, golden = load("zero_shot")
    features = arrays["template_text_features"]
    templates = tuple(f"{template} {{}}" for template in range(features.shape[1]))
    classifier = Prompter(Recorded(features), templates).embed([str(number) for number in range(len(features))], "")
    assert pytest.approx(arrays["classifier"], abs=1e-5) == classifier.T
    logits = 100 * unit_length(arrays["image_features"]) @ classifier.T
    assert logits == pytest.approx(arrays["logits"], abs=1e-3)
    scores = score_classes(arrays["image_features"], classifier, arrays["labels"])
    assert {k: scores.top(int(k)).sum() for k in golden["correct"]} == golden["correct"]
    assert macro(scores.top(1), arrays["labels"]) == pytest.approx(golden["macro_top1"], abs=1e-9)


def test_folds_and_accuracies_are_those_of_the_released_code():
    arrays, golden = load("few_shot")
    features, labels = arrays["features"], arrays["labels"]
    ks = keys_with(golden, "classification.py_k")
    assert ks
    for k in ks:
        expected = golden[f"classification.py_k{k}"]
        folds = independent_folds(labels, k, n_folds=len(expected["accuracy"]))
        assert [fold.support.tolist() for fold in folds] == expected["support_rows"]
        accuracies, _ = few_shot(features, labels, folds)
        assert accuracies == pytest.approx(expected["accuracy"], abs=1e-9)
        assert (np.mean(accuracies), np.std(accuracies)) == pytest.approx((expected["mean"], expected["std"]), abs=1e-9)


def test_simpleshot_compares_positions_as_published_and_labels_when_corrected():
    arrays, golden = load("few_shot")
    expected = golden["simpleshot.py"]
    support, queries = expected["support_rows"], expected["query_rows"]
    features = arrays["features"]

    def right(labels, protocol):
        return simple_shot(
            features[support], labels[support], features[queries], labels[queries], protocol=protocol
        ).tolist()

    labels = arrays["labels"]
    for protocol in PROTOCOLS:
        assert right(labels, protocol) == expected["correct"]
    assert right(2 * labels, "corrected") == expected["correct"]
    assert np.mean(right(2 * labels, "published")) == pytest.approx(expected["accuracy_with_labels_doubled"], abs=1e-6)


def test_linear_machines_are_scikit_learns():
    arrays, golden = load("svm")
    outcomes = []
    for task in golden["tasks"]:
        features, labels, is_train = (arrays[f"{task['task']}.{of}"] for of in ("features", "labels", "is_train"))
        outcomes.append(newt_task(features, labels, is_train))
        assert outcomes[-1].decision == pytest.approx(task["linear"]["decision"], abs=1e-5)
        assert outcomes[-1].predictions.tolist() == task["linear"]["predictions"]
    assert np.concatenate([outcome.right for outcome in outcomes]).mean() == pytest.approx(golden["micro_linear"])


@pytest.mark.slow
def test_the_random_search_of_newt_is_the_published_one():
    arrays, golden = load("svm")
    if golden["versions"]["sklearn"] != sklearn.__version__:
        pytest.skip(f"the search was recorded with scikit-learn {golden['versions']['sklearn']}")
    right = []
    for task in golden["tasks"]:
        features, labels, is_train = (arrays[f"{task['task']}.{of}"] for of in ("features", "labels", "is_train"))
        outcome = newt_task(features, labels, is_train, protocol="published", seed=golden["random_state"])
        assert outcome.parameters == pytest.approx(task["random_search"]["best"])
        assert outcome.predictions.tolist() == task["random_search"]["predictions"]
        right.append(outcome.right)
    assert np.concatenate(right).mean() == pytest.approx(golden["micro_random_search"])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_attributes_are_scored_as_published_and_as_scikit_learn_does(protocol):
    arrays, golden = load("attributes")
    labels, said = arrays["awa2_labels"], arrays["awa2_logits"] > (0.5 if protocol == "published" else 0)
    score = macro_f1(said[None], labels, np.zeros(len(labels), np.int64), protocol=protocol).mean
    assert score == pytest.approx(golden["awa2"][protocol], abs=1e-9)
    right = fishnet_right(arrays["fishnet_logits"], arrays["fishnet_labels"], protocol=protocol)
    assert right.mean() == pytest.approx(golden["fishnet"][protocol], abs=1e-9)


def test_clusters_are_matched_as_published_and_once():
    arrays, golden = load("clustering")
    labels, clusters = arrays["labels"], arrays["clusters"]
    old = labels < golden["n_old_classes"]
    published = clustering_right(labels, clusters, old=old, protocol="published")
    assert published.mean() == pytest.approx(golden["given"]["published"], abs=1e-9)
    assert clustering_right(labels, clusters).mean() == pytest.approx(golden["given"]["joint"], abs=1e-9)


def test_semi_supervised_k_means_finds_the_published_clusters():
    arrays, golden = load("clustering")
    features, labels = arrays["features"], arrays["labels"]
    unlabelled, labelled = arrays["unlabelled_rows"], arrays["labelled_rows"]
    clusters = semi_supervised_k_means(
        features[unlabelled],
        features[labelled],
        labels[labelled],
        golden["classes"],
        seed=golden["kmeans"]["random_state"],
    )[len(labelled) :]
    old = labels[unlabelled] < golden["n_old_classes"]
    published = clustering_right(labels[unlabelled], clusters, old=old, protocol="published").mean()
    assert published == pytest.approx(golden["kmeans"]["published"], abs=1e-9)
    joint = clustering_right(labels[unlabelled], clusters).mean()
    assert joint == pytest.approx(golden["kmeans"]["joint"], abs=1e-9)
    assert clusters.tolist() == arrays["kmeans_clusters"].tolist()


def test_class_names_are_bioclips_and_where_its_code_raises_so_does_ours():
    _, golden = load("class_names")
    for text_type, texts in golden["texts"].items():
        names = [named(number, row) for number, row in enumerate(golden["rows"])]
        if not isinstance(texts, list):
            with pytest.raises(CollectionError, match="released code"):
                [class_text(name, text_type, protocol="published") for name in names]
            continue
        for name, text in zip(names, texts, strict=True):
            if isinstance(text, dict):
                with pytest.raises(CollectionError, match="released code"):
                    class_text(name, text_type, protocol="published")
            else:
                assert class_text(name, text_type, protocol="published") == " ".join((text or "").split())
            assert class_text(name, text_type)


def named(number, row):
    higher = {rank: row[rank] for rank in ("kingdom", "phylum", "order", "family", "genus", "common_name")}
    return ClassName(label=f"label {number}", class_=row["cls"], epithet=row["species"], **higher)


def test_ranked_lists_are_scored_as_inquire_does():
    arrays, golden = load("retrieval")
    for case in golden["ranked"]:
        scores, relevant = arrays[f"{case['case']}.score"], arrays[f"{case['case']}.relevant"]
        kth = np.sort(scores)[::-1][case["k"] - 1]
        whole = (scores >= kth).sum() == case["k"] or not relevant[scores == kth].any()
        for protocol in PROTOCOLS if whole else ("published",):  # a relevant row in a tie across k counts in part
            scored = ranked_scores(scores, relevant, case["k"], protocol=protocol)
            assert scored.average_precision == pytest.approx(case["ap"], abs=1e-9), case["case"]
            assert scored.ndcg == pytest.approx(case["ndcg"], abs=1e-9), case["case"]
            if len(np.unique(scores)) == len(scores):
                assert scored.reciprocal_rank == pytest.approx(case["mrr"], abs=1e-9), case["case"]
                assert scored.precision == pytest.approx(case["precision"], abs=1e-9)
                assert scored.recall == pytest.approx(case["recall"], abs=1e-9)


def test_reciprocal_rank_under_ties_is_the_expected_one_and_as_published_that_of_the_rows():
    _, golden = load("retrieval")
    expected = golden["mrr_of_four_equal_scores"]
    first, last = [1, 0, 0, 0], [0, 0, 0, 1]
    for relevant, published in ((first, expected["relevant_first"]), (last, expected["relevant_last"])):
        assert ranked_scores([7] * 4, relevant, 4, protocol="published").reciprocal_rank == published
        corrected = ranked_scores([7] * 4, relevant, 4).reciprocal_rank
        assert corrected == pytest.approx(expected["expected_over_random_ties"], abs=1e-9)


def test_recall_counts_rows_of_the_group_and_as_published_the_own_row():
    arrays, golden = load("retrieval")
    for case in golden["recall"]:
        images, texts = arrays[f"{case['case']}.image"], arrays[f"{case['case']}.text"]
        groups = case.get("group", list(range(len(images))))
        for direction, sides in {"i2t": (images, texts), "t2i": (texts, images)}.items():
            corrected = retrieve(*sides, groups, groups, ks=(1, 5, 10))
            published = retrieve(*sides, groups, groups, ks=(1, 5, 10), protocol="published")
            for k in (1, 5, 10):
                bounds = case["corrected"][direction][f"R@{k}"]
                low, high = bounds["any_equal_counts_pessimistic"], bounds["any_equal_counts_optimistic"]
                assert low - 1e-9 <= corrected.recall[k].mean() <= high + 1e-9, (case["case"], direction, k)
                if "group" not in case:  # equal texts tie, and which of them the released code puts first is arbitrary
                    assert published.recall[k].mean() == pytest.approx(case["published"][direction][f"R@{k}"])
            if "group" not in case:
                name = {"i2t": "image_to_text", "t2i": "text_to_image"}[direction]
                expected = case["open_clip_train_get_clip_metrics"][f"{name}_mean_rank"]
                assert corrected.rank.mean() == pytest.approx(expected, abs=1e-9)


def test_structure_is_that_of_scipy():
    arrays, golden = load("structure")
    embeddings, species = arrays["embeddings"], arrays["species"]
    figures = variant_figures(centred(embeddings, species), arrays["variant"])
    assert figures.share_in_span == pytest.approx(golden["share_of_delta_in_between_species_span"], abs=1e-9)
    assert figures.fisher_ratio == pytest.approx(golden["mean_fisher_trace_ratio"], abs=1e-9)
    by_species = golden["per_species"]
    assert figures.fisher_ratios == pytest.approx([one["trace_ratio"] for one in by_species], abs=1e-9)
    shares = figures.squared_in_span / figures.squared_difference
    assert shares == pytest.approx([one["share_of_delta_in_span"] for one in by_species], abs=1e-9)
    in_span, total = within_variance_in_span(embeddings, species)
    expected = golden["share_of_within_species_variance_in_span"]
    assert in_span.sum() / total.sum() == pytest.approx(expected, abs=1e-9)


def test_mantel_is_scikit_bios():
    arrays, golden = load("statistics")
    first, second = (arrays[f"mantel_{name}"] for name in "ab")
    for method in ("pearson", "spearman"):
        r, permuted = mantel(first, second, method=method, n_permutations=1999)
        assert r == pytest.approx(golden["mantel"][method]["r"], abs=1e-9)
        p_value = golden["mantel"][method]["p_9999_permutations_two_sided"]
        as_far = np.abs(permuted) >= abs(r) - 1e-12
        assert (1 + as_far.sum()) / 2000 == pytest.approx(p_value, abs=0.02)


def test_agreement_is_that_of_krippendorff():
    arrays, golden = load("statistics")
    for level, alpha in golden["krippendorff_alpha"].items():
        assert krippendorff_alpha(arrays["ratings"], level) == pytest.approx(alpha, abs=1e-9)
        identical = np.tile(arrays["ratings"][0], (3, 1))
        assert krippendorff_alpha(identical, level) == golden["krippendorff_alpha_of_identical_raters"]


def test_calibration_is_torchmetrics():
    arrays, golden = load("statistics")
    probabilities = arrays["ece_probabilities"]
    right = probabilities.argmax(axis=1) == arrays["ece_labels"]
    for key, expected in golden["expected_calibration_error"].items():
        n_bins, _, norm = key.split("_")
        error = expected_calibration_error(probabilities.max(axis=1), right, n_bins=int(n_bins), norm=norm)
        assert error == pytest.approx(expected, abs=1e-6)
