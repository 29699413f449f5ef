"""A small collection, and a process that has its images captioned: it can be killed and started again.

`python captioning.py FOLDER N_IMAGES JSON` captions N_IMAGES, writes captions.parquet and quarantined.csv into FOLDER,
and prints one line of JSON with the counts. The JSON has the options of the describer `server`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from describer_server.many import ManyCandidates

from sae_traits.schema import Collection, Taxon
from sae_traits.traits.captions import Captioning

CLASSES = {"Gen a": "Insecta", "Gen b": "Insecta", "Gen c": "Aves", "Gen d": "Arachnida", "Gen e": None}


def collection_of(folder: Path, n_images: int) -> Collection:
    """Small images of five species, one of which has no class."""
    images = ManyCandidates(folder, n_images).collection
    records = (replace(r, taxon=Taxon(class_=CLASSES[r.species], species=r.species)) for r in images.images)
    return replace(images, images=tuple(records))


def captioned(folder: Path, n_images: int, options: dict[str, object], **guidance: Any) -> Captioning:
    """Caption all images, and write what came of it."""
    # Here, not above: worker processes import this file, too, and are to stay small as they are on the command line.
    from sae_traits.config.describer import Server
    from sae_traits.describers.captions import Guidance, make_captioner
    from sae_traits.traits.captions import CaptionPlan, ask_for_captions, export_captions
    from sae_traits.traits.ledger import Ledger

    config = Server(**({"workers": 1} | options))
    plan = CaptionPlan(collection_of(folder, n_images), Guidance(**guidance), make_captioner(config))
    with Ledger(folder / "captions.sqlite") as ledger:
        ask_for_captions(plan, ledger, workers=config.workers)
        files = {"captions_file": folder / "captions.parquet", "quarantine_file": folder / "quarantined.csv"}
        return export_captions(plan, ledger, **files)


def main() -> None:
    """Caption, and say what came of it."""
    done = captioned(Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]))
    print(json.dumps(asdict(done)))


if __name__ == "__main__":
    main()
