"""How long a training still has to run, said at the end of every epoch."""

from collections.abc import Sequence
from datetime import timedelta
from statistics import median

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

# Long enough for one slow epoch not to matter, short enough to follow a machine that became faster or slower.
RECENT_EPOCHS = 10


class TimeLeftMixin(nnUNetTrainer):
    """Adds a line such as `Epoch 12 of 1000 done, 2:41:07 left` to nnU-Net's log."""

    def on_epoch_end(self) -> None:
        """Log what nnU-Net logs, then the time left."""
        super().on_epoch_end()  # counts current_epoch up: from here on it is the number of epochs done
        seconds = seconds_left(
            self.logger.get_value("epoch_start_timestamps", step=None),
            self.logger.get_value("epoch_end_timestamps", step=None),
            self.num_epochs - self.current_epoch,
        )
        left = timedelta(seconds=round(seconds))
        self.print_to_log_file(f"Epoch {self.current_epoch} of {self.num_epochs} done, {left} left")


def seconds_left(starts: Sequence[float], ends: Sequence[float], epochs_left: int) -> float:
    """Estimate the remaining time from the median of the last epochs.

    The timestamps travel in nnU-Net's checkpoints, so pauses between a stop and `--c` lie between epochs, not in them.

    Args:
        starts: Start of each epoch in seconds, as nnU-Net's logger keeps them.
        ends: End of each epoch.
        epochs_left: How many epochs are still to come.

    Returns:
        Seconds; 0 if nothing has been timed yet.
    """
    durations = [end - start for start, end in zip(starts, ends, strict=False)][-RECENT_EPOCHS:]
    return median(durations) * max(0, epochs_left) if durations else 0.0
