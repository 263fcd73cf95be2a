"""UNet 3+ as a reader of the paper would write it: the oracle for our decoder, and the baseline of the benchmarks.

Every map is brought to the stage's grid first, pooled or interpolated at once; every branch is conv - norm - nonlin of
its own; then concatenation and fusion (Huang et al., ICASSP 2020, eq. 1). Parameters carry the names of
``FullScaleDecoder``, so one state dict fits both. The blocks taken over from our networks are PyTorch's own operators
here: they recompute nothing outside ``own_operators``.
"""

from copy import deepcopy

import torch
from torch import nn
from torch.nn import functional


class TextbookUNet3Plus(nn.Module):
    """The same encoder, then eq. 1 to the letter."""

    def __init__(self, network, stage_class=None):
        super().__init__()
        self.encoder = deepcopy(network.encoder)
        self.decoder = TextbookDecoder(network, stage_class or TextbookStage)

    def forward(self, x):
        return self.decoder(self.encoder(x))


class TextbookDecoder(nn.Module):
    def __init__(self, network, stage_class):
        super().__init__()
        self.strides = network.encoder.strides
        self.deep_supervision = network.decoder.deep_supervision
        self.own_grids = stage_class is TextbookLiteStage
        self.stages = nn.ModuleList(stage_class(stage) for stage in network.decoder.stages)
        self.seg_layers = nn.ModuleList(plain_conv(head) for head in network.decoder.seg_layers)

    def forward(self, skips):
        decoded = [skips[-1]]
        for i in reversed(range(len(self.stages))):
            size = skips[i].shape[2:]
            maps = [pool(skips[k], self.strides[k + 1 : i + 1]) for k in range(i)]
            maps += [skips[i]]
            maps += decoded if self.own_grids else [upsample(x, size) for x in decoded]
            decoded.insert(0, self.stages[i](maps))
        if not self.deep_supervision:
            return self.seg_layers[0](decoded[0])
        return [head(x) for head, x in zip(self.seg_layers, decoded, strict=True)]


class TextbookStage(nn.Module):
    def __init__(self, stage):
        super().__init__()
        self.encoder_branches = deepcopy(stage.encoder_branches)
        self.decoder_branches = nn.ModuleList(plain_conv(conv) for conv in stage.decoder_branches)
        self.norm = deepcopy(stage.norm)
        self.nonlin = getattr(self.norm, "nonlin", deepcopy(stage.nonlin))
        self.fusion = deepcopy(stage.fusion)
        self.fusion.conv = self.fusion.all_modules[0] = plain_conv(stage.fusion.conv)

    def forward(self, maps):
        width = self.encoder_branches[0].out_channels
        branches = []
        for k, (conv, x) in enumerate(zip([*self.encoder_branches, *self.decoder_branches], maps, strict=True)):
            branches.append(self.nonlin(norm_of_channels(self.norm, conv(x), slice(k * width, (k + 1) * width))))
        return self.fusion(torch.cat(branches, dim=1))


class TextbookUNet3PlusLite(TextbookUNet3Plus):
    """Every coarser map convolved and activated where it is, then all on the next coarser grid."""

    def __init__(self, network):
        super().__init__(network, TextbookLiteStage)


class TextbookLiteStage(nn.Module):
    def __init__(self, stage):
        super().__init__()
        for name, child in deepcopy(stage).named_children():
            setattr(self, name, child)

    def forward(self, maps):
        n_finer = len(self.encoder_branches)
        finer, coarser = maps[:n_finer], maps[n_finer:]
        norm, width = self.encoder_norm.norm, self.encoder_branches[0].out_channels
        fine = [
            norm.nonlin(norm_of_channels(norm, conv(x), slice(k * width, (k + 1) * width)))
            for k, (conv, x) in enumerate(zip(self.encoder_branches, finer, strict=True))
        ]
        coarse = [
            upsample(block.norm.nonlin(norm_of_channels(block.norm, conv(x), slice(None))), coarser[0].shape[2:])
            for conv, block, x in zip(self.decoder_branches, self.decoder_norms, coarser, strict=True)
        ]
        share = upsample(self.coarse_fusion(torch.cat(coarse, dim=1)), finer[0].shape[2:])
        norm = self.norm.norm
        return norm.nonlin(norm_of_channels(norm, self.fine_fusion(torch.cat(fine, dim=1)) + share, slice(None)))


class TextbookNestedUNet(nn.Module):
    """UNet++ and UNet#: every source of a node upsampled, then concatenated, then convolved (UNet#, eq. 1)."""

    def __init__(self, network):
        super().__init__()
        self.encoder = deepcopy(network.encoder)
        self.decoder = TextbookNestedDecoder(network.decoder)

    def forward(self, x):
        return self.decoder(self.encoder(x))


class TextbookNestedDecoder(nn.Module):
    def __init__(self, decoder):
        super().__init__()
        self.depth = len(decoder.channels)
        # UNet# is what has heads on the diagonal
        self.far_edges = decoder.style.far_edges if len(decoder.branches) > self.depth - 1 else None
        self.nodes = plain_nodes(decoder.nodes)
        self.far = deepcopy(decoder.far)
        if self.far is not None:
            self.far.convs = nn.ModuleDict({key: plain_conv(conv) for key, conv in self.far.convs.items()})
        self.seg_layers = nn.ModuleDict({key: plain_conv(head) for key, head in decoder.seg_layers.items()})

    def forward(self, skips):
        maps = {f"{row}_0": skip for row, skip in enumerate(skips)}
        for column in range(1, self.depth):
            for row in range(self.depth - column):
                size = skips[row].shape[2:]
                sources = [maps[f"{row}_{before}"] for before in range(column)]
                sources.append(upsample(maps[f"{row + 1}_{column - 1}"], size))
                for k in range(2, column + 1) if self.far_edges else ():
                    key = f"{row + k}_{column - k}"
                    far = upsample(maps[key], size)
                    sources.append(
                        far if self.far_edges == "raw" else self.far.norm_and_nonlin(self.far.convs[key](far))
                    )
                maps[f"{row}_{column}"] = self.nodes[f"{row}_{column}"](torch.cat(sources, dim=1))
        deepest = self.depth - 1
        keys = [f"0_{column}" for column in range(deepest, 0, -1)]
        if self.far_edges:
            keys += [f"{row}_{deepest - row}" for row in range(1, self.depth)]
        return [self.seg_layers[key](maps[key]) for key in keys]


class TextbookPlainUNet(nn.Module):
    """U-Net: skip and upsampled map side by side, two convs."""

    full_scale = False

    def __init__(self, network):
        super().__init__()
        self.encoder = deepcopy(network.encoder)
        self.decoder = TextbookDiagonalDecoder(network.decoder, self.full_scale)

    def forward(self, x):
        return self.decoder(self.encoder(x))


class TextbookFullScaleUNet(TextbookPlainUNet):
    """UNet 3+ as the UNet# paper has it: the raw maps of all scales side by side, two convs."""

    full_scale = True


class TextbookDiagonalDecoder(nn.Module):
    def __init__(self, decoder, full_scale):
        super().__init__()
        self.full_scale = full_scale
        self.strides = decoder.strides
        self.nodes = plain_nodes(decoder.nodes)
        self.seg_layers = nn.ModuleDict({key: plain_conv(head) for key, head in decoder.seg_layers.items()})

    def forward(self, skips):
        deepest = len(skips) - 1
        decoded = [skips[-1]]
        for i in reversed(range(deepest)):
            finer = [pool(skips[k], self.strides[k + 1 : i + 1]) for k in range(i)] if self.full_scale else []
            coarser = [upsample(x, skips[i].shape[2:]) for x in (decoded if self.full_scale else decoded[:1])]
            decoded.insert(0, self.nodes[f"{i}_{deepest - i}"](torch.cat([*finer, skips[i], *coarser], dim=1)))
        return [head(x) for head, x in zip(self.seg_layers.values(), decoded, strict=False)]


def plain_nodes(nodes):
    nodes = deepcopy(nodes)
    for node in nodes.values():
        for block in node.convs:
            block.conv = block.all_modules[0] = plain_conv(block.conv)
    return nodes


def plain_conv(conv):
    conv_op = {2: nn.Conv2d, 3: nn.Conv3d}[len(conv.kernel_size)]
    plain = conv_op(
        conv.in_channels, conv.out_channels, conv.kernel_size, padding=conv.padding, bias=conv.bias is not None
    )
    return plain.to(conv.weight.dtype)


def norm_of_channels(norm, x, channels):
    """What a norm of its own for these channels would do."""
    if isinstance(norm, nn.modules.batchnorm._BatchNorm):
        return functional.batch_norm(
            x,
            norm.running_mean[channels],
            norm.running_var[channels],
            norm.weight[channels],
            norm.bias[channels],
            training=norm.training,
            momentum=norm.momentum,
            eps=norm.eps,
        )
    return functional.instance_norm(x, weight=norm.weight[channels], bias=norm.bias[channels], eps=norm.eps)


def pool(x, strides):
    total = torch.tensor([list(s) for s in strides]).prod(0).tolist()
    max_pool = {2: functional.max_pool2d, 3: functional.max_pool3d}[len(total)]
    return max_pool(x, total, total, ceil_mode=True)


def upsample(x, size):
    return functional.interpolate(x, size=size, mode={4: "bilinear", 5: "trilinear"}[x.ndim], align_corners=False)
