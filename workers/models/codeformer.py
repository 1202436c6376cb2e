"""CodeFormer (Zhou et al., NeurIPS 2022), written anew from the format of its checkpoint. Needs torch.

    image ─ encoder ─ tokens ─ transformer ─ logits ─ argmax ─ codes ─ (AdaIN) ─ generator ─ image
               └── features at 32, 64, 128, 256 px ── fusion, weighted by w ──┘

Parameter names are those of `codeformer.pth`, so its state dict loads strictly. Only used to convert that file and to
check the conversion: live sessions run the converted graph in ONNX Runtime.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

IMAGE_SIZE = 512
_WIDTH, _MULTIPLIERS, _RES_BLOCKS = 64, (1, 2, 2, 4, 4, 8), 2
_CODES, _CODE_WIDTH = 1024, 256
_TOKENS, _TOKEN_WIDTH, _MLP_WIDTH, _HEADS, _LAYERS = 256, 512, 1024, 8, 9
_FUSED = {256: (5, 18), 128: (8, 15), 64: (11, 12), 32: (14, 9)}
"""Picture size of the features → (encoder block they come from, generator block that they join after)."""


class Restored(NamedTuple):
    """What the network makes of a batch of B pictures."""

    image: Tensor  # (B, 3, 512, 512) RGB, to be clipped to -1 … 1
    logits: Tensor  # (B, 256, 1024), token = 16 row + column
    feature: Tensor  # (B, 256, 16, 16), what the transformer was given


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


def _conv(channels: int, out: int, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(channels, out, size, padding=size // 2)


class ResidualBlock(nn.Module):
    """Two normalised convolutions beside a shortcut."""

    def __init__(self, channels: int, out: int) -> None:
        """Map `channels` to `out`; the shortcut has weights only where they differ."""
        super().__init__()
        self.norm1, self.conv1 = _norm(channels), _conv(channels, out)
        self.norm2, self.conv2 = _norm(out), _conv(out, out)
        self.conv_out = _conv(channels, out, 1) if channels != out else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) → (B, out, H, W)."""
        y = self.conv1(functional.silu(self.norm1(x)))
        y = self.conv2(functional.silu(self.norm2(y)))
        shortcut: Tensor = x if self.conv_out is None else self.conv_out(x)
        return y + shortcut


class SpatialAttention(nn.Module):
    """One head over all positions."""

    def __init__(self, channels: int) -> None:
        """Keep `channels`."""
        super().__init__()
        self.norm = _norm(channels)
        self.q, self.k, self.v = (_conv(channels, channels, 1) for _ in range(3))
        self.proj_out = _conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → the same."""
        y = self.norm(x)
        query, key, value = (part(y).flatten(2) for part in (self.q, self.k, self.v))
        weights = torch.softmax(query.transpose(1, 2) @ key * x.shape[1] ** -0.5, dim=2)
        attended: Tensor = self.proj_out((value @ weights.transpose(1, 2)).view_as(x))
        return x + attended


class Halved(nn.Module):
    """Half the size; padded on the right and below only."""

    def __init__(self, channels: int) -> None:
        """Keep `channels`."""
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H/2, W/2)."""
        halved: Tensor = self.conv(functional.pad(x, (0, 1, 0, 1)))
        return halved


class Doubled(nn.Module):
    """Twice the size: nearest neighbour, then a convolution."""

    def __init__(self, channels: int) -> None:
        """Keep `channels`."""
        super().__init__()
        self.conv = _conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, 2H, 2W)."""
        doubled: Tensor = self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return doubled


def _level(channels: int, out: int, *, attends: bool) -> list[nn.Module]:
    blocks: list[nn.Module] = []
    for index in range(_RES_BLOCKS):
        blocks.append(ResidualBlock(channels if index == 0 else out, out))
        if attends:
            blocks.append(SpatialAttention(out))
    return blocks


def _middle(channels: int) -> list[nn.Module]:
    return [ResidualBlock(channels, channels), SpatialAttention(channels), ResidualBlock(channels, channels)]


class Stack(nn.Module):
    """Blocks in a row: the encoder, or the generator."""

    def __init__(self, blocks: list[nn.Module]) -> None:
        """Take the blocks, first to last."""
        super().__init__()
        self.blocks = nn.ModuleList(blocks)


def _encoder() -> Stack:
    widths = [_WIDTH * multiplier for multiplier in (1, *_MULTIPLIERS)]
    blocks: list[nn.Module] = [_conv(3, _WIDTH)]
    last = len(_MULTIPLIERS) - 1
    for level, (channels, out) in enumerate(pairwise(widths)):
        blocks += _level(channels, out, attends=level == last)
        if level != last:
            blocks.append(Halved(out))
    return Stack([*blocks, *_middle(widths[-1]), _norm(widths[-1]), _conv(widths[-1], _CODE_WIDTH)])


def _generator() -> Stack:
    widths = [_WIDTH * multiplier for multiplier in (_MULTIPLIERS[-1], *reversed(_MULTIPLIERS))]
    blocks: list[nn.Module] = [_conv(_CODE_WIDTH, widths[0]), *_middle(widths[0])]
    for level, (channels, out) in enumerate(pairwise(widths)):
        blocks += _level(channels, out, attends=level == 0)
        if level != len(_MULTIPLIERS) - 1:
            blocks.append(Doubled(out))
    return Stack([*blocks, _norm(_WIDTH), _conv(_WIDTH, 3)])


class CodebookRow(nn.Module):
    """The code vectors."""

    def __init__(self) -> None:
        """Make room for 1024 vectors."""
        super().__init__()
        self.embedding = nn.Embedding(_CODES, _CODE_WIDTH)

    def forward(self, codes: Tensor) -> Tensor:
        """(B, 256) row numbers → (B, 256, 16, 16)."""
        side = int(_TOKENS**0.5)
        rows: Tensor = self.embedding(codes)
        return rows.transpose(1, 2).reshape(-1, _CODE_WIDTH, side, side)


class TransformerLayer(nn.Module):
    """Self-attention and a feed-forward part, both normalised before; positions join queries and keys only."""

    def __init__(self) -> None:
        """Take the sizes of the checkpoint."""
        super().__init__()
        self.self_attn = nn.MultiheadAttention(_TOKEN_WIDTH, _HEADS)
        self.linear1 = nn.Linear(_TOKEN_WIDTH, _MLP_WIDTH)
        self.linear2 = nn.Linear(_MLP_WIDTH, _TOKEN_WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(_TOKEN_WIDTH), nn.LayerNorm(_TOKEN_WIDTH)

    def forward(self, tokens: Tensor, position: Tensor) -> Tensor:
        """(256, B, 512) and (256, 1, 512) → (256, B, 512)."""
        y = self.norm1(tokens)
        placed = y + position
        tokens = tokens + self.self_attn(placed, placed, y, need_weights=False)[0]
        fed: Tensor = self.linear2(functional.gelu(self.linear1(self.norm2(tokens))))
        return tokens + fed


class Fusion(nn.Module):
    """Mixes an encoder feature into a generator feature: scale and shift, weighted by the fidelity."""

    def __init__(self, channels: int) -> None:
        """Keep `channels`."""
        super().__init__()
        self.encode_enc = ResidualBlock(2 * channels, channels)
        self.scale, self.shift = (
            nn.Sequential(_conv(channels, channels), nn.LeakyReLU(0.2), _conv(channels, channels)) for _ in range(2)
        )

    def forward(self, encoded: Tensor, generated: Tensor, w: Tensor) -> Tensor:
        """Both (B, C, H, W), `w` a scalar → (B, C, H, W)."""
        z = self.encode_enc(torch.cat((encoded, generated), dim=1))
        mixed: Tensor = generated + w * (generated * self.scale(z) + self.shift(z))
        return mixed


def _adain(content: Tensor, style: Tensor) -> Tensor:
    """Give `content` the channel means and deviations of `style`; both (B, C, H, W)."""

    def moments(x: Tensor) -> tuple[Tensor, Tensor]:
        return x.mean((2, 3), keepdim=True), torch.sqrt(x.var((2, 3), keepdim=True, correction=1) + 1e-5)

    mean, deviation = moments(content)
    wanted_mean, wanted_deviation = moments(style)
    return (content - mean) / deviation * wanted_deviation + wanted_mean


class CodeFormer(nn.Module):
    """The whole network, with the sizes of `codeformer.pth`."""

    def __init__(self) -> None:
        """Make the parameters; load them with `load_state_dict(…, strict=True)`."""
        super().__init__()
        self.position_emb = nn.Parameter(torch.zeros(_TOKENS, _TOKEN_WIDTH))
        self.encoder, self.quantize, self.generator = _encoder(), CodebookRow(), _generator()
        self.feat_emb = nn.Linear(_CODE_WIDTH, _TOKEN_WIDTH)
        self.ft_layers = nn.ModuleList(TransformerLayer() for _ in range(_LAYERS))
        self.idx_pred_layer = nn.Sequential(nn.LayerNorm(_TOKEN_WIDTH), nn.Linear(_TOKEN_WIDTH, _CODES, bias=False))
        widths = {32: 256, 64: 256, 128: 128, 256: 128}
        self.fuse_convs_dict = nn.ModuleDict({str(size): Fusion(width) for size, width in widths.items()})

    def forward(self, image: Tensor, w: Tensor, *, adain: bool = True) -> Restored:
        """Restore aligned faces.

        `image` is (B, 3, 512, 512) RGB as (x / 255 - 0.5) / 0.5, `w` a scalar 0 … 1: higher stays closer to the input.
        """
        features: dict[int, Tensor] = {}
        x = image
        for index, block in enumerate(self.encoder.blocks):
            x = block(x)
            features[index] = x
        feature = x
        logits = self._predict(feature)
        x = self.quantize(logits.argmax(dim=2))
        if adain:
            x = _adain(x, feature)
        after = {joined: (size, source) for size, (source, joined) in _FUSED.items()}
        for index, block in enumerate(self.generator.blocks):
            x = block(x)
            if index in after:
                size, source = after[index]
                x = self.fuse_convs_dict[str(size)](features[source], x, w)
        return Restored(x, logits, feature)

    def _predict(self, feature: Tensor) -> Tensor:
        tokens: Tensor = self.feat_emb(feature.flatten(2).permute(2, 0, 1))
        position = self.position_emb.unsqueeze(1)
        for layer in self.ft_layers:
            tokens = layer(tokens, position)
        logits: Tensor = self.idx_pred_layer(tokens)
        return logits.permute(1, 0, 2)
