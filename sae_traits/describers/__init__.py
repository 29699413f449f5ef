"""Describers: `measured` reads a region's pixels; the others ask a vision-language model."""

from importlib import import_module

from sae_traits.config.describer import VLLM, DescriberConfig, Measured, Server, Transformers
from sae_traits.describers.base import Answer, Ask, Describer, Look, Question, TokenEstimate

__all__ = ["Answer", "Ask", "Describer", "Look", "Question", "TokenEstimate", "make_describer"]

_CLASSES: dict[type[DescriberConfig], tuple[str, str]] = {
    Measured: ("measured", "MeasuredDescriber"),
    Server: ("server", "ServerDescriber"),
    VLLM: ("vllm", "VLLMDescriber"),
    Transformers: ("transformers", "TransformersDescriber"),
}
"""Configuration -> module here and class, which is imported where it is used: some need large packages."""


def make_describer(config: DescriberConfig) -> Describer:
    """The describer of a configuration; a DescriberError where its model does not exist, or cannot be reached."""
    module, name = _CLASSES[type(config)]
    return getattr(import_module(f"{__name__}.{module}"), name).of(config)
