"""Images a second of extraction beside the bare forward pass of the same DINOv2-base (random weights, 224 px).

Extraction runs without workers, so that the time for reading and preparing JPEGs can be measured alone and taken out:
overhead = (extraction - reading) / bare forward - 1. Both end after block 12 of 12; the bare model gets the same
prepared pixels, four images at a time, which on a CPU is faster than sixteen.
Prints a Markdown table. Under 2 min on two cores: python benchmarks/bench_extraction.py [--images 16] [--rounds 2]
"""

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoModel, Dinov2Config, Dinov2Model

from sae_traits.config.features import VisionModel
from sae_traits.features.backbone import load_backbone
from sae_traits.features.extract import extract
from sae_traits.features.loading import prepared_batches
from sae_traits.schema import Collection, ImageRecord, Taxon

PREPROCESSOR = {
    "do_resize": True,
    "size": {"shortest_edge": 256},
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
}


def make_model(folder: Path) -> Path:
    """A DINOv2-base with random weights."""
    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(image_size=224)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return folder


def make_photographs(folder: Path, n_images: int) -> Collection:
    """JPEG files of 1024 x 768 pixels."""
    folder.mkdir()
    generator, records = np.random.default_rng(0), []
    for number in range(n_images):
        path = folder / f"{number:03d}.jpg"
        noise = Image.fromarray(generator.integers(0, 256, (48, 64, 3), dtype=np.uint8))
        noise.resize((1024, 768), Image.Resampling.BICUBIC).save(path, quality=90)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        taxon = Taxon(species="Vanessa atalanta")
        records.append(
            ImageRecord(
                image_id=path.stem,
                file=path.name,
                taxon=taxon,
                split="train",
                width=1024,
                height=768,
                sha256=sha256,
            )
        )
    return Collection(folder, tuple(records))


def measure(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock, and of all cores of this process together."""
    clock, cores = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - cores


def main() -> None:
    """Measure reading, the bare forward pass and extraction in turn, several rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        collection = make_photographs(folder / "images", arguments.images)
        model_folder = make_model(folder / "model")
        backbone = load_backbone(VisionModel(model=str(model_folder), layer=12), device="cpu")
        model = AutoModel.from_pretrained(model_folder).eval()
        rows = range(arguments.images)

        def read() -> list[torch.Tensor]:
            return list(prepared_batches(collection, rows, backbone.prepare, batch_size=16, workers=0))

        pixels = torch.cat(read())

        @torch.no_grad()
        def forward() -> None:
            for batch in pixels.split(4):
                model(pixel_values=batch)

        def extraction(records: tuple[ImageRecord, ...], number: int) -> None:
            part = Collection(collection.root, records)
            extract(part, backbone, folder / f"features-{number}", workers=0)

        forward()
        extraction(collection.images[:1], -1)  # the first pass of everything is slower
        works: dict[str, Callable[[int], object]] = {
            "reading": lambda _: read(),
            "bare forward": lambda _: forward(),
            "extraction": lambda number: extraction(collection.images, number),
        }
        found: dict[str, list[tuple[float, float]]] = {what: [] for what in works}
        for number in range(arguments.rounds):
            for what, work in works.items():
                found[what].append(measure(lambda work=work, number=number: work(number)))

    print(f"{arguments.images} photographs of 1024 x 768, float32, {torch.get_num_threads()} threads, median\n")
    print("| what | images/s | core seconds an image |\n| --- | --- | --- |")
    for what, times in found.items():
        clock, cores = (statistics.median(values) / arguments.images for values in zip(*times, strict=True))
        print(f"| {what} | {1 / clock:.2f} | {cores:.3f} |")
    for unit, what in enumerate(("by the clock", "in core seconds")):
        reading, bare, extracted = ([times[unit] for times in rounds] for rounds in found.values())
        overheads = [100 * ((e - r) / b - 1) for r, b, e in zip(reading, bare, extracted, strict=True)]
        each = ", ".join(f"{overhead:.1f} %" for overhead in overheads)
        print(
            f"\nOverhead of extraction without reading, {what}: {statistics.median(overheads):.1f} % (rounds: {each})"
        )


if __name__ == "__main__":
    main()
