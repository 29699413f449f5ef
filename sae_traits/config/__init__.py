"""Every option of a run: frozen dataclasses, checked once, the same for YAML, the command line and Python."""

from sae_traits.config.sections import (
    READ_WITH_LATENTS as READ_WITH_LATENTS,
)
from sae_traits.config.sections import (
    SECTIONS as SECTIONS,
)
from sae_traits.config.sections import (
    TEXTURE as TEXTURE,
)
from sae_traits.config.sections import (
    CollectionConfig as CollectionConfig,
)
from sae_traits.config.sections import (
    ContrastConfig as ContrastConfig,
)
from sae_traits.config.sections import (
    DescribeConfig as DescribeConfig,
)
from sae_traits.config.sections import (
    FeaturesConfig as FeaturesConfig,
)
from sae_traits.config.sections import (
    ReleaseConfig as ReleaseConfig,
)
from sae_traits.config.sections import (
    RunConfig as RunConfig,
)
from sae_traits.config.sections import (
    TrainConfig as TrainConfig,
)
from sae_traits.config.sections import (
    ZeroShotConfig as ZeroShotConfig,
)
from sae_traits.config.sections import (
    section_of as section_of,
)
