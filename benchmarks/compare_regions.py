"""Regions of the SAE against those of baselines, on the Leeds Butterfly photographs, described by `measured`.

One SAE is trained on MobileNetV2 features; then regions are chosen in the same run in each of WAYS. Compared are

- the share of a region's patches that lies on the animal, by the masks that come with the photographs, of all
  images: intervals over images, and paired differences to the SAE over the images that have regions of both;
- how often two images of a species get the same value of an attribute, at the same latent where there are latents,
  on a random sample of images: intervals over species, and paired differences to the SAE. Beside it the share for
  any two traits of the sample: descriptions that are all alike agree as well. "Above chance" is the agreement less that
  share.

    SAE_TRAITS_SHARED=… python benchmarks/compare_regions.py --folder leeds-run
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tables import describe_machine, markdown_table

from sae_traits.config import RunConfig, VisionModel
from sae_traits.config.regions import GradCAMRegions
from sae_traits.config.tree import build
from sae_traits.describers.measured import MeasuredDescriber
from sae_traits.evaluation.part_truth import PartTruth
from sae_traits.evaluation.statistics import Interval, bootstrap_interval, paired_difference
from sae_traits.features.backbone import choose_device, load_backbone
from sae_traits.features.gradcam import load_gradcam
from sae_traits.runs.context import Context
from sae_traits.schema import BackboneInfo, Collection
from sae_traits.steps import STEPS, run_steps
from sae_traits.traits.annotate import describe_candidates, export_traits
from sae_traits.traits.class_maps import write_class_maps
from sae_traits.traits.consistency import ConsistencyCounter, FacetAgreement
from sae_traits.traits.ledger import Ledger
from sae_traits.traits.plan import Plan, plan_regions
from sae_traits.traits.table import read_traits
from sae_traits.vocabulary import REGION_SOURCES

LAYER = 11
WAYS: dict[str, dict[str, Any]] = {
    **{kind: {"kind": kind} for kind in REGION_SOURCES},
    # Every patch has one half of every component, so at the default quantile (0.7) nearly all fire in every image.
    # At this one as many fire at a patch as of the SAE's: 16 x 0.3 = 96 x 0.05.
    "pca, quantile 0.95": {"kind": "pca", "contrast": {"firing_quantile": 0.95}},
}
"""Name -> the section `regions`."""
GRADCAM_LAST = "gradcam, last layer"
"""Grad-CAM where its authors take it, on a coarser grid than that of the features: 7 x 7 patches, not 14 x 14."""
Key = TypeVar("Key", int, str)
"""Image or species."""


@dataclass(frozen=True)
class Found:
    """What one way of choosing regions came to."""

    regions_each: float
    """Of the images with a region."""
    area: float
    """Mean share of an image that a region covers."""
    on_animal: Interval
    by_image: dict[int, float]
    """Image -> mean share of its regions on the animal."""
    agreement: dict[str, FacetAgreement]


def make_run(shared: Path, folder: Path) -> Context:
    """Extract the features and train the SAE, unless that is done."""
    options = {
        "collection": {"source": str(shared / "data/leeds_butterfly/metadata.csv")},
        "features": {"backbone": {"model": str(shared / "models/mobilenet_v2_inat_insect"), "layer": LAYER}},
    }
    context = Context.create(folder, build(RunConfig, options), STEPS)
    with context.writing():
        run_steps(context, ["collect", "extract", "train"])
    return context


def compare(folder: Path, way: str, per_species: int) -> Found | None:
    """Choose regions in one way, and score them; None where no image has a region."""
    plan, info = plan_gradcam_at_last_layer(folder) if way == GRADCAM_LAST else plan_way(folder, way)
    if not any(True for _ in plan.candidates()):
        return None
    rows, shares, areas = shares_on_animal(plan, info)
    means = {row: float(shares[rows == row].mean()) for row in np.unique(rows).tolist()}
    return Found(
        regions_each=len(rows) / len(means),
        area=float(areas.mean()),
        on_animal=bootstrap_interval(shares, groups=rows),
        by_image=means,
        agreement=agreement(plan.only(draw(plan.collection, per_species)), folder / "comparison" / way),
    )


def plan_way(folder: Path, way: str) -> tuple[Plan, BackboneInfo]:
    """The regions of one of WAYS, and the patches that they are made of."""
    context = Context.open(folder, STEPS, {"regions": WAYS[way]})
    run_steps(context, ["encode"])
    return context.plan, context.features.info


def plan_gradcam_at_last_layer(folder: Path) -> tuple[Plan, BackboneInfo]:
    """Grad-CAM's regions at the backbone's last hidden state, and the patches there."""
    context = Context.open(folder, STEPS)
    collection, features = context.collection, context.config.features
    assert isinstance(features.backbone, VisionModel)
    info = load_backbone(replace(features.backbone, layer=-1), framing=features.framing, device=features.device).info
    file = folder / "comparison" / "last-layer.parquet"
    gradcam = load_gradcam(info, choose_device("auto"))
    write_class_maps(collection, gradcam, file, image_batch_size=16, workers=2)
    return plan_regions(GradCAMRegions(), collection, info, class_maps=file), info


def shares_on_animal(plan: Plan, info: BackboneInfo) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every region: its image, its share on the animal, and its share of the image, `[n_regions]` each."""
    found, truth = [], PartTruth(plan.collection)
    for record, pairs in plan.candidates():
        known = truth.of(pairs[0][0].image, info.grid((record.width, record.height)))
        assert known is not None
        on_animal = known.on_animal
        assert on_animal is not None
        found += [(c.image, on_animal[list(c.patches)].mean(), region.area_fraction) for c, region in pairs]
    rows, shares, areas = zip(*found, strict=True)
    return np.array(rows), np.array(shares), np.array(areas)


def draw(collection: Collection, per_species: int) -> frozenset[int]:
    """Random images, the same number of every species and the same for all ways; their rows."""
    generator = np.random.default_rng(0)
    by_species: dict[str, list[int]] = {}
    for row, record in enumerate(collection.images):
        by_species.setdefault(record.species, []).append(row)
    return frozenset(row for rows in by_species.values() for row in generator.permutation(rows)[:per_species].tolist())


def agreement(sample: Plan, folder: Path) -> dict[str, FacetAgreement]:
    """Describe the sample with `measured`, and see what the images of a species have in common, by attribute."""
    folder.mkdir(parents=True, exist_ok=True)
    traits_file = folder / "traits.parquet"
    with Ledger(folder / "ledger.sqlite") as ledger:
        describe_candidates(sample, MeasuredDescriber(), ledger, workers=2)
        export_traits(sample, ledger, traits_file=traits_file, latents_file=folder / "latents.parquet")
    counter = ConsistencyCounter(sample.collection.images)
    for trait in read_traits(traits_file):
        counter.add(trait, sample.collection.images[trait.candidate.image])
    return {found.facet: found for found in counter.agreement()}


def difference(first: dict[Key, float], second: dict[Key, float]) -> Interval:
    """Mean of `second` minus `first` over what both have, with its paired interval."""
    both = [key for key in first if key in second]
    return paired_difference([first[one] for one in both], [second[one] for one in both])


def location_row(name: str, found: Found | None, sae: Found) -> list[str]:
    """A row of the table of where regions lie."""
    if found is None:
        return [name, "0", *[""] * 4]
    compared = "" if found is sae else str(difference(sae.by_image, found.by_image))
    sizes = [f"{len(found.by_image)}", f"{found.regions_each:.2f}", f"{found.area:.3f}"]
    return [name, *sizes, str(found.on_animal), compared]


def above_chance(found: FacetAgreement) -> dict[str, float]:
    """Agreement of each species less the share for any two traits."""
    return {species: share - found.chance for species, share in found.by_species.items()}


def agreement_row(facet: str, name: str, found: Found, sae: Found) -> list[str]:
    """A row of the table of agreement."""
    own, base = found.agreement[facet], sae.agreement[facet]
    share = bootstrap_interval(list(own.by_species.values()))
    if found is sae:
        return [facet, name, str(share), f"{own.chance:.3f}", "", ""]
    compared = difference(base.by_species, own.by_species), difference(above_chance(base), above_chance(own))
    return [facet, name, str(share), f"{own.chance:.3f}", *map(str, compared)]


def main() -> None:
    """Make the run, choose regions in it in every way and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="keeps the run, and goes on with what is there")
    parser.add_argument("--ways", nargs="+", default=[*WAYS, GRADCAM_LAST], choices=[*WAYS, GRADCAM_LAST])
    parser.add_argument("--per-species", type=int, default=20, help="images that are described")
    arguments = parser.parse_args()
    shared = os.environ.get("SAE_TRAITS_SHARED")
    if not shared:
        sys.exit("SAE_TRAITS_SHARED must name the folder with data/leeds_butterfly and models/mobilenet_v2_inat_insect")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        make_run(Path(shared), folder)
        found = {name: compare(folder, name, arguments.per_species) for name in dict.fromkeys(["sae", *arguments.ways])}
    sae = found["sae"]
    assert sae is not None
    header = [
        "regions",
        "images with a region",
        "regions each",
        "share of the image",
        "on the animal",
        "less the SAE's",
    ]
    print(f"\n{describe_machine()}\n")
    print(markdown_table(header, [location_row(name, one, sae) for name, one in found.items()]))
    header = ["attribute", "regions", "agreement", "any two", "less the SAE's", "above chance, less the SAE's"]
    rows = [
        agreement_row(facet, name, one, sae)
        for facet in sae.agreement
        for name, one in found.items()
        if one is not None and facet in one.agreement
    ]
    print("\n" + markdown_table(header, rows))


if __name__ == "__main__":
    main()
