"""The transforms of Winograd's form: tiles of images to 36 planes, and planes to pixels, in memory used by turns."""

import threading
from math import prod

import torch
from torch import Tensor

from nnunetv2_unet3plus.building_blocks.minimal_filtering import INPUT_SIDE, OUTPUT_SIDE, minimal_filtering

PLANES = INPUT_SIDE**2


class Workspace:
    """Memory for what is computed strip by strip: used by turns, it stays in the cache.

    And it stays from call to call, some ten MB, for convolutions of 512 channels about 80 MB and 40 MB a thread: fresh
    memory costs a page fault for every 4 kB, which took half the time of small maps.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        """For tensors of a type, on the CPU."""
        self._dtype = dtype
        self._buffers: dict[str, Tensor] = {}
        self.of_input, self.of_kernel, self.of_output = minimal_filtering(dtype)

    def tensor(self, name: str, *shape: int) -> Tensor:
        """A contiguous tensor of this shape; the next of this name overwrites it."""
        size = prod(shape)
        if name not in self._buffers or self._buffers[name].numel() < size:
            with torch.inference_mode(False):  # what prediction has made, training may use
                self._buffers[name] = torch.empty(size, dtype=self._dtype, device="cpu")
        return self._buffers[name][:size].view(shape)

    def transform(self, tiles: Tensor, matrix: Tensor, name: str) -> Tensor:
        """Multiply both axes of tiles ``(n * n, values)`` by a matrix ``(m, n)``: ``(m * m, values)``.

        One axis after the other: their Kronecker product would be one matrix product, but several times the work.
        """
        (m, n), values = matrix.shape, tiles.shape[1]
        half = self.tensor("half", n, m, values)
        torch.bmm(matrix.expand(n, m, n), tiles.view(n, n, values), out=half)
        whole = self.tensor(name, m, m * values)  # in place of the tiles, where their name is the same
        return torch.mm(matrix, half.view(n, m * values), out=whole).view(m * m, values)

    def input_planes(self, image: Tensor, start: int, stop: int) -> Tensor:
        """Of some rows of tiles of 6 x 6 pixels, one every four pixels, zeros beyond the border.

        Args:
            image: of shape ``(H, W, C)``, contiguous.
            start: first row of tiles.
            stop: last row of tiles, exclusive.

        Returns:
            Of shape ``(36, tiles, C)``; the next call overwrites it.
        """
        return self._planes("inputs", image, start, stop, self.of_input)

    def gradient_planes(self, image: Tensor, start: int, stop: int) -> Tensor:
        """As `input_planes`, of tiles of 4 x 4 pixels beside each other: the adjoint of `write_pixels`."""
        return self._planes("outputs", image, start, stop, self.of_output.T)

    def _planes(self, name: str, image: Tensor, start: int, stop: int, matrix: Tensor) -> Tensor:
        tiles = self._tiles(image, start, stop, matrix.shape[1], name)
        return self.transform(tiles, matrix, name).view(PLANES, -1, image.shape[2])

    def _tiles(self, image: Tensor, start: int, stop: int, side: int, name: str) -> Tensor:
        """Tiles as they are: ``(side * side, tiles * C)``."""
        border, columns = (side - OUTPUT_SIDE) // 2, tile_grid(image)[1]
        height, width, channels = image.shape
        top, bottom = start * OUTPUT_SIDE - border, stop * OUTPUT_SIDE + border
        strip = self.tensor("strip", bottom - top, columns * OUTPUT_SIDE + 2 * border, channels).zero_()
        first, last = max(top, 0), min(bottom, height)
        strip[first - top : last - top, border : border + width] = image[first:last]
        tiles = self.tensor(name, side, side, stop - start, columns, channels)
        tiles.copy_(strip.unfold(0, side, OUTPUT_SIDE).unfold(1, side, OUTPUT_SIDE).permute(3, 4, 0, 1, 2))
        return tiles.view(side * side, -1)

    def write_pixels(self, planes: Tensor, image: Tensor, start: int, stop: int, bias: Tensor | None) -> None:
        """Write some rows of tiles of 4 x 4 pixels.

        Args:
            planes: of shape ``(36, tiles, C)``.
            image: of shape ``(H, W, C)``, contiguous.
            start: first row of tiles.
            stop: last row of tiles, exclusive.
            bias: of shape ``(C,)``, added to every pixel, or None.
        """
        side, (_, width, channels), columns = OUTPUT_SIDE, image.shape, tile_grid(image)[1]
        tiles = self.transform(planes.view(PLANES, -1), self.of_output, "outputs")
        tiles = tiles.view(side, side, stop - start, columns, channels).permute(2, 0, 3, 1, 4)
        whole = self.tensor("half", *tiles.shape).copy_(tiles).view((stop - start) * side, columns * side, channels)
        rows = image[start * side : stop * side]
        rows.copy_(whole[: rows.shape[0], :width])
        if bias is not None:
            rows += bias


class _Workspaces(threading.local):
    """One a thread and type."""

    def __init__(self) -> None:
        """None yet."""
        self._of_type: dict[torch.dtype, Workspace] = {}

    def of(self, x: Tensor) -> Workspace:
        """For tensors like this one."""
        if x.dtype not in self._of_type:
            self._of_type[x.dtype] = Workspace(x.dtype)
        return self._of_type[x.dtype]


WORKSPACES = _Workspaces()


def tile_grid(image: Tensor) -> tuple[int, int]:
    """Rows and columns of tiles of an image ``(H, W, C)``."""
    return -(-image.shape[0] // OUTPUT_SIDE), -(-image.shape[1] // OUTPUT_SIDE)
