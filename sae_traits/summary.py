"""What a run made, for the terminal and for scripts: read from the run's own records."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sae_traits.evaluation.statistics import interval_text
from sae_traits.runs.run import Run
from sae_traits.schema import REGION_SOURCES


@dataclass(frozen=True)
class Summary:
    """The counts of every finished step, and the scores."""

    run: Run
    counts: dict[str, dict[str, Any]]
    results: dict[str, Any] | None

    @classmethod
    def of(cls, run: Run) -> Summary:
        """Read a run's records."""
        file = run.evaluation / "results.json"
        is_of_now = "evaluate" in run.steps.records  # an earlier evaluation may be of other traits
        results = json.loads(file.read_text(encoding="utf-8")) if is_of_now and file.is_file() else None
        return cls(run, {name: run.steps.counts(name) for name in run.steps.records}, results)

    @property
    def unfinished(self) -> bool:
        """Whether some describer calls failed and would be tried again by the same command."""
        return self.counts.get("annotate", {}).get("n_open", 0) > 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `--format json`."""
        return {"run": str(self.run.folder), "unfinished": self.unfinished, "steps": self.counts} | (
            {"results": self.results} if self.results else {}
        )

    def lines(self) -> list[str]:
        """A few lines that say what there is and where."""
        lines = [f"run       {self.run.folder}"]
        if found := self.counts.get("collect"):
            problems = f"; {found['n_problems']} problems, see {self.run.problems_file}" if found["n_problems"] else ""
            of = f"images of {found['n_species']} species" if found["n_species"] else "photographs without labels"
            lines.append(f"images    {found['n_images']} {of}{problems}")
            lines += self._near_identical(found.get("n_near_identical", {}))
        if found := self.counts.get("extract"):
            lines.append(f"features  {found['n_patches']:,} patches of width {found['d_model']}")
        if found := self.counts.get("train"):
            lines.append(
                f"SAE       {self.run.sae}: explained variance {found['explained_variance']:.3f}, "
                f"L0 {found['l0']:.1f}, dead latents {100 * found['dead_share']:.1f} %"
            )
            if found["n_saes"] > 1:
                lines.append(f"          the recommended one of {found['n_saes']}, see {self.run.sae / 'sweep.json'}")
        if found := self.counts.get("annotate"):
            lines += self._traits(found)
        if self.counts.get("release"):
            lines.append(f"dataset   {self.run.dataset}: load_dataset({str(self.run.dataset)!r})")
        if self.results:
            lines.append(f"report    {self.run.evaluation / 'report.md'}")
            if self.run.config.collection.labels:
                lines.append(self._zero_shot(self.results["zero_shot"]))
        return lines

    def _near_identical(self, found: dict[str, int]) -> list[str]:
        lines = []
        if n := found.get("split"):
            lines.append(
                f"          {n} images nearly equal one of another split, see {self.run.problems_file}; the source's "
                "splits are kept (--near-identical train moves them)"
            )
        if n := found.get("species"):
            lines.append(f"          {n} images nearly equal one of another species, see {self.run.problems_file}")
        return lines

    def _zero_shot(self, found: dict[str, Any] | None) -> str:
        if found is None:
            return (
                "zero-shot evaluation was skipped; to see whether the traits help a vision-language model: "
                f"sae-traits evaluate {self.run.folder} --clip imageomics/bioclip"
            )
        top1 = {score["condition"]: score["top"]["1"] for score in found["conditions"]}
        return "zero-shot " + ", ".join(f"{condition} {interval_text(top1[condition])}" for condition in top1)

    def _traits(self, found: dict[str, Any]) -> list[str]:
        n_images = self.counts["collect"]["n_images"]
        mean = found["n_traits"] / max(found["n_images"], 1)
        lines = [
            f"traits    {found['n_traits']:,} for {found['n_images']} of {n_images} images "
            f"({found['n_images'] / n_images:.1%}), {mean:.1f} each; {found['n_significant']:,} significant"
        ]
        if (regions := self.run.config.contrast.regions) != "sae":
            lines.append(f"          of a baseline's regions, {regions}: {REGION_SOURCES[regions]}")
        for name, meaning in (
            ("n_background", "answers were background and are left out"),
            ("n_invalid", "answers could not be used and are kept in the ledger"),
            ("n_failed", "calls failed and are kept in the ledger"),
            ("n_open", "regions are asked about by the same command, given again"),
        ):
            if found[name]:
                lines.append(f"          {found[name]} {meaning}")
        if n_dropped := len(found["dropped_latents"]):
            lines.append(f"          left out for firing nearly everywhere: {n_dropped} of the latents")
        if found["species_without_latents"]:
            lines.append(f"          no latent for {', '.join(found['species_without_latents'])}")
        if self.results and (score := self.results.get("on_animal")):
            lines.append(
                f"regions   {interval_text(score['on_animal'])} of their area on the animal, "
                f"against {interval_text(score['random'])} at random places"
            )
        return lines
