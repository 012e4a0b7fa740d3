"""Features of some pictures by PyTorch, torchvision or timm: run by another Python.

`features.py KIND FOLDER`. FOLDER holds encoder.safetensors, encoder.py for the kind
`torch`, and pictures.npy, uint8 [b h w c]. It gets features.npy, and one JSON line is
printed with the versions. The networks of torchvision and timm are their own.
"""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn


def main(kind: str, folder: Path) -> None:
    """Read, compute, write."""
    sys.path[:0] = [str(folder), str(Path(__file__).parent)]
    from encoder import load_encoder, pad, read_safetensors

    pictures = torch.from_numpy(np.load(folder / "pictures.npy", allow_pickle=False))
    pictures = pictures.permute(0, 3, 1, 2)
    weights = folder / "encoder.safetensors"
    versions = {"torch": torch.__version__}
    if kind == "torch":
        model = load_encoder(weights)
    else:
        state, metadata = read_safetensors(weights)
        description = json.loads(metadata["byol_bnfree"])
        make = {"torchvision": torchvision_model, "timm": timm_model}[kind]
        net, version = make(description["network"], state, pad)
        versions[kind] = version
        net.load_state_dict(state)
        model = nn.Sequential(Normalize(description["preprocessing"]), net.eval())
    # Small parts keep the memory of a large network low.
    with torch.inference_mode():
        parts = [model(part).flatten(1) for part in pictures.split(16)]
    np.save(folder / "features.npy", torch.cat(parts).numpy())
    print(json.dumps(versions))


class Normalize(nn.Module):
    """uint8 pixels as the network takes them."""

    def __init__(self, preprocessing: dict):
        super().__init__()
        mean, std = (torch.tensor(preprocessing[key]) for key in ("mean", "std"))
        if preprocessing["channels"] not in (None, len(mean)):
            mean, std = mean.mean(0, keepdim=True), std.mean(0, keepdim=True)
        self.mean, self.std = mean[:, None, None], std[:, None, None]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """[b c h w]."""
        return (pixels.float() / 255 - self.mean) / self.std


def torchvision_model(net: dict, state: dict, pad) -> tuple[nn.Module, str]:
    """torchvision's ResNet with the norm of the file, and its padding."""
    import torchvision
    from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

    bottleneck = "layer1.0.conv3.weight" in state
    block = Bottleneck if bottleneck else BasicBlock
    blocks = [
        len({n.split(".")[1] for n in state if n.startswith(f"layer{g}.")})
        for g in (1, 2, 3, 4)
    ]

    def group_norm(channels: int) -> nn.Module:
        return nn.GroupNorm(groups_of(net, channels), channels)

    norm = {"bn": nn.BatchNorm2d, "gn": group_norm}[net["norm"]]
    model = ResNet(block, blocks, norm_layer=norm)
    model.fc = nn.Identity()
    channels = state["conv1.weight"].shape[1]
    if net["stem"] == "small":  # as is usual for small pictures
        model.conv1 = nn.Conv2d(channels, 64, 3, net["stem_stride"], 1, bias=False)
        model.maxpool = nn.Identity()
    elif channels != 3:
        model.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    if net["padding"] == "same":
        pad_as_same(model, pad)
    return model, torchvision.__version__


def groups_of(net: dict, channels: int) -> int:
    """Groups of a GroupNorm: as many as leave enough channels in each."""
    return max(1, min(net["groups"], channels // net["min_group_channels"]))


def pad_as_same(model: nn.Module, pad) -> None:
    """Strided layers pad as TensorFlow does."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            size, stride = (
                (n, n) if isinstance(n, int) else n
                for n in (layer.kernel_size, layer.stride)
            )
            low = 0.0 if isinstance(layer, nn.Conv2d) else -float("inf")
            layer.padding = (0, 0)
            layer.register_forward_pre_hook(
                lambda _, x, k=size[0], s=stride[0], low=low: pad(x[0], k, s, True, low)
            )


def timm_model(net: dict, state: dict, pad) -> tuple[nn.Module, str]:
    """timm's ResNetV2 in either form, with layers from timm."""
    import timm
    from timm.layers import BatchNormAct2d, GroupNormAct, create_conv2d
    from timm.models.resnetv2 import ResNetV2

    same = net["padding"] == "same"
    stem = {"same": "same", "bit": "fixed"}.get(net["padding"], "")
    # Only bottleneck blocks have a third convolution.
    basic = "stages.0.blocks.0.conv3.weight" not in state

    def group_norm(channels: int, **options) -> nn.Module:
        return GroupNormAct(channels, num_groups=groups_of(net, channels), **options)

    norm = {"bn": BatchNormAct2d, "gn": group_norm}[net["norm"]]
    blocks = [
        len({n.split(".")[3] for n in state if n.startswith(f"stages.{g}.")})
        for g in range(4)
    ]
    conv = f"conv{2 if basic else 3}.weight"
    last = [state[f"stages.{g}.blocks.0.{conv}"].shape[0] for g in range(4)]
    model = ResNetV2(
        blocks,
        channels=last,
        stem_chs=state["stem.conv.weight"].shape[0],
        num_classes=0,
        in_chans=state["stem.conv.weight"].shape[1],
        preact="norm.weight" in state,
        basic=basic,
        bottle_ratio=1.0 if basic else 0.25,
        stem_type=stem,
        conv_layer=partial(create_conv2d, padding="same" if same else ""),
        norm_layer=norm,
    )
    return model, timm.__version__


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
