"""Whether training on traits helps: arms of the same rows, steps and seeds on the drawn world, paired over species.

A small CLIP of random weights first learns general drawings with captions in words: the base. It has never seen the
measured species, nor any of the looks of the unseen ones, nor a sentence of the describer. Each arm trains it
further, by the trainer of `sae-traits finetune`, on the same pictures of 160 other species, told by

- species: "a photo of SPECIES.";
- own traits: "A photo of SPECIES with TRAIT", as Pahuja et al. 2026;
- another species' traits: the same, with the traits of one other species in place of its own, dealt anew by seed;
- names and captions, one projection, two projections: in turns, without and with BioCAP's second projection;
- own traits, with replay: general drawings beside, through a second projection, as BioCLIP 2;

and `none` is the base. Named beforehand, the primary comparison: **own traits minus another species' traits, in
zero-shot classification of unseen species by name and traits**. All others explore. Traits of unseen species are said
of other pictures than those that are classified. With two projections names are compared with the first one, and
traits with the second. Intervals are over species, of the seeds' values together; a species is drawn in both arms at
once.

Killed, it goes on; an arm that is finished is not trained again:

    OMP_NUM_THREADS=1 python benchmarks/drawn_arms.py FOLDER
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from accelerate import Accelerator
from drawn_pairs import N_TRAITS, World, WorldSize, deal, draw_world, general_rows, seen_rows, traits_of, write_shard
from numpy.typing import NDArray
from tables import describe_machine, markdown_table

from demo_clip.captions import in_words
from demo_clip.model import new_model, save_clip, train_tokenizer
from demo_clip.sketches import Sketches
from sae_traits.config.finetune import BaseModelConfig, FinetuneConfig, OptimiserConfig, PairsConfig, ScheduleConfig
from sae_traits.contrastive.folder import MODEL, RECORD
from sae_traits.contrastive.trainer import finetune
from sae_traits.evaluation.measures.classification import score_classes
from sae_traits.evaluation.measures.retrieval import retrieve
from sae_traits.evaluation.prompts import Prompter, embed_prompts, write_prompts
from sae_traits.evaluation.statistics import Interval, bootstrap_interval, paired_difference
from sae_traits.evaluation.text import read_templates
from sae_traits.io import json_text, write_text
from sae_traits.logging import printing_to_stderr, say
from sae_traits.models.clip.model import CLIP, Head, load_clip

WIDTH, VISION_LAYERS, TEXT_LAYERS, CONTEXT_LENGTH = 96, 3, 2, 48
N_SEEN_TRAIN, N_UNSEEN_TOLD = 4, 4
"""Pictures of a seen species that are trained on, and of an unseen one that are told of; the others are asked about."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What is told of the pictures, and through which projections."""

    text_types: tuple[str, ...]
    is_dealt: bool = False
    """Traits are another species'."""
    caption_head: Literal["none", "new"] = "none"
    has_replay: bool = False


ARMS = {
    "species": Arm(text_types=("sci",)),
    "own traits": Arm(text_types=("trait",)),
    "another species' traits": Arm(text_types=("trait",), is_dealt=True),
    "own traits, with replay": Arm(text_types=("trait",), has_replay=True),
    "names and captions, one projection": Arm(text_types=("sci", "caption")),
    "names and captions, two projections": Arm(text_types=("sci", "caption"), caption_head="new"),
}
NONE = "none"
PRIMARY = ("own traits", "another species' traits", "unseen: by name and traits")
MEASURES = {
    "unseen: by name and traits": "top-1",
    "unseen: by name": "top-1",
    "seen: found by name": "AP",
    "seen: found by name and traits": "AP",
    "general: found by words": "1 / rank",
}
"""What is measured -> in what."""
EXPLORED = (
    ("own traits", NONE, ("unseen: by name and traits", "seen: found by name and traits", "general: found by words")),
    ("own traits", "species", ("unseen: by name and traits", "seen: found by name", "seen: found by name and traits")),
    ("species", NONE, ("unseen: by name and traits", "seen: found by name", "general: found by words")),
    ("another species' traits", NONE, ("unseen: by name and traits", "seen: found by name")),
    (
        "names and captions, two projections",
        "names and captions, one projection",
        ("unseen: by name and traits", "seen: found by name", "seen: found by name and traits"),
    ),
    ("own traits, with replay", "own traits", ("general: found by words", "unseen: by name and traits")),
)
"""Arm, arm that is taken from it, and in what."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How large the world is, and how long it is trained."""

    world: WorldSize = field(default_factory=WorldSize)
    base_steps: int = 300
    base_batch_size: int = 192
    steps: int = 100
    batch_size: int = 128
    replay_batch_size: int = 64


@dataclass(frozen=True)
class Measured:
    """A measure of an arm, of every question that was asked."""

    values: tuple[float, ...]
    species: tuple[str, ...]
    """Of each question."""


Result = dict[str, Measured]
"""By measure."""


def main() -> None:
    """Train and measure what is not finished, and print two Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where drawings, models and results are kept")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="a few species and steps, to see that it runs")
    options = parser.parse_args()
    settings = tiny_settings() if options.tiny else Settings()
    options.folder.mkdir(parents=True, exist_ok=True)
    with printing_to_stderr():
        results = run(options.folder, settings, range(options.seeds))
    print(describe_machine(), means_table(results), differences_table(results), sep="\n\n")


def tiny_settings() -> Settings:
    """Seconds instead of minutes; the figures mean nothing."""
    size = WorldSize(n_general=40, n_general_test=10, n_seen=12, n_invented=2, n_unseen_images=6)
    return Settings(world=size, base_steps=4, base_batch_size=16, steps=3, batch_size=8, replay_batch_size=4)


def run(folder: Path, settings: Settings, seeds: Sequence[int]) -> dict[str, list[Result]]:
    """Results of every arm, one per seed; the base has the same at every seed."""
    world = draw_world(folder, settings.world, seed=0)
    base = make_base(folder, world, settings)
    results = {NONE: [measured_once(folder / "results" / "none.json", base, world)] * len(seeds)}
    for name, arm in ARMS.items():
        results[name] = []
        for seed in seeds:
            say(f"arm {name}, seed {seed}")
            path = folder / "results" / f"{_file_name(name)}-{seed}"
            if not path.with_suffix(".json").is_file():
                train_arm(folder, path, world, base, arm, settings, seed)
            results[name].append(measured_once(path.with_suffix(".json"), path / MODEL, world))
    return results


def _file_name(arm: str) -> str:
    return "-".join(arm.replace(",", "").split())


def make_base(folder: Path, world: World, settings: Settings) -> Path:
    """The CLIP that all arms start from: random weights, then general drawings with words."""
    out = folder / "base"
    if (out / RECORD).is_file():
        return out / MODEL
    torch.manual_seed(0)
    general = write_shard(folder / "general.tar", general_rows(world.general, seed=0))
    texts = [text for _, said in general_rows(world.general, seed=1) for text in said.values()]
    texts += [said["caption.txt"] for _, said in seen_rows(world.seen, N_SEEN_TRAIN, range(len(world.seen.species)))]
    tokenizer = train_tokenizer(texts)
    tokenizer.model_max_length = CONTEXT_LENGTH
    layers = {"vision_layers": VISION_LAYERS, "text_layers": TEXT_LAYERS, "context_length": CONTEXT_LENGTH}
    save_clip(new_model(len(tokenizer), width=WIDTH, **layers), tokenizer, folder / "random", torch.float32)
    pairs = PairsConfig(data=str(general), text_types=("caption",), workers=0)
    optimiser = OptimiserConfig(learning_rate=1e-3, weight_decay=0.05, max_gradient_norm=1.0)
    train(pairs, BaseModelConfig(model=str(folder / "random")), optimiser, out, settings.base_steps, seed=0,
          batch_size=settings.base_batch_size)  # fmt: skip
    return out / MODEL


def train_arm(folder: Path, out: Path, world: World, base: Path, arm: Arm, settings: Settings, seed: int) -> None:
    """Train an arm with one seed of order, crops, texts and dealt traits."""
    n_species = len(world.seen.species)
    speaker = deal(n_species, seed) if arm.is_dealt else np.arange(n_species)
    name = f"dealt-{seed}.tar" if arm.is_dealt else "own.tar"
    shard = write_shard(folder / name, seen_rows(world.seen, N_SEEN_TRAIN, speaker.tolist()))
    per = "batch" if len(arm.text_types) > 1 else "sample"
    pairs = PairsConfig(data=str(shard), text_types=arm.text_types, text_per=per, sampling="distinct", workers=0)
    if arm.has_replay:
        pairs = replace(pairs, replay=str(folder / "general.tar"), replay_batch_size=settings.replay_batch_size)
    optimiser = OptimiserConfig(learning_rate=3e-4, weight_decay=0.05, max_gradient_norm=1.0)
    model = BaseModelConfig(model=str(base), caption_head=arm.caption_head)
    train(pairs, model, optimiser, out, settings.steps, seed=seed, batch_size=settings.batch_size)


def train(
    pairs: PairsConfig,
    base: BaseModelConfig,
    optimiser: OptimiserConfig,
    out: Path,
    n_steps: int,
    *,
    seed: int,
    batch_size: int,
) -> None:
    """Train so many steps by the trainer of the package, and say how long it took."""
    from sae_traits.contrastive.samples import read_samples

    started = time.process_time()
    schedule = ScheduleConfig(
        batch_size=batch_size, epochs=n_steps / (len(read_samples(pairs)) // batch_size), evaluations=0, seed=seed
    )
    config = FinetuneConfig(pairs=pairs, base=base, schedule=schedule, optimiser=optimiser)
    trained = finetune(config, out, accelerator=Accelerator(cpu=True), seconds_between_checkpoints=60)
    say("; ".join(trained.lines()[:1]) + f"; {time.process_time() - started:.0f} s of the processor")


def measured_once(path: Path, model: Path, world: World) -> Result:
    """What a model is worth, from its file or measured now."""
    if not path.is_file():
        result = measure(load_clip(model, device="cpu"), world)
        path.parent.mkdir(exist_ok=True)
        write_text(path, json_text({k: {"values": v.values, "species": v.species} for k, v in result.items()}))
    saved = json.loads(path.read_text(encoding="utf-8"))
    return {name: Measured(tuple(one["values"]), tuple(one["species"])) for name, one in saved.items()}


def measure(clip: CLIP, world: World) -> Result:
    """Ask about unseen species, seen ones, and general drawings."""
    traits_head: Head = "caption" if "caption" in clip.info.heads else "taxonomy"
    unseen, unseen_test = world.unseen, _pixels(world.unseen, N_UNSEEN_TOLD)
    seen, seen_test = world.seen, _pixels(world.seen, N_SEEN_TRAIN)
    result = {}
    for what, sketches, test, n_told in (
        ("unseen", unseen, unseen_test, N_UNSEEN_TOLD),
        ("seen", seen, seen_test, N_SEEN_TRAIN),
    ):
        truth = np.repeat(np.arange(len(sketches.species)), len(test) // len(sketches.species))
        species = [one.binomial for one in sketches.species]
        told = traits_of(sketches, n_told)
        ways: dict[str, tuple[Head, NDArray[np.float32]]] = {
            "by name": ("taxonomy", embed_classes(clip, species, None)),
            "by name and traits": (traits_head, embed_classes(clip, species, told)),
        }
        for by, (head, classes) in ways.items():
            images = _embed(clip, test, head)
            if what == "unseen":
                values, of = score_classes(images, classes, truth).top(1), [species[index] for index in truth]
            else:
                numbers = np.arange(len(species))
                values, of = retrieve(classes, images, numbers, truth).average_precision, species
            result[f"{what}: {'found ' if what == 'seen' else ''}{by}"] = Measured(tuple(values.tolist()), tuple(of))
    result["general: found by words"] = _general(clip, world.general_test)
    return result


def _general(clip: CLIP, sketches: Sketches) -> Measured:
    """Whether the picture of a general species is found by its looks in words; equal words are one group."""
    texts = [in_words(species, np.random.default_rng(index)) for index, species in enumerate(sketches.species)]
    images = _embed(clip, _pixels(sketches, 0), "taxonomy")
    found = retrieve(clip.embed_texts(texts).numpy(), images, texts, texts)
    return Measured(tuple(found.reciprocal_rank.tolist()), tuple(one.binomial for one in sketches.species))


def _pixels(sketches: Sketches, first: int) -> NDArray[np.uint8]:
    """Pictures from the `first` of each species on `[n, side, side, 3]`."""
    return sketches.pixels[:, first:].reshape(-1, *sketches.pixels.shape[2:])


def _embed(clip: CLIP, pixels: NDArray[np.uint8], head: Head) -> NDArray[np.float32]:
    from PIL import Image

    return clip.embed_images(torch.stack([clip.prepare(Image.fromarray(one)) for one in pixels]), head).numpy()


def embed_classes(clip: CLIP, species: Sequence[str], told: Sequence[Sequence[str]] | None) -> NDArray[np.float32]:
    """Classes by their names, or by their names with one trait each time, as `sae-traits evaluate` says them."""
    prompter = Prompter(clip, read_templates("one"))
    if told is None:
        return prompter.embed(species, "names")
    variants = write_prompts(prompter, species, told, "prompts", [N_TRAITS])
    return embed_prompts(prompter, variants, clip.info.embed_dim, "traits")[0]


def pooled(results: Sequence[Result], measure: str) -> Measured:
    """A measure of all seeds together."""
    parts = [result[measure] for result in results]
    return Measured(tuple(v for part in parts for v in part.values), tuple(s for part in parts for s in part.species))


def difference(first: Measured, second: Measured) -> Interval:
    """First minus second on the same questions, with an interval over species.

    Raises:
        ValueError: the questions are not the same.
    """
    if first.species != second.species:
        raise ValueError("arms were asked about other species, or in another order")
    return paired_difference(second.values, first.values, groups=first.species)


def means_table(results: Mapping[str, Sequence[Result]]) -> str:
    """Every measure of every arm."""
    rows = []
    for name, of_arm in results.items():
        pools = [pooled(of_arm, measure) for measure in MEASURES]
        rows.append([name, *(str(bootstrap_interval(one.values, groups=one.species)) for one in pools)])
    return markdown_table(["arm", *(f"{measure} ({unit})" for measure, unit in MEASURES.items())], rows)


def differences_table(results: Mapping[str, Sequence[Result]]) -> str:
    """The primary comparison, then the others; by seed as well."""
    first, second, measure = PRIMARY
    asked = [(f"**{first} − {second}** (primary)", first, second, measure)]
    asked += [(f"{first} − {second}", first, second, measure) for first, second, those in EXPLORED for measure in those]
    rows = []
    for label, first, second, measure in asked:
        of_seeds = [
            difference(one[measure], other[measure]) for one, other in zip(results[first], results[second], strict=True)
        ]
        whole = difference(pooled(results[first], measure), pooled(results[second], measure))
        rows.append([label, measure, str(whole), ", ".join(f"{one.mean:.3f}" for one in of_seeds)])
    return markdown_table(["difference", "in", "all seeds", "by seed"], rows)


if __name__ == "__main__":
    main()
