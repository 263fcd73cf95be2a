"""Networks whose stages are their own, whatever the plan's: 2D, each stage half the size of the last."""

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

from nnunetv2_unet3plus.errors import ConfigurationError
from nnunetv2_unet3plus.trainers.declarative import DeclarativeTrainer


class FixedStagesTrainer(DeclarativeTrainer):
    """What such trainers share."""

    @classmethod
    def strides(cls, configuration_manager: ConfigurationManager) -> list[list[int]]:
        """The paper's own.

        Raises:
            ValueError: for a 3D configuration.
        """
        dims = len(configuration_manager.patch_size)
        if dims != 2:
            raise ConfigurationError(
                f"{cls.__name__} is a 2D network: train it with the configuration 2d, or another network with this one."
            )
        return [[1] * dims] + [[2] * dims] * (cls._stages() - 1)

    @classmethod
    def _stages(cls) -> int:
        """How many the network has, the first at full resolution."""
        return 5
