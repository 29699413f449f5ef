"""What the folder of a collection says of it as a whole: `collection.yaml`, with the one key `note`."""

from pathlib import Path

import yaml

from sae_traits.config.yaml_files import load_yaml
from sae_traits.errors import CollectionError, one_line

NOTE_FILE = "collection.yaml"


def read_note(folder: Path) -> str | None:
    """Why a collection shows no real organisms, in its maker's words, None where its folder says nothing.

    A CollectionError where there is a collection.yaml that says something else.
    """
    path = folder / NOTE_FILE
    if not path.is_file():
        return None
    try:
        values = load_yaml(path.read_text(encoding="utf-8"), path.name)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CollectionError(f"{path} cannot be read ({one_line(error)}); correct or remove it") from error
    if not isinstance(values, dict) or values.keys() != {"note"} or not isinstance(values["note"], str):
        raise CollectionError(f"{path} must have the one key `note`, with a sentence; correct or remove it")
    return values["note"]
