"""The options of `sae-traits benchmark`, which needs no run: images with any labels, and models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from sae_traits.config.options import check, check_at_least, check_seed, option

BenchmarkTaskName = Literal[
    "zero-shot",
    "few-shot",
    "retrieval",
    "structure",
    "clustering",
    "newt",
    "fishnet",
    "awa2",
    "texts",
    "localisation",
    "leaks",
]
BENCHMARK_TASKS: dict[BenchmarkTaskName, str] = {
    "zero-shot": "is every image next to the name of its class, and do --traits help?",
    "few-shot": "nearest class mean of a few labelled images (SimpleShot)",
    "retrieval": "captions by images and images by --captions, also without the species' name",
    "structure": "embeddings against classes, variants and traits, beside permuted labels",
    "clustering": "discovery of classes, some of them labelled",
    "newt": "binary questions, one support vector machine each (table with the column task)",
    "fishnet": "are all --attributes of an image right?",
    "awa2": "macro F1 of --attributes, classes unseen",
    "texts": "do --traits tell a species from its congeners, and say what --references say?",
    "localisation": "do --regions lie on the organism and its parts, against random places?",
    "leaks": "images that are near-identical to those --against which they are compared",
}
"""What each task asks, for --help; the task itself is a file of `evaluation.benchmarks.tasks`."""
_EMBEDDING = tuple(name for name in get_args(BenchmarkTaskName) if name not in ("localisation", "leaks"))
ONLY_FOR: Mapping[str, tuple[BenchmarkTaskName, ...]] = {
    "clip": _EMBEDDING,
    "traits": ("zero-shot", "structure", "texts"),
    "taxa": ("zero-shot", "retrieval", "structure", "texts"),
    "captions": ("retrieval",),
    "against": ("leaks",),
    "attributes": ("fishnet", "awa2"),
    **dict.fromkeys(("references", "other_traits"), ("texts",)),
    **dict.fromkeys(("regions", "keypoints", "part_masks", "boxes"), ("localisation",)),
    **dict.fromkeys(("text_type", "trait_text"), ("zero-shot",)),
    "templates": ("zero-shot", "texts"),
    "protocol": ("zero-shot", "few-shot", "retrieval", "clustering", "fishnet", "awa2"),
    **dict.fromkeys(("shots", "folds"), ("few-shot",)),
    "svm": ("newt",),
}
"""Option -> the tasks that use it; all tasks use the others."""
TextType = Literal["asis", "sci", "taxon", "com", "sci_com", "taxon_com"]
TemplateSet = Literal["none", "one", "openai", "bioclip"]
Protocol = Literal["corrected", "published"]
"""Which rules a measure follows where the code released with the papers has a fault: the usual definition, or what that
code returns, right or wrong, for comparison with published scores alone."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Which images, which models, and how they are asked."""

    images: str | None = option(
        None,
        "Folder with a folder per class, table with the columns file and label, dataset folder, or "
        "hf://datasets/ORG/NAME[@REVISION].",
        metavar="SOURCE",
    )
    clip: tuple[str, ...] = option(
        (),
        "CLIP model: Hub id or local folder (BioCLIP, open_clip, CLIP, SigLIP). Repeat it to compare several.",
        metavar="MODEL",
    )
    embeddings: str | None = option(
        None,
        "Own image embeddings, instead of those of --clip: .safetensors or .npz with `embeddings` and ids, which are "
        "the files of the images.",
        metavar="FILE",
    )
    traits: str | None = option(
        None,
        "Traits of the species, to ask whether they help: dataset or run of sae-traits, Hub id, or table with the "
        "columns species and text.",
        metavar="DATASET",
    )
    taxa: str | None = option(
        None,
        "Table with the column label, and ranks or species, and common_name: what the labels stand for.",
        metavar="TABLE",
    )
    captions: str | None = option(
        None, "For retrieval: table with the columns file and text, one caption per row.", metavar="TABLE"
    )
    against: str | None = option(
        None, "For leaks: the other images, such as those that a model was trained on.", metavar="SOURCE"
    )
    attributes: str | None = option(
        None,
        "For fishnet and awa2: table with the column file or label, and a column of 0 and 1 per attribute.",
        metavar="TABLE",
    )
    references: str | None = option(
        None,
        "For texts: table with the columns label (or species) and text, descriptions to hold them to.",
        metavar="TABLE",
    )
    other_traits: str | None = option(
        None,
        "For texts: what another describer said of the same regions as --traits, by `trait_id`.",
        metavar="DATASET",
    )
    regions: str | None = option(
        None,
        "For localisation: table with image, x, y, width, height of the regions that are scored, or COCO annotations.",
        metavar="TABLE",
    )
    keypoints: str | None = option(
        None, "For localisation: table with image, part, x, y (and visible), or COCO keypoints.", metavar="FILE"
    )
    part_masks: str | None = option(
        None, "For localisation: masks as DIR/IMAGE/PART.png or DIR/PART/IMAGE.png.", metavar="DIR"
    )
    boxes: str | None = option(
        None,
        "For localisation: table with image, x, y, width, height of the organisms, or COCO annotations.",
        metavar="FILE",
    )
    benchmark: str | None = option(
        None, "A published benchmark, whose protocol and scores are compared with; --list shows them.", metavar="NAME"
    )
    split: tuple[str, ...] = option((), "Only these splits of the images, such as test.", metavar="NAME,…")
    label_column: str | None = option(
        None, "The column with the labels, where its name does not say so.", metavar="COLUMN"
    )
    image_column: str | None = option(
        None, "For a dataset: the column with the image, where there are several.", metavar="COLUMN"
    )
    source_config: str | None = option(None, "For a dataset on the Hub: its configuration.", metavar="NAME")
    text_type: TextType | None = option(
        None,
        "How a class is named: asis: as labelled; sci: the binomial; taxon: all ranks; com: the common name; sci_com, "
        "taxon_com: both. Default: asis, or that of --benchmark.",
    )
    templates: TemplateSet | None = option(
        None,
        "none: the bare text; one: `a photo of …`; openai: CLIP's 80 prompts; bioclip: both, 81. Default: one, or "
        "those of --benchmark.",
    )
    trait_text: Literal["prompts", "joined"] = option(
        "prompts", "prompts: one text per trait, averaged; joined: all traits in one text."
    )
    protocol: Protocol = option(
        "corrected",
        "corrected: what the metric means; published: with the faults of the released code, to compare with it.",
    )
    shots: tuple[int, ...] = option(
        (), "For few-shot: labelled images per class. Default: 1,5, or those of --benchmark.", metavar="N,…"
    )
    folds: int = option(5, "For few-shot: how often they are drawn.")
    svm: Literal["linear", "published"] = option(
        "linear",
        "For newt: linear: one support vector machine per question, not comparable with published scores; published: "
        "the search of the released code, 500 fits per question.",
    )
    framing: Literal["auto", "squash", "crop", "letterbox"] = option(
        "auto", "How images become square: auto: as the model's own configuration says."
    )
    revision: str | None = option(None, "Branch, tag or commit of the model on the Hub.", metavar="REVISION")
    image_batch_size: int = option(32, "Images per forward pass.")
    workers: int = option(2, "Processes that read images.")
    device: str = option("auto", "auto, cpu, cuda, cuda:1, mps …", metavar="DEVICE")
    seed: int = option(0, "Seed of ties, draws and resampling.")
    out: str | None = option(
        None, "Where to write; embeddings are kept there, for all tasks (benchmarks/NAME_OF_IMAGES).", metavar="FOLDER"
    )

    def __post_init__(self) -> None:
        check_at_least(1, self, "folds", "image_batch_size")
        check_at_least(0, self, "workers")
        check_seed(self.seed)
        check(all(shots >= 1 for shots in self.shots), "shots must be 1 or more, such as 1,5")
        check(
            self.embeddings is None or len(self.clip) <= 1,
            "--embeddings are those of one model; give its --clip for the texts, or none",
        )
        check(self.revision is None or len(self.clip) <= 1, "--revision is of one --clip; leave one of the two out")
