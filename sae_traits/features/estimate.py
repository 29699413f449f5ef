"""What an extraction is going to write, before any image is opened."""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from sae_traits.features.backbone import Backbone, patch_counts
from sae_traits.features.source import plan_shards
from sae_traits.features.store import shard_bytes
from sae_traits.schema import BackboneInfo, Collection
from sae_traits.vocabulary import Dtype


@dataclass(frozen=True, kw_only=True)
class ExtractionEstimate:
    """How much an extraction writes, and how much there is room for."""

    n_images: int
    n_patches: int
    n_bytes: int
    """Bytes of the tensors in all shards; headers and index add less than 1 KB per shard."""
    n_shards: int
    free_bytes: int
    """On the disk of the target folder."""
    storage_dtype: Dtype

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        lines = [
            f"images      {self.n_images:,}",
            f"patches     {self.n_patches:,}",
            f"shards      {self.n_shards:,}, {self.n_bytes / 1e9:,.3f} GB in {self.storage_dtype} "
            f"({self.n_bytes:,} bytes)",
            f"free space  {self.free_bytes / 1e9:,.3f} GB",
        ]
        if (missing := self.n_bytes - self.free_bytes) > 0:
            half = "store half as much with --storage-dtype bfloat16"
            advice = half if self.storage_dtype == "float32" else "choose another disk"
            lines.append(f"too little by {missing / 1e9:,.3f} GB: free some space, or {advice}")
        return lines


def estimate_extraction(
    collection: Collection, info: BackboneInfo, storage_dtype: Dtype, folder: Path
) -> ExtractionEstimate:
    """Say what `extract` is going to write, from the sizes of the images; shards that are there already count too.

    The folder where the features would go need not exist.
    """
    counts = patch_counts(collection.images, info)
    plans = plan_shards(len(counts), info, storage_dtype)
    existing = next(place for place in (folder, *folder.resolve().parents) if place.exists())
    return ExtractionEstimate(
        n_images=len(counts),
        n_patches=int(counts.sum()),
        n_bytes=sum(
            shard_bytes(len(rows), int(counts[rows.start : rows.stop].sum()), info.d_model, storage_dtype)
            for rows in plans
        ),
        n_shards=len(plans),
        free_bytes=shutil.disk_usage(existing).free,
        storage_dtype=storage_dtype,
    )


def flops_per_image(backbone: Backbone) -> int:
    """Count the floating-point operations of the features of one image, in a forward pass of an empty one.

    Counted are matrix products and convolutions; a backbone that makes none (`texture`) has 0.
    """
    pixels = backbone.prepare(Image.new("RGB", backbone.info.framing.size))

    def attention(query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any) -> int:
        return sdpa_flop_count(query, key, value)

    # On other devices torch counts attention by itself.
    on_a_cpu = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    with FlopCounterMode(display=False, custom_mapping=on_a_cpu) as counter:
        backbone.encode(pixels[None])
    return counter.get_total_flops()
