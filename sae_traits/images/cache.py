"""Where images that are fetched from elsewhere are kept, so that each is fetched once."""

import re
from hashlib import sha256
from pathlib import Path

from sae_traits.errors import CollectionError


def cache_folder(image_cache: str | None, *names: str) -> Path:
    """Find a folder of the cache, made if need be; names, from the widest, may be anything and never lead out of it.

    Without `image_cache` it lies in the Hugging Face cache's folder for other libraries (`HF_ASSETS_CACHE`). A
    CollectionError where it cannot be made.
    """
    if image_cache is None:
        from huggingface_hub import cached_assets_path

        root = cached_assets_path("sae-traits", "images").parent
    else:
        root = Path(image_cache).expanduser().absolute()
    folder = root.joinpath(*(safe_name(name) for name in names))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CollectionError(f"cannot write to {folder}: {error.strerror}; choose another --image-cache") from error
    return folder


def safe_name(name: str) -> str:
    """Make a name safe as a file name: the name itself where it is plain, else what is plain of it, and a hash."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")[:60]
    if plain and plain == name and not name.endswith(".partial"):
        return name
    return f"{plain}-{sha256(name.encode('utf-8', 'backslashreplace')).hexdigest()[:16]}"
