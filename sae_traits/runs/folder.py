"""Where the files of a run lie; docs/architecture.md has the layout."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from sae_traits.errors import StoreError
from sae_traits.runs.lock import LOCK, SHARDS


class RunFolder:
    """The folder of a run, and where in it each file lies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        """The resolved configuration."""
        self.steps = path / "steps.json"
        """Which steps are finished, with what they counted and the hashes of what they wrote."""
        self.images = path / "images.parquet"
        """One row per image, without pixels."""
        self.problems = path / "problems.csv"
        """What of the collection could not be used, and why."""
        self.activations = path / "activations"
        """Patch features, which are activations of the backbone."""
        self.sae = path / "sae"
        """The SAE, as from_pretrained reads it."""
        self.checkpoint = path / "training.checkpoint"
        """Where the training of the SAE stands, while it is in progress."""
        self.training_logs = path / "logs"
        """What a tracker writes."""
        self.codes = path / "codes"
        """Sparse codes."""
        self.background = path / "background.safetensors"
        """The models of whether a patch shows background, where they were learnt."""
        self.class_maps = self.baseline("gradcam") / "maps.parquet"
        """Grad-CAM's map of every image."""
        self.traits = path / "traits" / "traits.parquet"
        self.chosen_latents = path / "traits" / "latents.parquet"
        """The latents that the traits use."""
        self.captions = path / "traits" / "captions.parquet"
        self.captions_quarantine = path / "traits" / "captions_quarantined.csv"
        """What was said of images and is not released, and why."""
        self.captions_ledger = path / "traits" / "captions.sqlite"
        """Every call that asked for a caption; they are none of those about regions."""
        self.pictures = path / "traits" / "pictures.sqlite"
        """Small pictures of the photographs, made while these were open."""
        self.faithfulness = path / "traits" / "faithfulness.json"
        """What the faithfulness controls found, and of which annotation."""
        self.chosen_for_shards = self.shards("annotate") / "chosen.npz"
        """The latents that describe each species, for all shards of an annotation."""
        self.dataset = path / "dataset"
        """The dataset, as load_dataset reads it."""
        self.atlas = path / "atlas"
        """The site of the dataset, where no other place was named for it."""
        self.evaluation = path / "evaluation"
        """The report and its figures."""
        self.results = self.evaluation / "results.json"
        """What was evaluated."""
        self.parts = self.evaluation / "parts.json"
        """Part evidence, and of which codes and files."""
        self.embeddings = path / "embeddings"
        """Embeddings of the images by CLIP models."""
        self.latent_names = path / "names.json"
        """What latents stand for, as a person has named them, and of which SAE they are."""
        self.suggested_names = path / "suggestions.json"
        """What a describer proposes to call latents; nobody has said that it is so."""
        self.review = path / "review"
        """Sheets for raters, with what each item is, and their answers."""
        self.latent_pages = path / "latents"
        """What latents stand for."""

    def shards(self, step: str) -> Path:
        """Marks of the shards of a step, and what each keeps for itself until they are merged."""
        return self.path / SHARDS / step

    def check_is_run(self) -> None:
        """Raise a StoreError where the folder holds no run; nothing that takes time is imported for it."""
        if not self.config.is_file():
            raise StoreError(f"{self.path} is not a run: it has no config.yaml; make one with `sae-traits extract`")

    def remove_if_nothing_was_made(self, new_folders: Iterable[Path]) -> None:
        """Remove folders that are new, the innermost first, if there is nothing in them but the configuration."""
        ours = (self.config.name, LOCK)
        with suppress(OSError):  # nothing is lost by a folder that stays
            for folder in new_folders:
                if any(entry.name not in ours for entry in folder.iterdir()):
                    return
                for name in ours:
                    (folder / name).unlink(missing_ok=True)
                folder.rmdir()

    def baseline(self, kind: str) -> Path:
        """A dictionary to compare the SAE with."""
        return self.path / "baselines" / kind

    def baseline_codes(self, kind: str) -> Path:
        """Sparse codes of a dictionary that the SAE is compared with."""
        return self.path / "baselines" / "codes" / kind

    def ledger(self, region_source: str, name: str = "ledger") -> Path:
        """Every describer call; those about a baseline's regions are in a ledger of their own."""
        return self.path / "traits" / (f"{name}.sqlite" if region_source == "sae" else f"{name}-{region_source}.sqlite")

    def faithfulness_ledger(self, region_source: str) -> Path:
        """Every call of the faithfulness controls; they are not the run's own."""
        return self.ledger(region_source, "faithfulness")
