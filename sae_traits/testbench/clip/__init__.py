"""The CLIP of the drawn world, with which `make demo` ends: where it lies, what it may be used on, how it was made.

It has only ever seen drawings. On anything else its answers mean nothing, so it is refused there.
"""

from __future__ import annotations

import json
from pathlib import Path

from sae_traits.errors import ConfigError
from sae_traits.testbench.drawn.world import TRUTH_FILE, is_drawn

DRAWN_CLIP = Path(__file__).parent.parent / "drawn_clip"
"""The trained model, a transformers CLIP folder, part of the package."""
DRAWN_KEY = "sae_traits_drawn"
"""Key of config.json that is true in a CLIP that was trained on drawings alone."""


def is_drawn_clip(folder: Path) -> bool:
    """Whether a CLIP folder says that its model knows drawings only; also of copies and of models trained anew."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # no readable config: whoever loads the folder will say so better
    return isinstance(config, dict) and bool(config.get(DRAWN_KEY))


def refuse_unless_drawn(clip: Path, collection_root: Path) -> None:
    """Keep a CLIP of the drawn world from being asked about real organisms; any other CLIP may pass.

    Args:
        clip: folder of the CLIP.
        collection_root: folder of the images.

    Raises:
        ConfigError: the CLIP knows drawings only and the collection is not a drawn one.
    """
    if is_drawn_clip(clip) and not is_drawn(collection_root):
        raise ConfigError(
            f"{clip} is a CLIP of drawn, invented insects and {collection_root} is not a drawn collection "
            f"(it has no {TRUTH_FILE}), so its answers would mean nothing; choose another --clip, for example "
            "imageomics/bioclip"
        )
