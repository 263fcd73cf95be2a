"""Gated logits against the paper's product of probabilities, and what nnU-Net's averaging makes of them."""

import math

import pytest
import torch

from nnunetv2_unet3plus.building_blocks.gating import MARGIN, Gating

SIZE = torch.Size([3, 4])


def answer(*probabilities):
    """Gate logits (B, classes, 2) that say these P(present), one tuple a patch."""
    present = torch.tensor(probabilities).logit()
    return torch.stack([torch.zeros_like(present), present], dim=2)


def decoded(*shape, seed=0):
    return torch.randn(*shape, *SIZE, generator=torch.Generator().manual_seed(seed)) * 5


def never(patches):
    raise AssertionError("the decoder was asked")


class TestHard:
    def test_one_class_is_the_papers_product(self):
        for regions, channels in ((True, 1), (False, 2)):
            gating = Gating(1, regions)
            logits = decoded(2, channels)
            gated = gating(answer((0.9,), (0.1,)), SIZE, lambda patches, logits=logits: logits[patches])
            probability = torch.sigmoid(logits) if regions else logits.softmax(1)[:, 1:]
            ours = torch.sigmoid(gated) if regions else gated.softmax(1)[:, 1:]
            product = probability * torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)
            assert (ours - product).abs().max() <= math.exp(-MARGIN)

    @pytest.mark.parametrize("regions", [False, True])
    def test_absent_is_background_everywhere_and_the_decoder_is_not_asked(self, regions):
        gating = Gating(2, regions)
        gated = gating(answer((0.1, 0.2), (0.3, 0.4)), SIZE, never)
        assert gated.shape == (2, 2 if regions else 3, *SIZE)
        probability = torch.sigmoid(gated) if regions else gated.softmax(1)[:, 1:]
        assert probability.max() < 1e-4
        assert (gating.count.seen, gating.count.skipped) == (2, 2)

    @pytest.mark.parametrize("regions", [False, True])
    def test_early_exit_changes_no_logit(self, regions):
        gating = Gating(2, regions)
        logits = decoded(2, 2 if regions else 3)
        gate_logits = answer((0.1, 0.2), (0.9, 0.4))  # the second patch needs the decoder
        asked = []
        gated = gating(gate_logits, SIZE, lambda patches: asked.append(patches.tolist()) or logits[patches])
        assert asked == [[False, True]]
        assert gated.equal(gating.guide(gate_logits, logits))
        assert (gating.count.seen, gating.count.skipped) == (2, 1)

    def test_one_class_of_two(self):
        logits = torch.tensor([[2.0, 7.0, 5.0], [2.0, -9.0, 5.0]])[..., None, None]  # background, liver, tumour
        gated = Gating(2, regions=False).hard(logits, torch.tensor([[False, True], [False, True]]))
        assert gated[..., 0, 0].tolist() == [[2.0, -8.0, 5.0], [2.0, -9.0, 5.0]]  # to 2 - 10, or left lower than that

    def test_threshold_zero_never_gates(self):
        gating = Gating(1, regions=True)
        gating.thresholds.zero_()
        logits = decoded(1, 1)
        assert gating(answer((0.0,)), SIZE, lambda patches: logits[patches]).equal(logits)

    @pytest.mark.parametrize("regions", [False, True])
    def test_finite_in_half_precision_under_nnunets_weights(self, regions):
        gating = Gating(2, regions)
        logits = torch.full((1, 2 if regions else 3, *SIZE), 100.0, dtype=torch.float16)
        for present in ((False, False), (True, False)):
            weighted = gating.hard(logits, torch.tensor([present])) * 10  # nnU-Net's largest Gaussian weight
            assert weighted.dtype == torch.float16
            assert weighted.isfinite().all()


class TestSoft:
    def test_adds_the_logarithm_of_presence(self):
        gating = Gating(1, regions=False, mode="soft")
        logits = decoded(1, 2)
        gated = gating(answer((0.25,)), SIZE, lambda patches: logits[patches])
        torch.testing.assert_close(gated[:, 1], logits[:, 1] + math.log(0.25))
        assert gated[:, 0].equal(logits[:, 0])

    def test_is_finite_where_presence_is_zero(self):
        gating = Gating(1, regions=True, mode="soft")
        logits = decoded(1, 1).half()
        gated = gating(torch.tensor([[[1e4, -1e4]]]), SIZE, lambda patches: logits[patches])
        torch.testing.assert_close(gated, logits - MARGIN)


class TestOverlappingTiles:
    """nnU-Net adds up weighted logits; one tile calls the class absent, its neighbour says present."""

    @staticmethod
    def average(absent_weight, present_logit):
        gating = Gating(1, regions=False)
        absent = gating(answer((0.0,)), torch.Size([1, 1]), never)
        logits = torch.tensor([0.0, present_logit]).view(1, 2, 1, 1)
        present = gating(answer((1.0,)), torch.Size([1, 1]), lambda patches: logits[patches])
        average = absent_weight * absent + (1 - absent_weight) * present
        return bool(average.softmax(1)[0, 1] > 0.5)

    # the absent tile votes -10: with weight w it loses to a logit above 10 w / (1 - w)
    @pytest.mark.parametrize(
        ("absent_weight", "present_logit", "in_mask"),
        [(0.5, 9.9, False), (0.5, 10.1, True), (0.25, 3.3, False), (0.25, 3.4, True), (0.05, 0.6, True)],
    )
    def test_mask(self, absent_weight, present_logit, in_mask):
        assert self.average(absent_weight, present_logit) is in_mask

    @pytest.mark.parametrize("regions", [False, True])
    @pytest.mark.parametrize("mirrored", [False, True])
    def test_through_nnunets_predictor(self, regions, mirrored):
        """A scan of 8 x 12 in tiles of 8 x 8: the gate lets only the right tile through."""
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
        from nnunetv2.inference.sliding_window_prediction import compute_gaussian

        class Network(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.gating = Gating(1, regions)

            def forward(self, x):
                bright = torch.stack([-x.amax((1, 2, 3)), x.amax((1, 2, 3))], dim=1)[:, None]
                foreground = torch.full_like(x, 4.0)
                logits = foreground if regions else torch.cat([torch.zeros_like(x), foreground], dim=1)
                return self.gating(bright, x.shape[2:], lambda patches: logits[patches])

        class Plan:
            patch_size = (8, 8)

        class Labels:
            num_segmentation_heads = 1 if regions else 2

        predictor = nnUNetPredictor(
            use_mirroring=mirrored, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
        )
        predictor.network = Network()
        predictor.configuration_manager = Plan
        predictor.label_manager = Labels
        predictor.allowed_mirroring_axes = (0, 1)
        scan = torch.full((1, 1, 8, 12), -1.0)
        scan[..., 10:] = 1  # seen by the tile of columns 4 to 11, not by that of 0 to 7
        logits = predictor.predict_sliding_window_return_logits(scan).float()
        vote = logits[0] if regions else logits[1] - logits[0]

        weight = compute_gaussian(
            (8, 8), sigma_scale=1.0 / 8, value_scaling_factor=10, device=torch.device("cpu")
        ).float()
        left, right = torch.zeros(8, 12), torch.zeros(8, 12)
        left[:, :8], right[:, 4:] = weight, weight
        expected = (4.0 * right - MARGIN * left) / (left + right)
        torch.testing.assert_close(vote[0], expected, rtol=0.02, atol=0.05)
        views = 4 if mirrored else 1
        assert (predictor.network.gating.count.seen, predictor.network.gating.count.skipped) == (2 * views, views)


def test_unknown_mode():
    with pytest.raises(ValueError, match="gating must be 'hard' or 'soft', not 'firm'"):
        Gating(1, regions=False, mode="firm")


def test_skipped_patches_are_told_when_the_network_is_done_with(capsys):
    gating = Gating(1, regions=True)
    gating(answer((0.1,), (0.1,)), SIZE, never)
    gating(answer((0.9,)), SIZE, lambda patches: decoded(1, 1)[patches])
    del gating
    assert capsys.readouterr().out == "Classification gate: decoder skipped for 2 of 3 patches.\n"
