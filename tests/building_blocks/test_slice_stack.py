"""Stacks of adjacent slices, by hand."""

import pytest
import torch

from nnunetv2_unet3plus.building_blocks.slice_stack import batch_to_slices, slices_to_batch, stack_slices


def patch(*numbers):
    """One channel, slices of one voxel."""
    return torch.tensor(numbers).view(1, 1, -1, 1, 1)


def rows(stacks):
    return stacks.flatten(1).tolist()


@pytest.mark.parametrize(
    ("slices", "numbers", "expected"),
    [
        (3, [7, 8, 9, 5], [[7, 7, 8], [7, 8, 9], [8, 9, 5], [9, 5, 5]]),
        (1, [7, 8], [[7], [8]]),
        (3, [7], [[7, 7, 7]]),
        (5, [7, 8], [[7, 7, 7, 8, 8], [7, 7, 8, 8, 8]]),
        (5, [1, 2, 3, 4, 5], [[1, 1, 1, 2, 3], [1, 1, 2, 3, 4], [1, 2, 3, 4, 5], [2, 3, 4, 5, 5], [3, 4, 5, 5, 5]]),
    ],
)
def test_neighbours_and_repeated_edges(slices, numbers, expected):
    assert rows(stack_slices(patch(*numbers), slices)) == expected


def test_all_channels_of_a_slice_before_those_of_the_next():
    """Two patches of two channels and three slices; a value reads patch, channel, slice."""
    x = torch.tensor([[[111, 112, 113], [121, 122, 123]], [[211, 212, 213], [221, 222, 223]]]).view(2, 2, 3, 1, 1)
    assert rows(stack_slices(x, 3)) == [
        [111, 121, 111, 121, 112, 122],
        [111, 121, 112, 122, 113, 123],
        [112, 122, 113, 123, 113, 123],
        [211, 221, 211, 221, 212, 222],
        [211, 221, 212, 222, 213, 223],
        [212, 222, 213, 223, 213, 223],
    ]


def test_images_stay_whole():
    x = torch.randn(2, 2, 4, 5, 7)
    stacks = stack_slices(x, 3)
    assert stacks.shape == (8, 6, 5, 7)
    assert stacks.is_contiguous()
    assert stacks[4 + 2, 2:4].equal(x[1, :, 2])
    assert stacks[4 + 2, 4:].equal(x[1, :, 3])


def test_batch_of_slices_and_back():
    x = torch.randn(2, 3, 4, 5, 6)
    images = slices_to_batch(x)
    assert images.shape == (8, 3, 5, 6)
    assert images[4 + 1].equal(x[1, :, 1])
    assert batch_to_slices(images, 4).equal(x)


def test_way_back_copies_nothing():
    images = torch.randn(8, 3, 5, 6)
    patches = batch_to_slices(images, 4)
    assert patches.data_ptr() == images.data_ptr()
    assert slices_to_batch(patches).data_ptr() == images.data_ptr()


def test_middle_slice_of_a_stack_of_one_channel_is_the_image():
    x = torch.randn(2, 1, 4, 5, 6)
    assert stack_slices(x, 5)[:, 2:3].equal(slices_to_batch(x))
