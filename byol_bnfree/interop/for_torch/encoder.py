"""A residual encoder trained by byol_bnfree, in PyTorch; needs torch and nothing else.

    from encoder import load_encoder

    encoder = load_encoder()       # the weights beside this file
    features = encoder(images)     # [b c h w], uint8 or floats in [0, 1] -> [b d]
    maps = encoder.stages(images)  # of every stage, largest first

Mean and deviation of the pixels are inside. The weights have torchvision's names, and
`norm` is the last norm of a network with pre-activation blocks (ResNet v2).
"""

import json
import math
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

WEIGHTS = ("encoder.safetensors", "model.safetensors")
DTYPES = {"F32": torch.float32, "I64": torch.int64}
ROUNDING = 1e-3  # tolerance beyond [0, 1]; a resize in bfloat16 may leave it by as much


def load_encoder(path: str | Path | None = None) -> "Encoder":
    """The encoder of a file, or of the one beside this program; in inference mode."""
    beside = map(Path(__file__).with_name, WEIGHTS)
    state, metadata = read_safetensors(path or next(p for p in beside if p.exists()))
    description = json.loads(metadata["byol_bnfree"])
    state = plain(state, description["network"])
    encoder = Encoder(description, state)
    encoder.load_state_dict(state)
    return encoder.eval()


def plain(state: dict, net: dict) -> dict:
    """The same network with plain kernels and plain running values.

    Weight standardization (arXiv 1903.10520, scaled as in 2101.08692) is done once.
    BatchNorm's running values began at zero, which is divided out.
    """
    found = dict(state)
    standardized = net["norm"] in ("gn_ws", "ws") and net["standardize_conv"]
    for name, value in state.items():
        module, _, leaf = name.rpartition(".")
        if value.ndim == 4 and standardized:
            centred = value - value.mean((1, 2, 3), keepdim=True)
            variance = centred.square().mean((1, 2, 3), keepdim=True)
            fan_in = value[0].numel()
            found[name] = centred * torch.rsqrt(variance * fan_in + 1e-6)
            if net.get("unit_kernels"):  # as in arXiv 1903.10520 itself
                found[name] *= math.sqrt(fan_in)
        if leaf in ("running_mean", "running_var"):
            count = int(state[f"{module}.num_batches_tracked"])
            if count == 0:
                found[name] = torch.full_like(value, leaf == "running_var")
            else:
                found[name] = value / (1 - 0.9**count)
    return found


def read_safetensors(path: str | Path) -> tuple[dict, dict]:
    """Tensors by name, and the metadata: a JSON header, then the numbers."""
    data = bytearray(Path(path).read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        count, offset = math.prod(entry["shape"]), start + entry["data_offsets"][0]
        flat = torch.frombuffer(
            data, dtype=DTYPES[entry["dtype"]], count=count, offset=offset
        )
        tensors[name] = flat.reshape(entry["shape"]).clone()
    return tensors, metadata


class Encoder(nn.Module):
    """A ResNet without classifier; `description` is the file's own."""

    def __init__(self, description: dict, state: dict):
        super().__init__()
        net, images = description["network"], description["preprocessing"]
        mean, std = (torch.tensor(images[key]) for key in ("mean", "std"))
        if images["channels"] not in (None, len(mean)):
            mean, std = mean.mean(0, keepdim=True), std.mean(0, keepdim=True)
        self.description = description
        self.register_buffer("mean", mean[:, None, None], persistent=False)
        self.register_buffer("std", std[:, None, None], persistent=False)
        self.padding, self.pooled = net["padding"], net["stem"] == "imagenet"
        stride = 2 if self.pooled else net["stem_stride"]
        self.conv1 = self.conv(state, "conv1", stride)
        self.preactivation = "norm.weight" in state  # ResNet v2
        block = PreactivationBlock if self.preactivation else Block
        if not self.preactivation:
            self.bn1 = norm(net, state, "bn1")
        self.layers = []
        while f"layer{len(self.layers) + 1}.0.conv1.weight" in state:
            name = f"layer{len(self.layers) + 1}"
            blocks, stride = [], 2 if self.layers else 1
            while f"{name}.{len(blocks)}.conv1.weight" in state:
                place = f"{name}.{len(blocks)}"
                blocks.append(block(self, net, state, place, 1 if blocks else stride))
            self.add_module(name, nn.Sequential(*blocks))
            self.layers.append(name)
        if self.preactivation:
            self.norm = norm(net, state, "norm")

    def state_dict(self, *, prefix: str = "", **options) -> dict:
        """The weights; their metadata tell `load_encoder` of byol_bnfree the network.

        The kernels are plain, so the norm is that of a network with plain kernels.
        """
        state = super().state_dict(prefix=prefix, **options)
        net = dict(self.description["network"], unit_kernels=False)
        net["norm"] = {"gn_ws": "gn", "ws": "none"}.get(net["norm"], net["norm"])
        metadata = getattr(state, "_metadata", {}).get(prefix.removesuffix("."), {})
        metadata["byol_bnfree"] = json.dumps(self.description | {"network": net})
        return state

    def conv(self, state: dict, name: str, stride: int) -> "Conv":
        """The convolution with the weights of this name."""
        out, into, size, _ = state[f"{name}.weight"].shape
        return Conv(into, out, size, stride, self.padding == "same")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[b c h w], uint8 or floats in [0, 1], to [b d]; see `check` for errors."""
        return self.stages(images)[-1].mean((2, 3))

    def stages(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The feature maps that leave every stage."""
        check(images, self.conv1.in_channels)
        x = images.to(self.mean.dtype)
        x = x / 255 if images.dtype == torch.uint8 else x
        x = (x - self.mean) / self.std
        if self.padding == "solo_learn" and not self.pooled:
            x = F.pad(x, (1, 1, 1, 1))
        x = self.conv1(x)
        if not self.preactivation:
            x = torch.relu(self.bn1(x))
        if self.pooled:
            low = 0.0 if self.padding == "bit" else -math.inf
            x = F.max_pool2d(pad(x, 3, 2, self.padding == "same", low), 3, 2)
        maps = []
        for name in self.layers:
            x = getattr(self, name)(x)
            maps.append(x)
        if self.preactivation:
            maps[-1] = torch.relu(self.norm(x))
        return maps


def check(images: torch.Tensor, channels: int) -> None:
    """Raise ValueError unless images are uint8, or floats in [0, 1], [b c h w].

    Compiled, exported and traced programs check the type only, because they know no
    values.
    """
    if not isinstance(images, torch.Tensor):
        raise ValueError(f"images are a {type(images).__name__}; give a torch.Tensor.")
    if not (images.dtype == torch.uint8 or images.is_floating_point()):
        raise ValueError(
            f"images are {images.dtype}; give uint8 pixels from 0 to 255, or floats "
            f"from 0 to 1."
        )
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return
    shape = tuple(images.shape)
    if len(shape) != 4 or 0 in shape:
        gray = channels == 1 and shape[:1] != (1,)
        example = "images[:, None] gives gray ones their channel"
        example = example if gray else "images[None] makes it a batch"
        example = f" ({example})" if len(shape) == 3 else ""
        raise ValueError(
            f"images have shape {shape}; give a batch [b c h w] of at least one "
            f"image{example}."
        )
    if shape[1] != channels:
        last = shape[3] == channels
        raise ValueError(
            f"images have {shape[1]} channel{'s' * (shape[1] > 1)} in their second "
            f"axis, but the encoder was trained on {channels}; "
            + ("move their last axis there." if last else "convert them first.")
        )
    if images.is_floating_point():
        check_range(images)


def check_range(images: torch.Tensor) -> None:
    """Raise ValueError for floats outside [0, 1]."""
    try:
        least, most = (float(x) for x in torch.aminmax(images.detach()))
    except RuntimeError:  # there are no values inside torch.func.vmap
        return
    if not (math.isfinite(least) and math.isfinite(most)):
        raise ValueError(
            "images hold NaN or infinity; give floats from 0 to 1, or uint8 pixels."
        )
    if least < -ROUNDING or most > 1 + ROUNDING:
        raise ValueError(
            f"images are floats from {least:g} to {most:g}; give floats from 0 to 1, "
            f"not normalized (divide pixels by 255), or uint8 pixels."
        )


class Block(nn.Module):
    """Two or three convolutions with norms, and a shortcut."""

    def __init__(self, encoder: Encoder, net: dict, state: dict, at: str, stride: int):
        super().__init__()
        self.count = 3 if f"{at}.conv3.weight" in state else 2
        strided = self.count - 1  # the first 3x3
        for i in range(1, self.count + 1):
            step = stride if i == strided else 1
            self.add_module(f"conv{i}", encoder.conv(state, f"{at}.conv{i}", step))
            self.add_module(f"bn{i}", norm(net, state, f"{at}.bn{i}"))
        self.downsample = nn.Identity()
        if f"{at}.downsample.0.weight" in state:
            self.downsample = nn.Sequential(
                encoder.conv(state, f"{at}.downsample.0", stride),
                *self.shortcut_norm(net, state, f"{at}.downsample.1"),
            )

    def shortcut_norm(self, net: dict, state: dict, name: str) -> list[nn.Module]:
        """The norm of a projected shortcut."""
        return [norm(net, state, name)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps to maps."""
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = torch.relu(y) if i < self.count else y
        return torch.relu(y + self.downsample(x))


class PreactivationBlock(Block):
    """Two or three convolutions, each after a norm and a ReLU."""

    def shortcut_norm(self, net: dict, state: dict, name: str) -> list[nn.Module]:
        """A projected shortcut has no norm of its own."""
        return []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps to maps."""
        y = torch.relu(self.bn1(x))
        shortcut = x if isinstance(self.downsample, nn.Identity) else self.downsample(y)
        for i in range(1, self.count + 1):
            y = torch.relu(getattr(self, f"bn{i}")(y)) if i > 1 else y
            y = getattr(self, f"conv{i}")(y)
        return shortcut + y


class Conv(nn.Conv2d):
    """A convolution that pads as TensorFlow does ("SAME"), or symmetrically."""

    def __init__(self, into: int, out: int, size: int, stride: int, same: bool):
        super().__init__(into, out, size, stride, bias=False)
        self.same = same

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps to maps."""
        return super().forward(pad(x, self.kernel_size[0], self.stride[0], self.same))


def pad(x: torch.Tensor, size: int, stride: int, same: bool, value: float = 0.0):
    """Padding for windows of `size`: the odd pixel goes last where `same`."""
    edges = []
    for length in (x.shape[3], x.shape[2]):
        total = max((-(-length // stride) - 1) * stride + size - length, 0)
        less, more = total // 2, total - total // 2
        edges += [less, more] if same else [more, less]
    return F.pad(x, edges, value=value)


def norm(net: dict, state: dict, name: str) -> nn.Module:
    """The normalization with the weights of this name."""
    channels = len(state[f"{name}.weight"])
    if net["norm"] == "bn":
        return nn.BatchNorm2d(channels)
    if net["norm"] in ("none", "ws"):
        return Affine(channels)
    groups = max(1, min(net["groups"], channels // net["min_group_channels"]))
    return nn.GroupNorm(1 if net["norm"] == "ln" else groups, channels)


class Affine(nn.Module):
    """A scale and an offset per channel, where there is no normalization."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps to maps."""
        return x * self.weight[:, None, None] + self.bias[:, None, None]
