"""Every option of a run: frozen dataclasses, checked once, the same for YAML, the command line and Python.

A field's help text stands in its metadata, where `--help` finds it. Values from YAML and from the command line are
converted and checked by pydantic against the fields' types.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import yaml

from sae_traits.errors import ConfigError

TEXTURE = "texture"
"""Name of the backbone without weights."""


def option(default: Any, help: str) -> Any:
    """A dataclass field with a default and a help text."""
    return field(default=default, metadata={"help": help})


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, kw_only=True)
class CollectionConfig:
    """Which images, and how they are split."""

    source: str | None = option(
        None,
        "Image folder (Genus_species/…), table (CSV or Parquet), folder of BIOSCAN-5M, Darwin Core archive, or "
        "hf://datasets/ORG/NAME[@REVISION].",
    )
    family: str | None = option(None, "Only images of this family.")
    split: tuple[str, ...] = option((), "Only these splits of the source, by its own names, such as train,val.")
    per_species: int | None = option(None, "At most this many images a species, drawn with --split-seed.")
    validation_share: float = option(0.1, "Share of each species' images for validation, where no split is given.")
    test_share: float = option(0.2, "Share of each species' images for testing, where no split is given.")
    split_seed: int = option(0, "Seed of the split, and of the images that --per-species draws.")
    near_identical: Literal["keep", "train"] = option(
        "keep",
        "Near-identical images that the source's own splits part: keep the splits and report them, or move all of them "
        "to train.",
    )
    image_package: Literal["original_full", "cropped", "original_256", "cropped_256"] = option(
        "cropped_256", "BIOSCAN-5M: which of its packages of images."
    )
    source_config: str | None = option(None, "Hub: the configuration of the dataset, where it has several.")
    species_column: str | None = option(None, "Hub: the column with the species, where its name does not say so.")
    image_column: str | None = option(None, "Hub: the column with the image, where there are several.")
    image_cache: str | None = option(
        None, "Hub, Darwin Core: folder that keeps fetched images (a folder of the Hugging Face cache)."
    )
    connections: int = option(8, "Darwin Core: images that are fetched at the same time.")
    labels: bool = option(
        True,
        "Whether the source says the species; without labels (`sae-traits describe`) photographs need --latents.",
    )

    def __post_init__(self) -> None:
        shares = self.validation_share, self.test_share
        _check(min(shares) >= 0 and sum(shares) < 1, "validation_share and test_share must be 0 or more, together < 1")
        _check(self.per_species is None or self.per_species >= 1, f"per_species must be 1 or more: {self.per_species}")
        for name in ("per_species", "species_column", "near_identical"):
            given = getattr(self, name) not in (None, "keep")
            _check(self.labels or not given, f"{name} needs labels, and these photographs have none; leave it out")
        _check(1 <= self.connections <= 64, f"connections must lie between 1 and 64, not {self.connections}")


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """Which patch features."""

    backbone: str = option(
        "facebook/dinov2-base", "Vision model: Hub id, local folder, or `texture` (no weights to fetch)."
    )
    revision: str | None = option(None, "Branch, tag or commit of the backbone on the Hub.")
    layer: int = option(11, "Index into the model's hidden states, negative from the end; the paper used 11 of 12.")
    framing: Literal["auto", "squash", "crop", "letterbox"] = option(
        "auto", "How images become square: as the backbone's preprocessor says, or one of these."
    )
    precision: Literal["float32", "bfloat16", "float16"] = option(
        "float32",
        "In which the backbone computes; bfloat16 is much faster on a GPU. How its features are kept is --dtype.",
    )
    dtype: Literal["float32", "bfloat16", "float16"] = option(
        "float32",
        "In which features are kept, on disk or in the buffer (stream), once computed; how they are is --precision.",
    )
    stream: bool = option(
        False, "Keep no features on disk: compute them from the images while training, and again while encoding."
    )
    image_batch_size: int = option(16, "Images a forward pass.")
    workers: int = option(2, "Processes that read and resize images.")
    device: str = option("auto", "Where the backbone runs: auto, cpu, cuda, cuda:1 or mps.")

    def __post_init__(self) -> None:
        _check(self.image_batch_size >= 1, f"image_batch_size must be at least 1, not {self.image_batch_size}")
        _check(self.workers >= 0, f"workers must be 0 or more, not {self.workers}")
        _check(
            self.backbone != TEXTURE or self.precision == "float32",
            f"the backbone {TEXTURE} computes in float32; leave out --precision, or choose a vision model",
        )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Which sparse autoencoder, and how it is trained."""

    sae: str | None = option(None, "Use this SAE (folder, file or Hub id) instead of training one.")
    sae_revision: str | None = option(None, "Branch, tag or commit of that SAE on the Hub.")
    sweep: str | None = option(
        None, "Train several SAEs in one pass over the data: options and values, such as `k=8,16,32 seed=0,1`."
    )
    architecture: Literal["topk", "batch_topk", "jump_relu", "relu"] = option(
        "topk",
        "topk: k latents a patch; batch_topk: k on average over a batch; jump_relu: a learned threshold a latent; "
        "relu: the paper's ReLU + L1.",
    )
    n_latents: int = option(1536, "Size of the dictionary; the paper used 24576.")
    k: int = option(16, "Active latents a patch: exactly (topk), or on average (batch_topk, jump_relu).")
    prefixes: tuple[int, ...] = option(
        (),
        "Matryoshka: also train the first so many latents to reconstruct alone, for example 96,384; any architecture.",
    )
    l1_coefficient: float = option(4e-4, "Weight of the L1 penalty on unscaled features (relu).")
    l0_coefficient: float = option(1.0, "Weight of the penalty (L0 / k - 1)² on scaled features (jump_relu).")
    sparsity_warmup_steps: int = option(
        100, "Steps over which the weight of a penalty rises from zero (relu, jump_relu)."
    )
    n_patches: int = option(2_000_000, "Training patches in all, counted with repetition; the paper used 100000000.")
    batch_size: int = option(2048, "Patches a step, over all processes.")
    learning_rate: float | None = option(
        None,
        "Peak learning rate of Adam; by default 0.001, and for relu 0.1 over the square root of the features' width.",
    )
    warmup_steps: int = option(100, "Steps of linear learning-rate warm-up; the paper used 500.")
    gradient_norm: float | None = option(None, "Clip the gradient of each step to this norm.")
    tracker: str | None = option(
        None,
        "Also log to one of Accelerate's trackers that is installed: tensorboard, wandb, trackio, mlflow and others.",
    )
    seed: int = option(0, "Seed of the initial weights and of the order of patches.")

    def __post_init__(self) -> None:
        for name in ("n_latents", "k", "n_patches", "batch_size"):
            _check(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")
        _check(self.k <= self.n_latents, f"k ({self.k}) cannot exceed n_latents ({self.n_latents})")
        _check(self.learning_rate is None or self.learning_rate > 0, "learning_rate must be positive")
        for name in ("l1_coefficient", "l0_coefficient", "warmup_steps", "sparsity_warmup_steps"):
            _check(getattr(self, name) >= 0, f"{name} must be 0 or more, not {getattr(self, name)}")
        _check(self.sae is not None or self.sae_revision is None, "--sae-revision needs --sae, the SAE")
        rising = (0, *self.prefixes, self.n_latents)
        _check(
            all(first < end for first, end in pairwise(rising)),
            f"prefixes must rise and stay below n_latents ({self.n_latents}), not {self.prefixes}",
        )
        _check(self.gradient_norm is None or self.gradient_norm > 0, "gradient_norm must be positive")


@dataclass(frozen=True, kw_only=True)
class ContrastConfig:
    """What picks the regions, and which latents describe a species."""

    regions: Literal["sae", "pca", "nmf", "k_means", "random", "gradcam", "whole"] = option(
        "sae",
        "sae: where the latents of the SAE fire; to compare with: pca, nmf, k_means, random: dictionaries of the same "
        "features; gradcam: where the backbone's own classifier looks; whole: the whole image.",
    )
    contrast: Literal["image", "paper"] = option(
        "image", "image: each image counts once, with back-off; paper: Algorithm 1 of the paper."
    )
    firing_quantile: float = option(
        0.7, "image: a latent fires above this quantile of its own positive activations on the training split."
    )
    firing_threshold: float = option(0.9, "paper: a latent fires above this value.")
    minimum_frequency: float = option(3e-3, "paper: t_freq of Algorithm 1.")
    traits_per_image: int = option(5, "At most this many traits an image, the strongest first.")
    overlap: float = option(
        0.5, "A region of which more than this share lies in stronger regions of the image is left out."
    )
    least_evidence: float = option(
        0.6,
        "image: a patch of a region has at least this share of the image's highest evidence (the sum over its "
        "latents of effect x activation / threshold); 0 keeps all patches that fired.",
    )
    smallest_region: int = option(1, "Connected groups of fewer patches are specks, and no region.")
    box_margin: float = option(
        0.0, "Widen a region's box on every side by this share of its longer side, within the image; outlines stay."
    )
    everywhere: float = option(
        0.95, "image: latents that fire in more than this share of the average species' images are dropped."
    )
    label_free: bool = option(
        False,
        "Describe validation and test images as if their species were unknown, with the latents of all species.",
    )
    latents: str | None = option(
        None,
        "Describe all images with the latents of this dataset (folder or Hub id), as if their species were unknown.",
    )
    latents_revision: str | None = option(None, "Branch, tag or commit of that dataset on the Hub.")

    def __post_init__(self) -> None:
        _check(
            self.latents is not None or self.latents_revision is None, "--latents-revision needs --latents, the dataset"
        )
        _check(
            self.latents is None or self.regions == "sae",
            f"--latents names latents of an SAE, and --regions {self.regions} has others; leave out one of them",
        )
        _check(
            not (self.label_free and self.latents is not None),
            "--latents uses no label of any image, so --label-free adds nothing; leave it out",
        )
        _check(0 <= self.firing_quantile < 1, f"firing_quantile must lie in [0, 1), not {self.firing_quantile}")
        _check(self.firing_threshold >= 0, f"firing_threshold must be 0 or more, not {self.firing_threshold}")
        _check(self.traits_per_image >= 1, f"traits_per_image must be 1 or more, not {self.traits_per_image}")
        _check(0 <= self.least_evidence <= 1, f"least_evidence must lie in [0, 1], not {self.least_evidence}")
        _check(self.smallest_region >= 1, f"smallest_region must be 1 or more patches, not {self.smallest_region}")
        _check(0 <= self.box_margin <= 10, f"box_margin must lie in [0, 10], not {self.box_margin}")
        _check(0 < self.everywhere <= 1, f"everywhere must lie in (0, 1], not {self.everywhere}")
        _check(0 < self.overlap <= 1, f"overlap must lie in (0, 1], not {self.overlap}")


@dataclass(frozen=True, kw_only=True)
class DescribeConfig:
    """Who describes the regions."""

    describer: Literal["measured", "server", "vllm", "transformers"] = option(
        "measured",
        "measured: colour, shape and texture read off the pixels, needs no model; server: an OpenAI-compatible server "
        "such as vLLM's; vllm: vLLM in this process; transformers: a LLaVA-type model in this process.",
    )
    describe_workers: int = option(2, "Processes that measure regions and prepare their pictures.")
    use_masks: bool = option(
        False,
        "Measure on the animal's pixels alone, and where on the animal a region lies, by the collection's masks; "
        "without it masks are for scoring only.",
    )
    describer_model: str | None = option(
        None, "Model that describes: the name that the server gives it, a local folder or a Hub id."
    )
    describer_revision: str | None = option(None, "Branch, tag or commit of that model; for a server, what it runs.")
    base_url: str = option(
        "http://localhost:8000/v1", "Address of the server; its key is read from the environment (OPENAI_API_KEY)."
    )
    in_flight: int = option(64, "Calls that are waited for at the same time, or asked together in this process.")
    show: Literal["overlay", "crop", "both"] = option(
        "overlay", "What the model sees: the image with the region outlined, the region with its surroundings, or both."
    )
    prompt: Literal["region", "whole"] = option(
        "region", "region: describe the region; whole: the baseline, an image without any outline."
    )
    images_per_description: int = option(
        1, "Describe what so many images of a species and split have in common at a latent, in one call."
    )
    name_species: bool = option(False, "Tell the model the species; what it then says may not be what it sees.")
    temperature: float = option(0.01, "Sampling temperature of the model; the paper used 0.01.")
    max_tokens: int = option(256, "Longest answer, in tokens; a longer one is cut off and invalid.")
    call_timeout: float = option(120.0, "Seconds after which a call to a server counts as failed.")
    stop_after_errors: int = option(20, "Stop after so many errors of a server without an answer between them.")
    describer_device: str = option("auto", "Where a model of transformers runs: auto, cpu, cuda, cuda:1 or mps.")
    seconds_per_call: float = option(2.0, "For the estimate: how long a call takes.")
    prompt_price: float = option(0.0, "For the estimate: price of a million prompt tokens.")
    answer_price: float = option(0.0, "For the estimate: price of a million answer tokens.")

    def __post_init__(self) -> None:
        for name in ("describe_workers", "in_flight", "images_per_description", "max_tokens", "stop_after_errors"):
            _check(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("temperature", "prompt_price", "answer_price"):
            _check(getattr(self, name) >= 0, f"{name} must be 0 or more, not {getattr(self, name)}")
        for name in ("call_timeout", "seconds_per_call"):
            _check(getattr(self, name) > 0, f"{name} must be positive, not {getattr(self, name)}")
        _check(
            (self.describer == "measured") == (self.describer_model is None),
            f"the describer {self.describer!r} needs --describer-model"
            if self.describer_model is None
            else "--describer-model needs --describer server, vllm or transformers",
        )
        _check(
            self.images_per_description == 1 or (self.describer != "measured" and self.prompt == "region"),
            "--images-per-description needs a describer with a model, and --prompt region",
        )


@dataclass(frozen=True, kw_only=True)
class ReleaseConfig:
    """What the published dataset looks like."""

    title: str = option("Image traits", "Title of the dataset card.")
    longest_side: int = option(
        512, "Images of the config `default` are at most this many pixels on their longest side."
    )
    images: Literal["embed", "reference"] = option(
        "embed",
        "embed: the rows hold the images; reference: they say where the images came from and what they hash to, for "
        "images that may not be redistributed (`sae-traits rehydrate` puts them in).",
    )
    shard_megabytes: int = option(64, "About how large a Parquet file of the dataset is.")

    def __post_init__(self) -> None:
        _check(self.longest_side >= 32, f"longest_side must be at least 32, not {self.longest_side}")
        _check(self.shard_megabytes >= 1, f"shard_megabytes must be at least 1, not {self.shard_megabytes}")


@dataclass(frozen=True, kw_only=True)
class ZeroShotConfig:
    """Whether the traits help a vision-language model to recognise species, and how it is asked."""

    clip: str | None = option(
        None, "CLIP model to evaluate: Hub id or local folder (BioCLIP, open_clip, CLIP, SigLIP)."
    )
    clip_revision: str | None = option(None, "Branch, tag or commit of the CLIP model on the Hub.")
    clip_framing: Literal["auto", "squash", "crop", "letterbox"] = option(
        "auto", "How images become square for the CLIP model: as its preprocessor says, or one of these."
    )
    text_type: Literal["asis", "sci", "taxon", "com", "sci_com", "taxon_com"] = option(
        "sci", "Name of a class: as is, scientific, all ranks, common, or both (BioCLIP's text types)."
    )
    common_names: str | None = option(None, "CSV file with species and common_name, for com, sci_com and taxon_com.")
    templates: Literal["none", "one", "openai"] = option(
        "one", "none: the bare text; one: `a photo of …`; openai: CLIP's 80 prompts, 80 times the work."
    )
    trait_text: Literal["prompts", "joined"] = option(
        "prompts", "prompts: one text a trait, averaged; joined: all traits in one text."
    )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A whole run, as in RUN/config.yaml: one section a step."""

    collection: CollectionConfig = field(default_factory=CollectionConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    describe: DescribeConfig = field(default_factory=DescribeConfig)
    release: ReleaseConfig = field(default_factory=ReleaseConfig)
    zero_shot: ZeroShotConfig = field(default_factory=ZeroShotConfig)

    def __post_init__(self) -> None:
        unlabelled = self.contrast.label_free or self.contrast.latents is not None
        _check(
            self.collection.labels or self.contrast.latents is not None,
            "photographs without labels need latents of a dataset: sae-traits describe PHOTOGRAPHS --latents DATASET",
        )
        _check(
            not (unlabelled and self.describe.name_species),
            "--name-species would tell the describer the labels that --label-free and --latents keep from it; "
            "leave out one of them",
        )

    def to_yaml(self) -> str:
        """The configuration as YAML; `layers.read_config` reads it back."""
        return yaml.safe_dump(dataclasses.asdict(self), sort_keys=False, allow_unicode=True)


READ_WITH_LATENTS = (
    *("traits_per_image", "overlap", "least_evidence", "smallest_region", "box_margin"),
    *("latents", "latents_revision"),
)
"""The options of ContrastConfig that are read where the latents are those of a dataset."""
SECTIONS: dict[str, type] = {f.name: globals()[str(f.type)] for f in dataclasses.fields(RunConfig)}
"""Section name -> dataclass; every field name occurs in one section only, so that options need no prefix."""


def section_of(option_name: str) -> str:
    """The section that an option belongs to."""
    return next(name for name, section in SECTIONS.items() if option_name in section.__dataclass_fields__)
