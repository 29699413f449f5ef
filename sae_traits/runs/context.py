"""What the steps of a run work with: its folder and configuration, and what earlier steps made, each opened once."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from sae_traits.config import AdoptedSAE, ReleasedLatents, RunConfig, SAERegions
from sae_traits.config.regions import Regions
from sae_traits.config.tree import build, with_absolute_paths
from sae_traits.describers import Describer, make_describer
from sae_traits.errors import ConfigError, SaeTraitsError, StoreError
from sae_traits.evaluation.results import Results, read_results
from sae_traits.evaluation.tasks.base import EvaluationTask
from sae_traits.features.backbone import Backbone, choose_device, load_backbone
from sae_traits.features.source import FeatureSource, open_features
from sae_traits.images.decode import open_image
from sae_traits.images.pictures import PictureCache
from sae_traits.io import read_sealed, write_whole
from sae_traits.logging import warn
from sae_traits.models.clip.model import CLIP, load_clip
from sae_traits.release.facts import Calls, calls_of
from sae_traits.runs.configuration import options_of_steps, read_configuration, write_configuration
from sae_traits.runs.folder import RunFolder
from sae_traits.runs.lock import is_read_only, writing
from sae_traits.runs.record import Steps
from sae_traits.runs.reviews import Reviews
from sae_traits.runs.sharding import Part
from sae_traits.runs.source import has_moved
from sae_traits.runs.threads import one_thread
from sae_traits.sae.extractor import backbone_of_adopted
from sae_traits.sae.model import SAE
from sae_traits.schema import Collection, ImageRecord
from sae_traits.traits.asking import Pictures
from sae_traits.traits.chosen import LatentsBySpecies
from sae_traits.traits.codes import Codes
from sae_traits.traits.faithfulness import Faithfulness
from sae_traits.traits.firing_shares import FiringShares, firing_shares
from sae_traits.traits.ledger import Ledger
from sae_traits.traits.plan import Plan, plan_regions
from sae_traits.traits.released_latents import DatasetLatents, read_released_latents

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Context:
    """One run, for as long as a command works on it."""

    folder: RunFolder
    config: RunConfig
    order: Mapping[str, tuple[str, ...]]
    """The steps, each with those that it reads from."""
    extra_tasks: tuple[EvaluationTask, ...] = ()
    """Of an evaluation, besides those of every run."""
    new_folders: tuple[Path, ...] = ()
    """What `create` made, the innermost first."""
    others: tuple[Path, ...] = ()
    """Folders of runs that equal steps are taken from."""
    part: Part = None
    """What this process does of a step that is done in shards."""
    keeps_first: bool = False
    """Whether the configuration is kept when the first step begins, so that a kill leaves the one that it had."""
    has_moved: bool = False
    """Whether the images are at another place than the one where they were read."""
    configured: RunConfig | None = None
    """What config.yaml says, where a command lays further options over it."""

    @classmethod
    def create(
        cls,
        folder: Path,
        config: RunConfig,
        order: Mapping[str, tuple[str, ...]],
        *,
        extra_tasks: tuple[EvaluationTask, ...] = (),
        others: tuple[Path, ...] = (),
    ) -> Context:
        """A run in a new folder, or one that was begun there from the same source.

        Its configuration is kept when the first step begins that has something to do; only that of a new run is there
        at once. A source that is not where it was, but at the place that is given now, counts as the same.

        Raises:
            ConfigError: the folder holds a run of another source, or lies among the images.
            StoreError: the folder cannot be written.
        """
        new_folders = tuple(path for path in (folder, *folder.parents) if not path.exists())
        run, config = RunFolder(folder), with_absolute_paths(config)
        source = config.collection.source or ""
        if folder.resolve().is_relative_to(Path(source)) and Path(source).is_dir():
            raise ConfigError(
                f"{folder} lies in {source}, where images are looked for, and a run writes pictures of its own; "
                "choose another --out"
            )
        moved = run.images.is_file() and has_moved(run, source)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot write to {folder}: {error.strerror}; choose another --out") from error
        context = cls(run, config, order, extra_tasks, new_folders, others, keeps_first=True, has_moved=moved)
        if not run.config.is_file():
            context.save_config()
        return context

    @classmethod
    def open(
        cls,
        folder: Path,
        order: Mapping[str, tuple[str, ...]],
        *layers: Mapping[str, Any],
        extra_tasks: tuple[EvaluationTask, ...] = (),
        part: Part = None,
    ) -> Context:
        """An existing run, with further options laid over its configuration.

        They are kept as those of `create` are; of a step that is done in shards those of its preparation are.

        Raises:
            StoreError: the folder is not a run.
            ConfigError: the options do not go together.
        """
        run = RunFolder(folder)
        run.check_is_run()
        kept = read_configuration(run.config)
        config, configured = (with_absolute_paths(build(RunConfig, kept, *over)) for over in (layers, ()))
        return cls(run, config, order, extra_tasks, part=part, configured=configured, keeps_first=part is None)

    def save_config(self) -> None:
        """Write the configuration, if it is not what is there; a folder that is read-only keeps its own."""
        if not is_read_only(self.folder.path):
            write_configuration(self.folder.config, self.config)
            self.steps.keep_options()

    @cached_property
    def accelerator(self) -> Accelerator:
        """The processes and devices of this command."""
        from sae_traits.features.accelerator import make_accelerator  # loads torch

        return make_accelerator(getattr(self.config.train, "tracker", None), self.folder.training_logs)

    @property
    def is_launched_with_others(self) -> bool:
        """Whether a launcher started this process as one of several."""
        return int(os.environ.get("WORLD_SIZE", "1")) > 1

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes, where several were launched together."""
        return not self.is_launched_with_others or self.accelerator.is_main_process

    def wait_for_everyone(self) -> None:
        """Wait for the other processes of a launcher, and see what the main one has recorded."""
        if self.is_launched_with_others:
            self.accelerator.wait_for_everyone()
            self.steps.read()

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute with one thread inside the block, where the run is to be deterministic.

        Raises:
            ConfigError: it is, and would compute on a GPU, where equal bits are not promised.
        """
        config = self.config.features
        if not config.deterministic:
            yield
            return
        devices = {choose_device(config.device).type, self.accelerator.device.type} - {"cpu"}
        if devices:
            raise ConfigError(
                f"--deterministic holds on a CPU only, and this would compute on {', '.join(sorted(devices))}; say "
                "--device cpu and set ACCELERATE_USE_CPU=true, or leave out --deterministic"
            )
        with one_thread():
            yield

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep other commands from writing to the run (see `lock`); one that is refused leaves no new, empty folder."""
        if not self.is_main_process:
            yield
            return
        with writing(self.folder.path):
            self.steps.has_lock = True
            try:
                with self._unchanged_where_nothing_is_made():
                    yield
            except SaeTraitsError:
                self.folder.remove_if_nothing_was_made(self.new_folders)
                raise
            finally:
                self.steps.has_lock = False

    def _begin(self) -> None:
        """Keep the configuration of a run that is made or gone on with: from now on its files may be of this one."""
        if self.steps.replaces and not is_read_only(self.folder.path):
            write_configuration(self.folder.config, self.config)

    @contextmanager
    def _unchanged_where_nothing_is_made(self) -> Iterator[None]:
        """Put config.yaml back where the block is refused while all that the run has made is as it was.

        So a step that fails as soon as it begins, for example because nobody answers, leaves the run finished.
        """
        config, made = self.folder.config, self.steps.made
        former = config.read_bytes() if config.is_file() else None
        try:
            yield
        except SaeTraitsError:
            current = [name for name in self.order if self.steps.is_current(name)]
            is_as_it_was = self.steps.made == made and not any(map(self.steps.changed_files, current))
            if is_as_it_was and former is not None and config.read_bytes() != former:
                with suppress(StoreError):  # what was refused is said
                    write_whole(config, former)
            raise

    @contextmanager
    def reading(self, *steps: str, thorough: bool = False) -> Iterator[None]:
        """Make sure that what some steps wrote is whole, and the same at the end of the block as at its beginning.

        Raises:
            StoreError: it is not, because of damage or of another command.
        """
        self.steps.check(reading=steps, thorough=thorough)
        before = self.steps.made
        yield
        self.steps.read()
        if self.steps.made != before or any(self.steps.changed_files(name) for name in steps if name in before):
            raise StoreError(f"another command has changed {self.folder.path} meanwhile; give the same command again")

    @cached_property
    def steps(self) -> Steps:
        """The record of finished steps, RUN/steps.json."""
        others = [RunFolder(path).steps for path in self.others]
        return Steps(
            self.folder.steps,
            self.order,
            keep=self.is_main_process,
            others=others,
            options=options_of_steps(self.config),
            configured=options_of_steps(self.configured or self.config),
            begin=self._begin if self.keeps_first else None,
        )

    @cached_property
    def collection(self) -> Collection:
        """The images, as the step `collect` read them."""
        return Collection.load(self.folder.images)

    def check_masks(self) -> None:
        """Raise a ConfigError where masks are to be used and no image has one."""
        if self.config.describer.use_masks and not any(record.mask_file for record in self.collection.images):
            raise ConfigError(
                "--use-masks, but no image of the collection has a mask; name their files in the column mask_file of a "
                "table, or leave out --use-masks"
            )

    @cached_property
    def adopted_sae(self) -> SAE | None:
        """The SAE of --sae; None where one is trained."""
        train = self.config.train
        if not isinstance(train, AdoptedSAE):
            return None
        return SAE.from_pretrained(train.sae, subfolder=train.subfolder, revision=train.revision)

    @cached_property
    def backbone(self) -> Backbone:
        """The configured backbone; with --sae and no model named, the one that the SAE was trained on."""
        config = self.config.features
        if self.adopted_sae is not None:
            return backbone_of_adopted(self.adopted_sae, config)
        return load_backbone(config.backbone, framing=config.framing, device=config.device)

    @cached_property
    def features(self) -> FeatureSource:
        """The patch features: what was extracted, or, with `stream`, the images and the backbone."""
        return open_features(self.collection, self.folder.activations, lambda: self.backbone, self.config.features)

    @cached_property
    def sae(self) -> SAE:
        return SAE.from_pretrained(self.folder.sae)

    @property
    def dictionary_folder(self) -> Path | None:
        """Where the dictionary lies whose latents pick the regions: the SAE or a baseline; None where none does."""
        regions = self.config.regions
        if isinstance(regions, SAERegions):
            return self.folder.sae
        return self.folder.baseline(regions.kind) if regions.has_latents else None

    @cached_property
    def dictionary(self) -> SAE | None:
        """The SAE, or the baseline in its place; None for regions without latents."""
        folder = self.dictionary_folder
        if folder is None:
            return None
        return self.sae if folder == self.folder.sae else SAE.from_pretrained(folder)

    @property
    def dictionary_name(self) -> str | None:
        """What picked the regions, in the column `sae` of a dataset on this machine; None where nothing has latents."""
        if self.released_latents is not None:
            return self.released_latents.sae  # whose weights those of this run are
        if self.dictionary is None:
            return None
        origin = "local" if isinstance(self.config.regions, SAERegions) else self.config.regions.kind
        return f"{origin}@sha256:{self.dictionary.weights_hash()}"

    @cached_property
    def released_latents(self) -> DatasetLatents | None:
        """The latents of the dataset of --latents, if there is one."""
        contrast = getattr(self.config.regions, "contrast", None)
        if not isinstance(contrast, ReleasedLatents):
            return None
        return read_released_latents(contrast.latents, revision=contrast.revision)

    @property
    def reviews(self) -> Reviews:
        """Sheets for raters, and what they answered."""
        return Reviews(self.folder.review)

    @cached_property
    def describer(self) -> Describer:
        return make_describer(self.config.describer)

    @cached_property
    def plan(self) -> Plan:
        """Which regions are described, from what the step `encode` made."""
        regions = self.config.regions
        return self.plan_of(regions, self.collection, Codes.open(self.folder.codes) if regions.has_latents else None)

    @cached_property
    def firing_shares(self) -> FiringShares:
        """In how many individuals of each species the latents of the run fire, training and held-out ones."""
        return firing_shares(Codes.open(self.folder.codes), self.collection)

    @property
    def known_firing_shares(self) -> FiringShares | None:
        """The same for what does without; None without latents, or where the codes are not as they were written."""
        has_codes = self.config.regions.has_latents and self.steps.is_current("encode")
        return self.firing_shares if has_codes and not self.steps.changed_files("encode") else None

    def plan_of(
        self, regions: Regions, collection: Collection, codes: Codes | None, chosen: LatentsBySpecies | None = None
    ) -> Plan:
        """Which regions of any kind, or of the images with other labels, would be described; see `plan_regions`."""
        return plan_regions(
            regions,
            collection,
            self.features.info,
            codes=codes,
            class_maps=self.folder.class_maps,
            released=self.released_latents,
            chosen=chosen,
        )

    @property
    def captions(self) -> Path | None:
        """The file with the captions of the images as they are now; None where there is none.

        Raises:
            StoreError: it is missing, or not as it was written.
        """
        return self._as_written(self.folder.captions, "caption")

    def open_ledger(self) -> Ledger:
        """The ledger of the describer's calls; close it after use."""
        return Ledger(self.folder.ledger(self.config.regions.kind))

    @property
    def is_described(self) -> bool:
        """Whether there are traits, or nothing is left to ask about."""
        counts = self.steps.counts("annotate")
        return not counts or bool(counts["n_traits"]) or not counts["n_open"]

    @cached_property
    def calls(self) -> Calls:
        """What the describer's calls took, of this describer; earlier settings of the same run are among them."""
        return calls_of(self.folder.ledger(self.config.regions.kind), self.describer, self.config.describer)

    @cached_property
    def pictures(self) -> PictureCache:
        """Small pictures of the photographs."""
        return PictureCache(self.folder.pictures)

    @property
    def pictures_of_dataset(self) -> Pictures | None:
        """The pictures that the dataset will hold, to be made while photographs are open; None where it holds none."""
        release = self.config.release
        return Pictures(self.pictures, release.longest_side) if release.images == "embed" else None

    def open_picture(self, record: ImageRecord) -> Image.Image:
        """A picture of an image to draw on: the one that the dataset holds, or else the photograph itself."""
        picture = self.pictures.get(record.sha256, self.config.release.longest_side)
        return open_image(self.collection.path(record)) if picture is None else Image.open(io.BytesIO(picture))

    @property
    def faithfulness(self) -> Faithfulness | None:
        """The scores of the faithfulness controls, if there are any of the present annotation."""
        if not self.folder.faithfulness.is_file():
            return None
        values = read_sealed(self.folder.faithfulness)
        if values is None:
            warn(f"warning: {self.folder.faithfulness} is damaged and left out; run `sae-traits faithfulness` again")
            return None
        is_of_now = values["annotate"] == self.steps.fingerprint("annotate")
        return Faithfulness.from_dict(values) if is_of_now else None

    @cached_property
    def clip(self) -> CLIP | None:
        """The CLIP model that is evaluated, if one is configured."""
        if (config := self.config.zero_shot) is None:
            return None
        device = self.config.features.device
        return load_clip(config.clip, revision=config.revision, framing=config.framing, device=device)

    @property
    def results(self) -> Results | None:
        """What was evaluated of the traits as they are now; None where there was nothing.

        Raises:
            StoreError: it is missing, or not as it was written.
        """
        path = self._as_written(self.folder.results, "evaluate")
        return None if path is None else read_results(path)

    def _as_written(self, path: Path, step: str) -> Path | None:
        """A file of a step; None where the step is not done with what there is now."""
        if not self.steps.is_current(step):
            return None
        if path in self.steps.changed_files(step):
            again = f"run `sae-traits {step} {self.folder.path}` again"
            raise StoreError(f"{path} is missing or not as it was written; {again}")
        return path
