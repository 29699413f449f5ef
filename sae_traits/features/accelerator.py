"""The processes and devices of a training, and the trackers that log it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from sae_traits.errors import ConfigError
from sae_traits.features.extract import check_launch


def make_accelerator(tracker: str | None, folder: Path, **options: Any) -> Accelerator:
    """The processes and devices, with one of Accelerate's trackers, which writes to `folder`, if one is named.

    `options` are others of Accelerate's.

    Raises:
        ConfigError: the tracker is not installed, or several processes were launched that do not know of each other.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    if tracker is not None and tracker not in map(str, get_available_trackers()):
        raise ConfigError(
            f"the tracker {tracker!r} is not installed; Accelerate knows {', '.join(LOGGER_TYPE_TO_CLASS)}: "
            f"install one of them (pip install {tracker}), or leave out --tracker"
        )
    if tracker is not None:
        options |= {"log_with": tracker, "project_dir": folder}
    accelerator = Accelerator(**options)
    check_launch(accelerator.num_processes)
    return accelerator


@contextmanager
def tracking(accelerator: Accelerator, tracker: str | None, settings: Mapping[str, Any]) -> Iterator[None]:
    """Log what is trained meanwhile, and close the log whatever happens."""
    if tracker is None:
        yield
        return
    accelerator.init_trackers("sae-traits", config={name: str(value) for name, value in settings.items()})
    try:
        yield
    finally:
        for opened in accelerator.trackers:  # `end_training` would end the processes' group too
            opened.finish()
