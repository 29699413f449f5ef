"""Every option of a run: frozen dataclasses, checked once, the same for YAML, the command line and Python.

One file per section, one class per variant; `tree` builds them from layers, `command_line` makes flags of them.
"""

from sae_traits.config.collection import CollectionConfig as CollectionConfig
from sae_traits.config.describer import VLLM as VLLM
from sae_traits.config.describer import Describer as Describer
from sae_traits.config.describer import Measured as Measured
from sae_traits.config.describer import Server as Server
from sae_traits.config.describer import Transformers as Transformers
from sae_traits.config.features import Backbone as Backbone
from sae_traits.config.features import FeaturesConfig as FeaturesConfig
from sae_traits.config.features import Texture as Texture
from sae_traits.config.features import VisionModel as VisionModel
from sae_traits.config.regions import GradCAMRegions as GradCAMRegions
from sae_traits.config.regions import KMeansRegions as KMeansRegions
from sae_traits.config.regions import NMFRegions as NMFRegions
from sae_traits.config.regions import PaperContrast as PaperContrast
from sae_traits.config.regions import PCARegions as PCARegions
from sae_traits.config.regions import RandomRegions as RandomRegions
from sae_traits.config.regions import Regions as Regions
from sae_traits.config.regions import ReleasedLatents as ReleasedLatents
from sae_traits.config.regions import SAERegions as SAERegions
from sae_traits.config.regions import SpecimenContrast as SpecimenContrast
from sae_traits.config.regions import WholeImage as WholeImage
from sae_traits.config.release import ReleaseConfig as ReleaseConfig
from sae_traits.config.run import RunConfig as RunConfig
from sae_traits.config.train import AdoptedSAE as AdoptedSAE
from sae_traits.config.train import BatchTopK as BatchTopK
from sae_traits.config.train import JumpReLU as JumpReLU
from sae_traits.config.train import ReLU as ReLU
from sae_traits.config.train import TopK as TopK
from sae_traits.config.train import Train as Train
from sae_traits.config.train import TrainConfig as TrainConfig
from sae_traits.config.zero_shot import ZeroShotConfig as ZeroShotConfig
