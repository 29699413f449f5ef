"""Review by people: a blind sheet is drawn, an atlas shows it, and what raters answered comes back into the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sae_traits.errors import ConfigError
from sae_traits.evaluation.review.ratings import Ratings
from sae_traits.evaluation.review.scores import Scores, score_review
from sae_traits.evaluation.review.sheets import CONTROLS, TRAIT, make_sheet
from sae_traits.runs.context import Context
from sae_traits.runs.described import DescribedTraits


@dataclass(frozen=True)
class MadeSheet:
    """A new sheet."""

    name: str
    file: Path
    """What each item is; not for raters."""
    n_items: int

    def lines(self) -> list[str]:
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
    own_images = {record.image_id for record in context.collection.images}
    traits: dict[str, DescribedTraits] = {}
    for other in others:
        name = other.folder.path.resolve().name
        if other.folder.path.resolve() == context.folder.path.resolve():
            raise ConfigError(f"--beside names another run than the reviewed one, not {other.folder.path} again")
        if name in (*traits, TRAIT, *CONTROLS):
            raise ConfigError(
                f"the items of {other.folder.path} would be called {name!r}, as others are; give its folder another "
                "name, or name it once"
            )
        traits[name] = DescribedTraits(other, of_images=own_images)
        if not traits[name]:
            raise ConfigError(f"{other.folder.path} describes none of the images of {context.folder.path}")
    own = DescribedTraits(context)
    sheet = make_sheet(
        own,
        traits,
        n_traits=n_traits,
        seed=seed,
        number=context.reviews.next_number,
        fresh=own.without({item.trait_id for former in context.reviews.sheets for item in former.items}),
    )
    return MadeSheet(sheet.name, context.reviews.add(sheet), len(sheet.items))


def import_reviews(context: Context, files: Sequence[Path], *, half_width: float) -> Scores:
    """Keep what raters answered, and score all that is known by now.

    Raises:
        ConfigError: a file cannot be read, or is of no sheet of the run.
    """
    context.reviews.rate([Ratings.read(file) for file in files])
    return score_review(context.reviews.answered(), half_width=half_width)
