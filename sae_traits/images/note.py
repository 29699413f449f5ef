"""What the folder of a collection says of it as a whole: `collection.yaml`, with the one key `note`."""

from pathlib import Path

import yaml

from sae_traits.errors import CollectionError

NOTE_FILE = "collection.yaml"


def read_note(folder: Path) -> str | None:
    """Why a collection shows no real organisms, in its maker's words, None where its folder says nothing.

    A CollectionError where there is a collection.yaml that says something else.
    """
    path = folder / NOTE_FILE
    if not path.is_file():
        return None
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CollectionError(f"{path} cannot be read ({type(error).__name__}); correct or remove it") from error
    if not isinstance(values, dict) or values.keys() != {"note"} or not isinstance(values["note"], str):
        raise CollectionError(f"{path} must have the one key `note`, with a sentence; correct or remove it")
    return values["note"]
