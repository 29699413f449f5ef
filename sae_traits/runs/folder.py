"""Where the files of a run lie; docs/architecture.md has the layout."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sae_traits.runs.lock import LOCK


@dataclass(frozen=True)
class RunFolder:
    """A folder with everything that one run makes."""

    path: Path

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

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def steps(self) -> Path:
        """Which steps are finished, with what they counted and the hashes of what they wrote."""
        return self.path / "steps.json"

    @property
    def images(self) -> Path:
        """One row per image, without pixels."""
        return self.path / "images.parquet"

    @property
    def problems(self) -> Path:
        """What of the collection could not be used, and why."""
        return self.path / "problems.csv"

    @property
    def activations(self) -> Path:
        """Patch features."""
        return self.path / "activations"

    @property
    def sae(self) -> Path:
        """The SAE, as from_pretrained reads it."""
        return self.path / "sae"

    @property
    def checkpoint(self) -> Path:
        """Where a training in progress is kept."""
        return self.path / "training.checkpoint"

    @property
    def training_logs(self) -> Path:
        """What a tracker writes."""
        return self.path / "logs"

    @property
    def codes(self) -> Path:
        """Sparse codes."""
        return self.path / "codes"

    def baseline(self, kind: str) -> Path:
        """A dictionary to compare the SAE with."""
        return self.path / "baselines" / kind

    @property
    def class_maps(self) -> Path:
        """Grad-CAM's map of every image."""
        return self.path / "baselines" / "gradcam" / "maps.parquet"

    def ledger(self, region_source: str) -> Path:
        """Every describer call; those about a baseline's regions are in a ledger of their own."""
        return self._traits / ("ledger.sqlite" if region_source == "sae" else f"ledger-{region_source}.sqlite")

    def faithfulness_ledger(self, region_source: str) -> Path:
        """Every call of the faithfulness controls; they are not the run's own."""
        name = "faithfulness.sqlite" if region_source == "sae" else f"faithfulness-{region_source}.sqlite"
        return self._traits / name

    @property
    def faithfulness(self) -> Path:
        """What the faithfulness controls found, and of which annotation."""
        return self._traits / "faithfulness.json"

    @property
    def traits(self) -> Path:
        """The traits."""
        return self._traits / "traits.parquet"

    @property
    def chosen_latents(self) -> Path:
        """The latents that the traits use."""
        return self._traits / "latents.parquet"

    @property
    def pictures(self) -> Path:
        """Small pictures of the photographs, made while these were open."""
        return self._traits / "pictures.sqlite"

    @property
    def dataset(self) -> Path:
        """The dataset, as load_dataset reads it."""
        return self.path / "dataset"

    @property
    def evaluation(self) -> Path:
        """The report and its figures."""
        return self.path / "evaluation"

    @property
    def results(self) -> Path:
        """What was evaluated."""
        return self.evaluation / "results.json"

    @property
    def embeddings(self) -> Path:
        """Embeddings of the images by CLIP models."""
        return self.path / "embeddings"

    @property
    def latent_pages(self) -> Path:
        """What latents stand for."""
        return self.path / "latents"

    @property
    def _traits(self) -> Path:
        return self.path / "traits"
