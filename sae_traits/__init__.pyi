"""The public names, for type checkers; `__init__.py` imports them lazily."""

from sae_traits.config import VLLM as VLLM
from sae_traits.config import AdoptedSAE as AdoptedSAE
from sae_traits.config import BatchTopK as BatchTopK
from sae_traits.config import CollectionConfig as CollectionConfig
from sae_traits.config import FeaturesConfig as FeaturesConfig
from sae_traits.config import GradCAMRegions as GradCAMRegions
from sae_traits.config import JumpReLU as JumpReLU
from sae_traits.config import KMeansRegions as KMeansRegions
from sae_traits.config import Measured as Measured
from sae_traits.config import NMFRegions as NMFRegions
from sae_traits.config import PaperContrast as PaperContrast
from sae_traits.config import PCARegions as PCARegions
from sae_traits.config import RandomRegions as RandomRegions
from sae_traits.config import ReleaseConfig as ReleaseConfig
from sae_traits.config import ReleasedLatents as ReleasedLatents
from sae_traits.config import ReLU as ReLU
from sae_traits.config import RunConfig as RunConfig
from sae_traits.config import SAERegions as SAERegions
from sae_traits.config import Server as Server
from sae_traits.config import SpecimenContrast as SpecimenContrast
from sae_traits.config import Texture as Texture
from sae_traits.config import TopK as TopK
from sae_traits.config import TrainConfig as TrainConfig
from sae_traits.config import Transformers as Transformers
from sae_traits.config import VisionModel as VisionModel
from sae_traits.config import WholeImage as WholeImage
from sae_traits.config import ZeroShotConfig as ZeroShotConfig
from sae_traits.errors import BackboneError as BackboneError
from sae_traits.errors import CheckpointError as CheckpointError
from sae_traits.errors import CollectionError as CollectionError
from sae_traits.errors import ConfigError as ConfigError
from sae_traits.errors import DescriberError as DescriberError
from sae_traits.errors import ImageError as ImageError
from sae_traits.errors import ReleaseError as ReleaseError
from sae_traits.errors import SaeTraitsError as SaeTraitsError
from sae_traits.errors import StoreError as StoreError
from sae_traits.evaluation.zero_shot import evaluate_zero_shot as evaluate_zero_shot
from sae_traits.images.decode import open_image as open_image
from sae_traits.models.clip.model import load_clip as load_clip
from sae_traits.notebook import Run as Run
from sae_traits.notebook import run as run
from sae_traits.release.loading import load_traits as load_traits
from sae_traits.sae.extractor import Extractor as Extractor
from sae_traits.sae.extractor import load_extractor as load_extractor
from sae_traits.sae.fitting import fit_sae as fit_sae
from sae_traits.sae.model import SAE as SAE
from sae_traits.sae.model import SAEConfig as SAEConfig
from sae_traits.steps.benchmark import benchmark as benchmark

__version__: str
__all__: list[str]
