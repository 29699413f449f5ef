"""Zero-shot evaluation of 100,000 images and 10,000 classes, and SimpleShot at the size of NABirds, beside dense peers.

Prints a Markdown table; 3 min on two cores: python benchmarks/bench_evaluation.py [--images 100000] [--classes 10000]

What is scored: top-1, 3 and 5, six ranks (by the first class, and by summed probabilities), taxonomic distance,
calibration, and intervals from 1,000 resamples of each. The peer has all logits at once, in torch, and resamples each
measure with scipy; that is what one writes first, and it is run at a tenth of the images, where its logits fit. Every
measurement is a process of its own, whose processor time and peak of resident memory include all libraries and the
making of the embeddings.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import bootstrap
from tables import describe_machine, markdown_table

from sae_traits.evaluation.measures.calibration import expected_calibration_error
from sae_traits.evaluation.measures.classification import IntArray, score_classes
from sae_traits.evaluation.measures.few_shot import few_shot, independent_folds, simple_shot
from sae_traits.evaluation.statistics import bootstrap_intervals

D = 512
TOP = (1, 3, 5)
N_RESAMPLES = 1000
CLASSES_PER_TAXON = (1, 3, 12, 60, 400, 2500)
NABIRDS = (48_562, 555)
Vectors = NDArray[np.float32]


def world(n_images: int, n_classes: int) -> tuple[Vectors, Vectors, IntArray, IntArray]:
    """Images near their class texts, the texts, the truth, and the taxa of classes."""
    generator = np.random.default_rng(0)
    classes = generator.normal(size=(n_classes, D)).astype(np.float32)
    truth = generator.integers(n_classes, size=n_images)
    images = 0.2 * classes[truth] + generator.standard_normal(size=(n_images, D), dtype=np.float32)
    ranks = np.stack([np.arange(n_classes) // size for size in CLASSES_PER_TAXON])
    return images, classes, truth, ranks


def ours(n_images: int, n_classes: int) -> dict[str, float]:
    """In blocks."""
    images, classes, truth, ranks = world(n_images, n_classes)
    started = time.perf_counter()
    scores = score_classes(images, classes, truth, ranks=ranks)
    top = [scores.top(k) for k in TOP]
    error = expected_calibration_error(scores.confidence, top[0])
    scored = time.perf_counter()
    measures = np.stack([*top, scores.distance, *scores.rank_right, *scores.rank_right_summed], axis=1)
    intervals = bootstrap_intervals(measures, n_resamples=N_RESAMPLES)
    return {
        "scores": scored - started,
        "intervals": time.perf_counter() - scored,
        "top1": intervals[0].mean,
        "ece": error,
    }


def dense(n_images: int, n_classes: int) -> dict[str, float]:
    """All logits at once."""
    images, classes, truth, ranks = world(n_images, n_classes)
    started = time.perf_counter()
    unit = [torch.nn.functional.normalize(torch.from_numpy(vectors), dim=1) for vectors in (images, classes)]
    logits = 100 * unit[0] @ unit[1].T
    target = torch.from_numpy(truth)
    best = logits.topk(max(TOP)).indices
    measures = [(best[:, :k] == target[:, None]).any(dim=1) for k in TOP]
    probabilities = logits.softmax(dim=1)
    confidence, first = probabilities.max(dim=1)
    error = expected_calibration_error(confidence.numpy(), measures[0].numpy())
    distance = torch.full((n_images,), len(ranks))
    for rank in reversed(range(len(ranks))):
        taxon = torch.from_numpy(ranks[rank])
        right = taxon[first] == taxon[target]
        distance[right] = rank
        summed = torch.zeros(n_images, int(taxon.max()) + 1).index_add_(1, taxon, probabilities)
        measures += [right, summed.argmax(dim=1) == taxon[target]]
    measures.append(distance)
    scored = time.perf_counter()
    for measure in measures:
        values = measure.numpy().astype(np.float64)
        bootstrap((values,), np.mean, n_resamples=N_RESAMPLES, method="percentile", batch=20)
    return {
        "scores": scored - started,
        "intervals": time.perf_counter() - scored,
        "top1": float(measures[0].float().mean()),
        "ece": error,
    }


def ours_few_shot(n_images: int, n_classes: int) -> dict[str, float]:
    """Five folds of five images per class."""
    images, labels, folds = few_shot_world(n_images, n_classes)
    started = time.perf_counter()
    accuracies, _ = few_shot(images, labels, folds)
    seconds = time.perf_counter() - started
    return {"scores": seconds, "intervals": 0.0, "top1": float(np.mean(accuracies)), "ece": np.nan}


def dense_few_shot(n_images: int, n_classes: int) -> dict[str, float]:
    """One fold as classification.py computes it, by an array [n_classes, n_queries, d]; times five."""
    images, labels, folds = few_shot_world(n_images, n_classes)
    started = time.perf_counter()
    support, queries = folds[0].support, folds[0].queries
    mean = images[support].mean(axis=0)
    centred = images - mean
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    means = np.stack([centred[support][labels[support] == label].mean(axis=0) for label in range(n_classes)])
    distances = np.linalg.norm(means[:, None] - centred[queries], axis=-1)
    right = distances.argmin(axis=0) == labels[queries]
    seconds = 5 * (time.perf_counter() - started)
    blocks = simple_shot(images[support], labels[support], images[queries], labels[queries])
    assert abs(blocks.mean() - right.mean()) < 1e-3
    return {"scores": seconds, "intervals": 0.0, "top1": float(right.mean()), "ece": np.nan}


def few_shot_world(n_images: int, n_classes: int):
    images, _, labels, _ = world(n_images, n_classes)
    labels[: 6 * n_classes] = np.arange(6 * n_classes) % n_classes
    return images, labels, independent_folds(labels, 5)


def measured(way: Callable[[int, int], dict[str, float]], *size: int) -> dict[str, float]:
    """What a way says of a size, and its peak of memory, from a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_with_memory, (way, *size))


def _with_memory(way: Callable[[int, int], dict[str, float]], *size: int) -> dict[str, float]:
    found = way(*size)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return found | {"gib": used.ru_maxrss / 2**20, "processor": used.ru_utime + used.ru_stime}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=10_000)
    arguments = parser.parse_args()
    n_images, n_classes = arguments.images, arguments.classes
    runs = [
        ("zero-shot, in blocks", ours, (n_images, n_classes)),
        ("zero-shot, in blocks", ours, (n_images // 10, n_classes)),
        ("zero-shot, dense", dense, (n_images // 10, n_classes)),
        ("SimpleShot, in blocks", ours_few_shot, NABIRDS),
        ("SimpleShot, in blocks", ours_few_shot, (NABIRDS[0] // 20, NABIRDS[1] // 5)),
        ("SimpleShot, dense", dense_few_shot, (NABIRDS[0] // 20, NABIRDS[1] // 5)),
    ]
    print(describe_machine(), "\n")
    rows = []
    for name, way, size in runs:
        found = measured(way, *size)
        rows.append(
            [
                name,
                f"{size[0]:,} x {size[1]:,}",
                f"{found['scores']:.1f}",
                f"{found['intervals']:.1f}",
                f"{found['processor']:.0f}",
                f"{found['gib']:.1f}",
                f"{found['top1']:.4f}",
                "" if np.isnan(found["ece"]) else f"{found['ece']:.4f}",
            ]
        )
    header = ["way", "images x classes", "scores, s", "intervals, s", "s of CPU", "peak RSS, GiB", "top-1", "ECE"]
    print(markdown_table(header, rows))


if __name__ == "__main__":
    main()
