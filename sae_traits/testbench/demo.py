"""The demo: everything that it needs before an ordinary run is made on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sae_traits.images.note import read_note
from sae_traits.logging import say
from sae_traits.testbench.drawn import draw_collection
from sae_traits.testbench.drawn.world import NOTE

DRAWN_CLIP = Path(__file__).parent / "drawn_clip"
"""A CLIP that has only ever seen drawings, a transformers folder; made by `scripts/train_demo_clip.py`."""
RECIPE = "demo.yaml"
"""The recipe that the options of `prepare_demo` complete."""


def prepare_demo(folder: Path) -> dict[str, dict[str, Any]]:
    """Draw the drawn world into FOLDER/collection, unless it is there; the options of a run on it, by section.

    Raises:
        CollectionError: the folder holds other images.
    """
    collection = (folder / "collection").resolve()  # absolute before it is there, as it is when it is there
    if read_note(collection) != NOTE:
        say("drawing images of invented species")
        draw_collection(collection)
    return {"collection": {"source": str(collection)}, "zero_shot": {"clip": str(DRAWN_CLIP)}}
