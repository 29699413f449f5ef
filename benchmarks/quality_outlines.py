"""Outlines of regions that follow the image, against the patches and against other ways, where the truth is known.

Regions are those of a run (MobileNetV2 features of layer 11, an SAE with the defaults, `--image-size` 224 or 448);
only how they are outlined differs. On the drawn world every region with at least 0.3 of its patches on parts is
compared with the part that most of it lies on: intersection over union, share of the region on the part, share of the
part in the region. On the Leeds Butterfly photographs regions are compared with the animal: the share of each on it,
and, of those with 5 % to 95 % of their patches on it, how well their outline follows its border: the F-measure of two
shares, of the outline's points off the animal or at its border that lie at the border, and of the border's points
within the patches that lie at the outline; at is within 2 % (or 0.5 %) of the image's diagonal. Intervals resample
images.

    SAE_TRAITS_SHARED=… python benchmarks/quality_outlines.py --folder outlines
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.filters import sobel
from skimage.segmentation import random_walker, slic, watershed
from tables import describe_machine, markdown_table

from sae_traits.config import RunConfig
from sae_traits.config.tree import build
from sae_traits.describers.measured import MeasuredDescriber
from sae_traits.evaluation.statistics import bootstrap_interval
from sae_traits.images.decode import open_image, open_mask
from sae_traits.runs.context import Context
from sae_traits.schema import ImageRecord
from sae_traits.steps import STEPS, run_steps
from sae_traits.testbench.drawn import Truth, draw_collection, part_labels_file
from sae_traits.testbench.drawn.world import ATTRIBUTES
from sae_traits.testbench.truth import score
from sae_traits.traits.annotate import describe_candidates, export_traits
from sae_traits.traits.ledger import Ledger
from sae_traits.traits.outlines import Window, distance_of, organism_color_odds, outline_mask, pixels_of, window_of
from sae_traits.traits.table import read_traits

LAYER = 11
IMAGE_SIZES = (224, 448)
Mask = NDArray[np.bool_]
Numbers = NDArray[np.float64]
ON_PARTS = 0.3
"""Share of a region's patches that must lie on parts for it to be compared with one."""
AT_BORDER = (0.05, 0.95)
"""Share of a region's patches on the animal between which its border is the region's concern."""
TOLERANCES = (0.02, 0.005)
"""Of the image's diagonal."""


def patches(lab: Numbers, distance: Numbers) -> Mask:
    """The patches as they are."""
    return distance > 0


def grown(lab: Numbers, distance: Numbers) -> Mask:
    """A control: the patches grown, or shrunk, on all sides to the area that `image` has."""
    n_pixels = int(outline_mask(lab, distance).sum())
    return distance >= np.sort(distance, axis=None)[-max(1, n_pixels)]


def superpixels(lab: Numbers, distance: Numbers) -> Mask:
    """SLIC superpixels, nine per patch, of which at least 0.35 lies in the patches."""
    n_patches = distance.size / 144
    labels = slic(lab, n_segments=max(4, round(9 * n_patches)), convert2lab=False, start_label=0, channel_axis=-1)
    shares = np.asarray(ndimage.mean(distance > 0, labels, np.arange(labels.max() + 1)))
    return shares[labels] > 0.35


def flooded(lab: Numbers, distance: Numbers) -> Mask:
    """A watershed on the colour gradient between the middle of the patches and the window's edge."""
    gradient = np.sqrt(sum(sobel(ndimage.gaussian_filter(lab[..., channel], 1)) ** 2 for channel in range(3)))
    return watershed(gradient, _seeds(distance)) == 1


def walked(lab: Numbers, distance: Numbers) -> Mask:
    """A random walker with the same seeds."""
    return random_walker(lab / lab.std(), _seeds(distance), beta=1000, mode="cg_j", channel_axis=-1) == 1


def _seeds(distance: Numbers) -> NDArray[np.intp]:
    """1 in the middle of the patches, 2 at the window's edge, 0 between them."""
    seeds = np.full(distance.shape, 2)
    seeds[3:-3, 3:-3] = 0
    seeds[distance > 0] = 0
    seeds[distance >= 0.5 * distance.max()] = 1
    return seeds


WAYS: Mapping[str, Callable[[Numbers, Numbers], Mask]] = {
    "patches": patches,
    "image": outline_mask,
    "patches, grown to the area of image": grown,
    "superpixels": superpixels,
    "watershed": flooded,
    "random walker": walked,
}
KNOWN = "image, and where the organism is"
"""The default of `--outline`; the ways above know the region alone."""


@dataclass(frozen=True)
class Outlined:
    """One region of one image, outlined in every way; masks are those of the whole image `[height, width]`."""

    record: ImageRecord
    masks: dict[str, Mask]


def make_run(collection: dict[str, Any], shared: Path, image_size: int, folder: Path) -> Context:
    """Extract, train and encode, unless that is done."""
    backbone = {
        "model": str(shared / "models/mobilenet_v2_inat_insect"), "layer": LAYER, "image_size": image_size,
    }  # fmt: skip
    options = {"collection": collection, "features": {"backbone": backbone}, "train": {"n_patches": 400_000}}
    context = Context.create(folder, build(RunConfig, options), STEPS)
    with context.writing():
        run_steps(context, ["collect", "extract", "train", "encode"])
    return context


def outlined(context: Context, n_images: int) -> Iterator[Outlined]:
    """Yield the regions of some images, drawn at random, each outlined in every way."""
    collection, info = context.collection, context.features.info
    drawn = set(np.random.default_rng(0).permutation(len(collection.images))[:n_images].tolist())
    for record, pairs in context.plan.candidates():
        if pairs[0][0].image not in drawn:
            continue
        image, grid = np.asarray(open_image(collection.path(record))), info.grid((record.width, record.height))
        for candidate, region in pairs:
            window = window_of(grid, candidate.patches)
            lab, distance = rgb2lab(pixels_of(image, window)), distance_of(window, candidate.patches, grid)
            made = {name: way(lab, distance) for name, way in WAYS.items()}
            odds = None if region.organism is None else organism_color_odds(image, grid, region.organism, lab)
            made[KNOWN] = outline_mask(lab, distance, odds)
            masks = {name: in_image(mask, window, record) for name, mask in made.items()}
            yield Outlined(record, {name: mask if mask.any() else masks["patches"] for name, mask in masks.items()})


def in_image(mask: Mask, window: Window, record: ImageRecord) -> Mask:
    """A mask of a window's points as one of the image's pixels."""
    step_x, step_y = window.step
    columns = np.floor((np.arange(record.width) + 0.5 - window.left) / step_x).astype(int)
    rows = np.floor((np.arange(record.height) + 0.5 - window.top) / step_y).astype(int)
    x, y = ((at >= 0) & (at < n) for at, n in ((columns, window.columns), (rows, window.rows)))
    whole = np.zeros((record.height, record.width), dtype=bool)
    whole[np.ix_(y, x)] = mask[np.ix_(rows[y], columns[x])]
    return whole


def part_scores(region: Outlined, labels: NDArray[np.uint8], n_parts: int) -> tuple[int, dict[str, list[float]]] | None:
    """The part that most of a region lies on, and by way intersection over union, share on it and share of it."""
    counts = np.bincount(labels[region.masks["patches"]], minlength=n_parts)
    if counts[1:].sum() < ON_PARTS * counts.sum():
        return None
    part = 1 + int(np.argmax(counts[1:]))
    truth = labels == part
    scores = {}
    for name, mask in region.masks.items():
        both = (mask & truth).sum()
        scores[name] = [both / (mask | truth).sum(), both / mask.sum(), both / truth.sum()]
    return part, scores


def animal_scores(region: Outlined, animal: Mask) -> dict[str, list[float]]:
    """By way the share on the animal, the area in units of the patches', and F-measures (NaN away from the border)."""
    inside = region.masks["patches"]
    is_at_border = AT_BORDER[0] < animal[inside].mean() < AT_BORDER[1]
    diagonal = float(np.hypot(*animal.shape))
    to_border = distance_to(border(animal))
    scores = {}
    for name, mask in region.masks.items():
        measures = [
            border_measure(mask, animal, inside, to_border, share * diagonal) if is_at_border else np.nan
            for share in TOLERANCES
        ]
        scores[name] = [animal[mask].mean(), mask.sum() / inside.sum(), *measures]
    return scores


def border_measure(mask: Mask, animal: Mask, inside: Mask, to_border: Numbers, tolerance: float) -> float:
    """F-measure of a region's outline against the animal's border; see above."""
    outline = border(mask)
    concerned = outline & (~animal | (to_border <= tolerance))
    to_outline = distance_to(outline)
    wanted = border(animal) & inside
    if not concerned.any() or not wanted.any():
        return 0.0
    precision, recall = (to_border[concerned] <= tolerance).mean(), (to_outline[wanted] <= tolerance).mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def border(mask: Mask) -> Mask:
    """The pixels of a mask that have another one beside them; the image's edge is none."""
    return mask & ~np.asarray(ndimage.binary_erosion(mask, border_value=1), dtype=bool)


def distance_to(mask: Mask) -> Numbers:
    """How far each pixel is from the nearest one of a mask, in pixels."""
    return np.asarray(ndimage.distance_transform_edt(~mask))


def score_drawn(context: Context, n_images: int) -> tuple[list[list[str]], list[list[str]]]:
    """Rows of the tables of parts: by way over all regions, and by part."""
    truth = Truth.load(context.collection.root)
    found: list[tuple[str, int, dict[str, list[float]]]] = []
    for region in outlined(context, n_images):
        labels = np.asarray(Image.open(context.collection.root / part_labels_file(region.record.file)))
        if (scored := part_scores(region, labels, len(truth.parts))) is not None:
            found.append((region.record.image_id, *scored))
    images = [image for image, *_ in found]
    rows = [
        [name, str(len(found)), *_intervals([scores[name] for *_, scores in found], images)] for name in (*WAYS, KNOWN)
    ]
    parts = []
    for part in sorted({part for _, part, _ in found}):
        own = [scores for _, of, scores in found if of == part]
        means = {name: np.mean([scores[name] for scores in own], axis=0) for name in ("patches", "image")}
        both = [f"{means[name][which]:.3f}" for which in (0, 1) for name in means]
        parts.append([truth.parts[part], str(len(own)), *both])
    return rows, parts


def score_animals(context: Context, n_images: int) -> list[list[str]]:
    """Rows of the table of animals."""
    found: list[tuple[str, dict[str, list[float]]]] = []
    for region in outlined(context, n_images):
        mask = context.collection.mask_path(region.record)
        assert mask is not None
        found.append((region.record.image_id, animal_scores(region, open_mask(mask))))
    images = [image for image, _ in found]
    n_at_border = sum(not np.isnan(scores["patches"][2]) for _, scores in found)
    counts = f"{len(found)}, {n_at_border}"
    return [[name, counts, *_intervals([scores[name] for _, scores in found], images)] for name in (*WAYS, KNOWN)]


def name_attributes(folder: Path) -> list[list[str]]:
    """Rows of the table of words: describe a drawn world's regions with `measured`, with either outline."""
    rows = []
    for outline in ("patches", "image"):
        context = Context.open(folder, STEPS, {"regions": {"outline": outline}})
        with tempfile.TemporaryDirectory() as temporary, Ledger(Path(temporary) / "ledger.sqlite") as ledger:
            describe_candidates(context.plan, MeasuredDescriber(), ledger, workers=1)
            traits_file = Path(temporary) / "traits"
            export_traits(context.plan, ledger, traits_file=traits_file, latents_file=Path(temporary) / "latents")
            traits = list(read_traits(traits_file))
        naming = score(context.collection, traits, context.features.info).naming
        length = np.median([trait.measurement.length_px for trait in traits])
        said = [attribute.value for trait in traits for attribute in trait.description.attributes]
        right = [f"{one.accuracy} ({one.majority_accuracy:.3f})" for one in naming if one.attribute in ATTRIBUTES]
        rows.append([outline, str(len(traits)), *right, f"{length:.0f}", str(said.count("small"))])
    return rows


def _intervals(scores: Sequence[Sequence[float]], images: Sequence[str]) -> list[str]:
    columns = []
    for column in np.array(scores).T:
        known = ~np.isnan(column)
        groups = [image for image, is_known in zip(images, known, strict=True) if is_known]
        columns.append(str(bootstrap_interval(column[known], groups=groups)))
    return columns


def main() -> None:
    """Make the runs and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="keeps the runs, and goes on with what is there")
    parser.add_argument("--images", type=int, default=150, help="images that are scored of each collection")
    arguments = parser.parse_args()
    shared = Path(os.environ.get("SAE_TRAITS_SHARED") or sys.exit("SAE_TRAITS_SHARED must name models and data"))
    print(describe_machine())
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if not (folder / "drawn" / "collection.yaml").is_file():
            draw_collection(folder / "drawn", images_per_species=10)
        leeds = {"source": str(shared / "data/leeds_butterfly/metadata.csv"), "per_species": 15}
        scored = ["intersection over union", "of the region on the part", "of the part in the region"]
        borders = [f"border, within {share:.1%} of the diagonal" for share in TOLERANCES]
        for size in IMAGE_SIZES:
            rows, parts = score_drawn(
                make_run({"source": str(folder / "drawn")}, shared, size, folder / f"drawn-{size}"), arguments.images
            )
            print(f"\nDrawn world, {size} pixels\n")
            print(markdown_table(["outline", "regions", *scored], rows))
            both = [f"{what}, {name}" for what in ("IoU", "on the part") for name in ("patches", "image")]
            print("\n" + markdown_table(["part", "regions", *both], parts), flush=True)
            words = [f"{attribute} (always the commonest)" for attribute in ATTRIBUTES]
            columns = ["outline", "regions", *words, "median length", "called small"]
            print("\n" + markdown_table(columns, name_attributes(folder / f"drawn-{size}")), flush=True)
            rows = score_animals(make_run(leeds, shared, size, folder / f"leeds-{size}"), arguments.images)
            print(f"\nLeeds Butterfly, {size} pixels\n")
            print(markdown_table(["outline", "regions, at the border", "on the animal", "area", *borders], rows))


if __name__ == "__main__":
    main()
