"""The CLIP of the drawn world, with which `make demo` ends: where it lies, and how it was made.

It has only ever seen drawings, and says so in its config.json: it is refused for all other collections.
"""

from __future__ import annotations

from pathlib import Path

DRAWN_CLIP = Path(__file__).parent.parent / "drawn_clip"
"""The trained model, a transformers CLIP folder, part of the package."""
