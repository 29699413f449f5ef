"""What a run made, for the terminal and for scripts: read from the run's own records."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sae_traits.evaluation.results import Results
from sae_traits.rendering import listed, one_line
from sae_traits.runs.background import known_background
from sae_traits.runs.context import Context
from sae_traits.traits.untold_species import significance_in_words
from sae_traits.vocabulary import REGION_SOURCES

_LEFT_OUT = {
    "n_background": "answers were background and are left out",
    "n_invalid": "answers could not be used and are kept in the ledger",
    "n_failed": "calls failed and are kept in the ledger",
    "n_open": "regions are asked about by the same command, given again",
}

_LONGEST_LABEL = 60
"""Letters of the name of a folder, or of a label, without an image."""


@dataclass(frozen=True)
class Summary:
    """The counts of every finished step, and the scores."""

    context: Context
    counts: dict[str, dict[str, Any]]
    results: Results | None

    @classmethod
    def of(cls, context: Context) -> Summary:
        """Read a run's records."""
        finished = {name: context.steps.counts(name) for name in context.order if context.steps.is_current(name)}
        return cls(context, finished, context.results)

    @property
    def is_unfinished(self) -> bool:
        """Whether some describer calls failed and would be tried again by the same command."""
        return self.counts.get("annotate", {}).get("n_open", 0) > 0

    def to_dict(self) -> dict[str, Any]:
        values = {"run": str(self.context.folder.path), "unfinished": self.is_unfinished, "steps": self.counts}
        return values | ({"results": json.loads(self.results.to_json())} if self.results else {})

    def lines(self) -> list[str]:
        """A few lines that say what there is and where."""
        folder = self.context.folder
        lines = [f"run       {folder.path}"]
        if counts := self.counts.get("collect"):
            lines += self._images(counts)
        if counts := self.counts.get("extract"):
            lines.append(f"features  {counts['n_patches']:,} patches of width {counts['d_model']}")
        if counts := self.counts.get("train"):
            explained = counts["explained_variance"]
            variance = "unknown" if explained is None else f"{explained:.3f}"  # of features that are all alike
            lines.append(
                f"SAE       {folder.sae}: explained variance {variance}, "
                f"L0 {counts['l0']:.1f}, dead latents {100 * counts['dead_share']:.1f} %"
            )
            if counts["n_saes"] > 1:
                lines.append(f"          the recommended one of {counts['n_saes']}, see {folder.sae / 'sweep.json'}")
        if counts := self.counts.get("annotate"):
            lines += self._traits(counts)
        if counts := self.counts.get("caption"):
            lines.append(f"captions  {counts['n_captions']:,} for {self.counts['collect']['n_images']:,} images")
        if "dataset" in self.counts:
            lines.append(f"dataset   {folder.dataset}: load_dataset({str(folder.dataset)!r})")
            if self._is_atlas_older():
                again = f"make it again with sae-traits atlas {folder.path}"
                lines.append(f"atlas     {folder.atlas} is of the dataset before; {again}")
        if self.results is not None:
            lines += self._verdicts(self.results)
        return lines

    def _images(self, counts: dict[str, Any]) -> list[str]:
        where = self.context.folder.problems
        problems = f"; {counts['n_problems']} problems, see {where}" if counts["n_problems"] else ""
        n, n_individuals = counts["n_images"], counts["n_individuals"]
        individuals = f" of {n_individuals} individuals" if n_individuals != n else ""
        labels = f" of {counts['n_species']} species" if counts["n_species"] else " without labels"
        lines = [f"images    {n}{individuals}{labels}{problems}"]
        if n := counts.get("n_without_images"):  # which runs before there was this count do not have
            names = [one_line(name, _LONGEST_LABEL) for name in counts["without_images"]]
            more = f" (and {n - len(names):,} more)" if n > len(names) else ""
            lines.append(f"          no image is left of: {', '.join(names)}{more}")
        if lacking := _lacking_rights(counts):
            lines.append(f"          {lacking}")
        if note := self.context.collection.note:
            lines.append(f"          {note}")
        if n := counts["n_near_identical"]["split"]:
            lines.append(
                f"          {_nearly_equal(n)} one of another split, see {where}; the source's splits are kept "
                "(--near-identical train moves them)"
            )
        if n := counts["n_near_identical"]["species"]:
            lines.append(f"          {_nearly_equal(n)} one of another species, see {where}")
        return lines

    def _traits(self, counts: dict[str, Any]) -> list[str]:
        n_images, regions = self.counts["collect"]["n_images"], self.context.config.regions
        n_described = counts["n_images"]
        n_traits, n_significant = counts["n_traits"], counts["n_significant"]
        lines = [
            f"traits    {n_traits:,} for {n_described} of {n_images} images ({n_described / n_images:.1%}), "
            f"{n_traits / max(n_described, 1):.1f} each; "
            f"{n_significant:,} significant, {n_traits - n_significant:,} not"
        ]
        lines += [f"          {sentence}" for sentence in significance_in_words(counts)]
        if regions.kind != "sae":
            lines.append(f"          of a baseline's regions, {regions.kind}: {REGION_SOURCES[regions.kind]}")
        lines += [f"          {counts[name]} {meaning}" for name, meaning in _LEFT_OUT.items() if counts[name]]
        if n := counts.get("n_without_colour"):  # which runs before there was this count do not have
            n_latents = counts["n_latents_without_colour"]
            lines.append(
                f"          {n:,} sentences name no colour: individuals of a species do not agree on it at {n_latents} "
                "of the latents"
            )
        background = known_background(self.context)
        n_on_background = 0 if background is None else background.n_left_out
        if n_everywhere := len(counts["dropped_latents"]) - n_on_background:
            lines.append(f"          left out for firing nearly everywhere: {n_everywhere} of the latents")
        if background is not None:
            said = [*background.warnings, *background.sentences("regions.png")]
            lines += [f"          {sentence}" for sentence in said]
        if regions.has_latents and self.counts["collect"]["n_species"] == 1:
            lines.append(
                "          one species, so it was compared with nothing: what is said of it tells it from nobody"
            )
        if counts["species_without_latents"]:
            if "species_too_few" not in counts:  # where species were tested, why has been said
                lines.append(f"          no latent for {listed(counts['species_without_latents'])}")
            if getattr(getattr(regions, "contrast", None), "significant_only", False):
                lines.append("          (--no-significant-only gives what there is, marked as not significant)")
        return lines

    def _is_atlas_older(self) -> bool:
        """Whether the run has an atlas, and its dataset was written after it."""
        index, record = self.context.folder.atlas / "index.html", self.context.steps.records.get("dataset")
        if record is None or not index.is_file():
            return False
        return index.stat().st_mtime_ns < max(time_ns for _, time_ns, _ in record["files"].values())

    def _verdicts(self, results: Results) -> list[str]:
        folder = self.context.folder
        lines = [f"report    {folder.evaluation / 'report.md'}"]
        if not self._is_atlas_older():
            lines.append(f"atlas     to look at it in a browser: sae-traits atlas {folder.path}")
        lines += results.lines()
        if results.zero_shot is None and self.context.config.collection.labels:
            lines.append(
                "zero-shot evaluation was skipped; to see whether the traits help a vision-language model: "
                f"sae-traits evaluate {folder.path} --clip imageomics/bioclip"
            )
        return lines


def _lacking_rights(counts: dict[str, Any]) -> str:
    """What images lack of a licence and its holder, in words; empty where nothing, or in runs before this was counted.

    That no image has any is said, too: it is of a folder, and `metadata.csv` would say it.
    """
    n_unlicensed, n_unheld = counts.get("n_without_license", 0), counts.get("n_without_rights_holder", 0)
    lacking = [f"without a licence: {n_unlicensed:,}"] if n_unlicensed else []
    if n_unheld:
        lacking.append(f"with a licence, but without a rights holder: {n_unheld:,}")
    return f"images {', '.join(lacking)} (columns license and rights_holder of the table)" if lacking else ""


def _nearly_equal(n: int) -> str:
    return f"{n} images nearly equal" if n > 1 else "1 image nearly equals"
