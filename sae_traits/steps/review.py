"""Review by people: a blind sheet is drawn, an atlas shows it, and what raters answered comes back into the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sae_traits.errors import ConfigError
from sae_traits.evaluation.review.ratings import Ratings
from sae_traits.evaluation.review.scores import Scores, score_review
from sae_traits.evaluation.review.sheets import Described, make_sheet
from sae_traits.runs.context import Context
from sae_traits.runs.release import released_traits


@dataclass(frozen=True)
class MadeSheet:
    """A new sheet."""

    name: str
    file: Path
    """What each item is; not for raters."""
    n_items: int

    def lines(self) -> list[str]:
        """A few lines for the terminal."""
        return [
            f"{self.name}: {self.n_items} items in random order",
            f"what each is stands in {self.file}, which no rater should see",
            "`sae-traits atlas` puts the sheet into the folder `review` of the atlas: give that folder to raters, who "
            "open review/index.html or fill in review/sheet.csv",
        ]


def make_review_sheet(context: Context, others: Sequence[Context], *, n_traits: int, seed: int) -> MadeSheet:
    """Draw a sheet of traits of a run, of other runs on the same images, and of controls.

    Raises:
        ConfigError: there are too few traits, or another run is of other images.
    """
    if context.config.release.images != "embed":
        raise ConfigError("raters look at pictures, and a release with --images reference has none")
    earlier = context.reviews.sheets
    own_images = {record.image_id for record in context.collection.images}
    traits: dict[str, list[Described]] = {}
    for other in others:
        name = other.folder.path.resolve().name
        traits[name] = [one for one in _described(other) if one[0].image_id in own_images]
        if not traits[name]:
            raise ConfigError(f"{other.folder.path} describes none of the images of {context.folder.path}")
    sheet = make_sheet(
        _described(context),
        traits,
        n_traits=n_traits,
        seed=seed,
        number=len(earlier) + 1,
        seen={item.trait_id for former in earlier for item in former.items},
    )
    return MadeSheet(sheet.name, context.reviews.add(sheet), len(sheet.items))


def import_reviews(context: Context, files: Sequence[Path], *, half_width: float) -> Scores:
    """Keep what raters answered, and score all that is known by now.

    Raises:
        ConfigError: a file cannot be read, or is of no sheet of the run.
    """
    context.reviews.rate([Ratings.read(file) for file in files])
    return score_review(context.reviews.answered(), half_width=half_width)


def _described(context: Context) -> list[Described]:
    """The traits of a run as they are released, with their images."""
    images = context.collection.images
    return [(images[trait.candidate.image], trait) for trait in released_traits(context)]
