"""Options of `sae-traits finetune`: on which texts a CLIP is trained further, towards what, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sae_traits.config.options import check, check_at_least, check_positive, check_seed, option

PAIR_TEXTS = ("sci", "com", "taxon", "sci_com", "taxon_com", "trait", "caption")
"""Types of text of an image: BioCLIP's five of its name, a trait, a caption."""


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """AdamW, its schedule, and what is trained at all."""

    learning_rate: float = option(
        1e-5, "Peak learning rate of AdamW; recipes for tens of thousands of pairs per step say 1e-4."
    )
    warmup_steps: int | None = option(None, "Steps of linear learning-rate warm-up; by default a tenth of all steps.")
    weight_decay: float = option(0.2, "Of matrices and embeddings; vectors, norms, biases and scales do not decay.")
    beta1: float = option(0.9, "AdamW's decay of the mean gradient.")
    beta2: float = option(0.98, "AdamW's decay of the mean squared gradient.")
    epsilon: float = option(1e-6, "AdamW's epsilon.")
    max_gradient_norm: float | None = option(None, "Clip the gradient of each step to this norm.")
    max_logit_scale: float | None = option(
        100.0,
        "Ceiling of the factor of the cosines after each step, as all recipes have it; `none` for no ceiling. A SigLIP "
        "that begins above it keeps its own.",
    )
    layer_decay: float = option(
        1.0,
        "A layer of a tower learns this many times as fast as the one above it; 1: all alike, as in the recipes.",
    )
    average_decay: float | None = option(
        None, "Keep, evaluate and save a moving average of the weights with this decay, such as 0.999."
    )

    def __post_init__(self) -> None:
        check_positive(self, "learning_rate", "epsilon", "max_gradient_norm")
        check_at_least(0, self, "warmup_steps", "weight_decay")
        check_at_least(1, self, "max_logit_scale")
        for name in ("beta1", "beta2", "average_decay"):
            value = getattr(self, name)
            check(value is None or 0 <= value < 1, f"{name} must lie in [0, 1), not {value}")
        check(0 < self.layer_decay <= 1, f"layer_decay must lie in (0, 1], not {self.layer_decay}")

    def warmup_steps_of(self, n_steps: int) -> int:
        """Warm-up steps of a training of `n_steps`."""
        return n_steps // 10 if self.warmup_steps is None else self.warmup_steps


@dataclass(frozen=True, kw_only=True)
class PairsConfig:
    """Which images, and which texts about them."""

    data: str = option(
        help="Dataset that sae-traits released (folder or Hub id), table or folder of images, or WebDataset shards (a "
        ".tar file, or a folder of them).",
        metavar="DATA",
        is_path=True,
    )
    data_revision: str | None = option(None, "Branch, tag or commit of a dataset on the Hub.", metavar="REVISION")
    stream: bool = option(
        False, "Read the pictures of a released dataset while training, instead of getting all of them first."
    )
    text_types: tuple[str, ...] = option(
        ("sci",),
        "What is said of an image: sci, com, taxon, sci_com, taxon_com (its name, as in BioCLIP), trait (`A photo of "
        "SPECIES with TRAIT`), caption.",
        metavar="TYPE,…",
    )
    text_weights: tuple[float, ...] = option(
        (), "How often each of these types is taken, in their order; by default equally often.", metavar="X,…"
    )
    text_per: Literal["sample", "batch"] = option(
        "sample",
        "sample: every image gets a type of its own; batch: all images of a step get the same, chosen by "
        "`random.seed(step)`, as the recipes do.",
    )
    template: str = option(
        "a photo of {}.", "What stands around a name; a trait or a caption stands as it is.", metavar="TEXT"
    )
    common_names: str | None = option(
        None, "CSV file with species and common_name, for com, sci_com and taxon_com.", metavar="FILE", is_path=True
    )
    without_text: Literal["keep", "drop", "refuse"] = option(
        "keep",
        "Images without text of a wanted type: keep: they are trained on the wanted types that they have, and left out "
        "where they have none; drop: leave out all of them; refuse: train on nothing.",
    )
    sampling: Literal["all", "balanced", "distinct"] = option(
        "all",
        "all: every image once per epoch; balanced: species are drawn equally often; distinct: as that, and no species "
        "twice in a step.",
    )
    min_crop: float = option(
        0.9, "A random crop keeps at least this share of the area of an image; 1: as the model looks at images."
    )
    replay: str | None = option(
        None,
        "General images with captions, to keep what the model knows: data of the same kinds, trained through a second "
        "projection (BioCLIP 2).",
        metavar="DATA",
        is_path=True,
    )
    replay_batch_size: int = option(0, "Pairs of --replay per step, besides the others, over all processes.")
    workers: int = option(2, "Processes that open images, for each process that trains.", is_local=True)

    def __post_init__(self) -> None:
        check(bool(self.text_types), "text_types must name at least one type")
        for name in self.text_types:
            check(name in PAIR_TEXTS, f"text_types has {name!r}; there are {', '.join(PAIR_TEXTS)}")
        check(
            not self.text_weights or len(self.text_weights) == len(self.text_types),
            f"text_weights has {len(self.text_weights)} numbers for {len(self.text_types)} text_types",
        )
        check(
            all(weight > 0 for weight in self.text_weights), f"text_weights must be positive, not {self.text_weights}"
        )
        check("{}" in self.template, f"template needs {{}} where the name stands, not {self.template!r}")
        check(0 < self.min_crop <= 1, f"min_crop must lie in (0, 1], not {self.min_crop}")
        check_at_least(0, self, "replay_batch_size", "workers")
        check(
            not self.stream or self.sampling == "all",
            "--stream reads pictures that lie together together, and --sampling draws species from everywhere; leave "
            "one of them out",
        )
        check((self.replay is None) == (self.replay_batch_size == 0), "--replay and --replay-batch-size go together")


@dataclass(frozen=True, kw_only=True)
class BaseModelConfig:
    """Which CLIP is trained further, and which of its parts."""

    model: str = option(
        help="CLIP to train further: Hub id or local folder (BioCLIP, open_clip, CLIP, SigLIP).",
        metavar="MODEL",
        is_path=True,
    )
    model_revision: str | None = option(None, "Branch, tag or commit of the model on the Hub.", metavar="REVISION")
    caption_head: Literal["none", "own", "new"] = option(
        "none",
        "A second projection of images, for captions (BioCAP): own: the model's; new: a copy of its first one, where "
        "it has none.",
    )
    freeze: tuple[str, ...] = option(
        (), "Towers that stay as they are, with their projections: vision or text.", metavar="TOWER"
    )
    lora_rank: int | None = option(
        None,
        "Train additions of low rank to the towers' attention alone (LoRA), merged at the end; needs peft.",
    )
    gradient_checkpointing: bool = option(
        False, "Compute layers twice instead of keeping them: less memory, a third slower."
    )

    def __post_init__(self) -> None:
        for name in self.freeze:
            check(name in ("vision", "text"), f"freeze has {name!r}; there are vision and text")
        check(len({*self.freeze}) < 2, "with both towers frozen nothing is left to train")
        check_at_least(1, self, "lora_rank")


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How long, how much at once, and towards what."""

    objective: Literal["clip", "multi_positive", "siglip"] = option(
        "clip",
        "clip: every other pair of a step is wrong; multi_positive: pairs of the same species are right; siglip: every "
        "image with every text is a question of its own.",
    )
    batch_size: int = option(64, "Pairs per step, over all processes.")
    chunk_size: int | None = option(
        None, "Pairs that a process computes at once (gradient caching); results stay, memory falls, a third slower."
    )
    epochs: float = option(10.0, "How often every image is seen.")
    evaluations: int = option(
        5, "How often validation images are classified by name while training, at equal distances; 0: never."
    )
    seed: int = option(0, "Seed of the order of images, of texts and of crops.")
    tracker: str | None = option(
        None,
        "Also log to one of Accelerate's trackers that is installed: tensorboard, wandb, trackio, mlflow and others.",
        metavar="NAME",
        is_local=True,
    )

    def __post_init__(self) -> None:
        check_at_least(1, self, "chunk_size")
        check_at_least(2, self, "batch_size")
        check_at_least(0, self, "evaluations")
        check_positive(self, "epochs")
        check_seed(self.seed)


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """A CLIP that is trained further on names, traits or captions."""

    pairs: PairsConfig
    base: BaseModelConfig
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)

    def __post_init__(self) -> None:
        pairs, has_head = self.pairs, self.base.caption_head != "none"
        check(
            not has_head or pairs.text_per == "batch" or {*pairs.text_types} <= {"caption"},
            "with two projections a step trains one of them, so choose --text-per batch",
        )
        check(
            not has_head or "caption" in pairs.text_types,
            "--caption-head trains a projection of captions, and --text-types has no caption",
        )
