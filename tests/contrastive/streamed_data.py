"""A released dataset of pictures that do not compress, in several files, here and on a Hub."""

from dataclasses import replace

import numpy as np
from hub.publisher import publish_folder
from PIL import Image
from release.small_releases import record_of, release, traits_of

from sae_traits.schema import Collection

REPOSITORY = "museum/moths"


def noise_dataset(folder, n=48):
    """The folder of a dataset of `n` pictures of noise, a sixth of them for validation."""
    rng, records = np.random.default_rng(0), []
    for number in range(n):
        path = folder / "photographs" / f"Aus_s{number % 7}" / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (150, 200, 3)).astype(np.uint8)).save(path)
        record = record_of(path, folder / "photographs", "validation" if number % 6 == 5 else "train", None)
        records.append(replace(record, width=600, height=450))  # so that files are cut as those of photographs are
    collection = Collection(folder / "photographs", tuple(records))
    release(folder / "dataset", collection, traits_of(collection, 2))
    return folder / "dataset"


def upload(dataset, hub):
    """Put a dataset on a Hub; its id."""
    publish_folder(dataset, REPOSITORY, repo_type="dataset", endpoint=hub.url, token=hub.token)
    return REPOSITORY
