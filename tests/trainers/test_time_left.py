import pytest
from nnunetv2.training.logging.nnunet_logger import LocalLogger
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_unet3plus.trainers.time_left import RECENT_EPOCHS, TimeLeftMixin, seconds_left


class LogOnly(TimeLeftMixin):
    """A trainer with a logger and a log, and nothing to train."""

    def __init__(self, num_epochs):
        self.logger = LocalLogger()
        self.current_epoch = 0
        self.num_epochs = num_epochs
        self.lines = []

    def print_to_log_file(self, *args, **kwargs):
        self.lines.append(" ".join(map(str, args)))

    def run_epoch(self, start, end):
        self.logger.log("epoch_start_timestamps", start, self.current_epoch)
        self.logger.log("epoch_end_timestamps", end, self.current_epoch)
        self.on_epoch_end()


@pytest.fixture
def silent_epoch_end(monkeypatch):
    """nnU-Net's own end of an epoch, reduced to what the mixin relies on."""

    def on_epoch_end(self):
        self.current_epoch += 1

    monkeypatch.setattr(nnUNetTrainer, "on_epoch_end", on_epoch_end)


@pytest.mark.usefixtures("silent_epoch_end")
def test_each_epoch_logs_one_line():
    trainer = LogOnly(num_epochs=1000)
    trainer.run_epoch(0.0, 10.0)
    trainer.run_epoch(10.0, 22.0)
    assert trainer.lines == ["Epoch 1 of 1000 done, 2:46:30 left", "Epoch 2 of 1000 done, 3:02:58 left"]


@pytest.mark.usefixtures("silent_epoch_end")
def test_nothing_left_after_the_last_epoch():
    trainer = LogOnly(num_epochs=1)
    trainer.run_epoch(0.0, 10.0)
    assert trainer.lines == ["Epoch 1 of 1 done, 0:00:00 left"]


@pytest.mark.usefixtures("silent_epoch_end")
def test_a_pause_before_resuming_does_not_count():
    stopped, resumed = LogOnly(num_epochs=3), LogOnly(num_epochs=3)
    stopped.run_epoch(0.0, 10.0)
    resumed.logger.load_checkpoint(stopped.logger.get_checkpoint())
    resumed.current_epoch = 1
    resumed.run_epoch(1e6, 1e6 + 10.0)
    assert resumed.lines == ["Epoch 2 of 3 done, 0:00:10 left"]


def test_nothing_timed_yet_is_no_error():
    assert seconds_left([], [], 5) == 0.0
    assert seconds_left([1.0], [], 5) == 0.0


def test_one_slow_epoch_does_not_matter():
    starts, ends = [0.0, 10.0, 20.0], [10.0, 20.0, 1000.0]
    assert seconds_left(starts, ends, 4) == 40.0


def test_only_recent_epochs_count():
    starts = [100.0 * i for i in range(50)] + [5000.0 + i for i in range(RECENT_EPOCHS)]
    ends = [start + (100.0 if i < 50 else 1.0) for i, start in enumerate(starts)]
    assert seconds_left(starts, ends, 7) == 7.0


def test_more_epochs_done_than_asked_for():
    assert seconds_left([0.0], [10.0], -3) == 0.0
