"""Models that nobody here made, small and randomly initialised: with batches, a slot and what fits there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint_sequential

logging.getLogger("transformers").setLevel(logging.ERROR)

VOCABULARY = 50


@dataclass(frozen=True)
class Host:
    """`batch(size, length)` makes a batch; `loss` is differentiable in every trainable part."""

    make: Callable[[], nn.Module]
    batch: Callable[[int, int], Any]
    slot: str
    blueprint: str
    output: int | str | None = None

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return self.make().train()


def run(model: nn.Module, batch: Any) -> Tensor:
    """The model's main output on a batch, flat: [N, ...]."""
    result = model(**batch) if isinstance(batch, dict) else model(batch)
    if isinstance(result, Tensor):
        return result
    return result["logits"] if "logits" in result else result["last_hidden_state"]  # type: ignore[no-any-return]


def loss_of(model: nn.Module, batch: Any) -> Tensor:
    """Some loss that depends on every element of the main output."""
    out = run(model, batch)
    return F.mse_loss(out, torch.linspace(-1, 1, out.numel()).reshape(out.shape))


def _tokens(size: int, length: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(size * 100 + length)
    return {"input_ids": torch.randint(VOCABULARY, (size, length), generator=generator)}


def _vectors(size: int, length: int, features: int = 16) -> Tensor:
    return torch.randn(size, length, features, generator=torch.Generator().manual_seed(size * 100 + length))


def _masked_vectors(size: int, length: int) -> dict[str, Tensor]:
    """The first example is shorter than the others."""
    mask = torch.zeros(size, length, dtype=torch.bool)
    mask[0, -1] = True
    return {"src": _vectors(size, length), "src_key_padding_mask": mask}


def _features(size: int, length: int) -> Tensor:
    return _vectors(size, 1).squeeze(1)


def _images(size: int, length: int) -> Tensor:
    """`length` is the side of the image in steps of 4 pixels."""
    generator = torch.Generator().manual_seed(size * 100 + length)
    return torch.randn(size, 3, 4 * length, 4 * length, generator=generator)


def _pixels(size: int, length: int) -> dict[str, Tensor]:
    return {"pixel_values": _images(size, length)}


def _fixed_pixels(size: int, length: int) -> dict[str, Tensor]:
    return {"pixel_values": _images(size, 4)}


def _gpt2() -> nn.Module:
    config = transformers.GPT2Config(
        n_embd=16, n_layer=2, n_head=2, vocab_size=VOCABULARY, n_positions=32, use_cache=False,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


def _bert() -> nn.Module:
    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        vocab_size=VOCABULARY, max_position_embeddings=32,
    )  # fmt: skip
    return transformers.BertModel(config, add_pooling_layer=False)


def _vit() -> nn.Module:
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        image_size=16, patch_size=4,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config)


def _resnet() -> nn.Module:
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
    )
    return transformers.ResNetForImageClassification(config)


def _convnext() -> nn.Module:
    config = transformers.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, patch_size=2)
    return transformers.ConvNextForImageClassification(config)


def _encoder(**options: Any) -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, **options)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=not options)


class BasicBlock(nn.Module):
    """The residual block of torchvision's ResNet: one in-place activation object, called twice."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)  # type: ignore[no-any-return]


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(BasicBlock(8, 8, 1))
        self.layer2 = nn.Sequential(BasicBlock(8, 16, 2), BasicBlock(16, 16, 1))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x)))))
        return self.fc(torch.flatten(self.avgpool(x), 1))  # type: ignore[no-any-return]


def _mobilenet() -> nn.Module:
    """Inverted residuals without the skip, as a Sequential of Sequentials, like torchvision's `features`."""

    def unit(channels: int, width: int, kernel: int, groups: int = 1) -> nn.Sequential:
        conv = nn.Conv2d(channels, width, kernel, padding=kernel // 2, groups=groups, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU6(inplace=True))

    features = nn.Sequential(
        unit(3, 8, 3), nn.Sequential(unit(8, 16, 1), unit(16, 16, 3, 16)), unit(16, 8, 1)
    )
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(8, 4))


class TimmBlock(nn.Module):
    """A ViT block as timm writes it: fused qkv, layer scale, two residuals."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.ls1, self.ls2 = nn.Parameter(torch.full((dim,), 0.1)), nn.Parameter(torch.full((dim,), 0.1))
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Dropout(0.1), nn.Linear(4 * dim, dim))
        self.heads = heads

    def attention(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, c)
        return self.proj(mixed)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1 * self.attention(self.norm1(x))
        return x + self.ls2 * self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class TimmViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, 16, 4, 4)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 16))
        self.blocks = nn.Sequential(TimmBlock(16, 2), TimmBlock(16, 2))
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        return self.head(self.norm(self.blocks(x))[:, 0])  # type: ignore[no-any-return]


class Checkpointed(nn.Module):
    """A Sequential whose segments are computed again in the backward pass."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.stem = nn.Linear(16, 16)
        self.layers = nn.Sequential(*(nn.Sequential(nn.Linear(16, 16), nn.GELU()) for _ in range(4)))
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if not torch.is_grad_enabled():
            return self.layers(x)  # type: ignore[no-any-return]
        return checkpoint_sequential(self.layers, 2, x, use_reentrant=self.reentrant)  # type: ignore[no-any-return]


class Twice(nn.Module):
    """One module under two names, called at both; a third is called at each of three steps."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(16, 16), nn.Tanh())
        self.again = self.inner
        self.cell = nn.Sequential(nn.Linear(16, 16), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.again(self.inner(x))
        for _ in range(3):
            x = x + self.cell(x)
        return x


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(16, 16, batch_first=True), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])  # type: ignore[no-any-return]


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 16), nn.ReLU(inplace=True), nn.Dropout(0.1), nn.Linear(16, 4))


HOSTS = {
    "gpt2": Host(_gpt2, _tokens, "transformer.h.0", "mlp_block"),
    "gpt2 attention": Host(_gpt2, _tokens, "transformer.h.1.attn", "norm", output=0),
    "bert": Host(_bert, _tokens, "encoder.layer.0.output", "attention"),
    "bert encoder": Host(_bert, _tokens, "encoder", "norm", output="last_hidden_state"),
    "vit": Host(_vit, _fixed_pixels, "vit.layers.0", "attention"),
    "resnet": Host(_resnet, _pixels, "resnet.encoder.stages.0", "conv_enhance"),
    "resnet stages": Host(_resnet, _pixels, "resnet.encoder", "depthwise", output="last_hidden_state"),
    "convnext": Host(_convnext, _pixels, "convnext.encoder.stages.0.layers.0", "depthwise"),
    "convnext inside": Host(_convnext, _pixels, "convnext.encoder.stages.1.layers.0.pwconv1", "mlp_block"),
    "encoder": Host(_encoder, _vectors, "layers.0.linear1", "mlp_block"),
    "encoder layer": Host(_encoder, _vectors, "layers.0", "attention"),
    "encoder attention": Host(_encoder, _vectors, "layers.1.self_attn", "norm", output=0),
    "encoder, pre-norm": Host(partial(_encoder, norm_first=True), _vectors, "layers.0", "norm"),
    "encoder, masked": Host(_encoder, _masked_vectors, "layers.0.norm2", "mlp_block"),
    "torchvision resnet": Host(ResNet, _images, "layer1", "conv_enhance"),
    "torchvision block": Host(ResNet, _images, "layer2.0.bn2", "depthwise"),
    "torchvision relu": Host(ResNet, _images, "layer1.0.relu", "conv_enhance"),
    "mobilenet": Host(_mobilenet, _images, "0.1", "depthwise"),
    "timm vit": Host(TimmViT, _images, "blocks.0", "attention"),
    "timm mlp": Host(TimmViT, _images, "blocks.1.mlp", "mlp_block"),
    "mlp": Host(_mlp, _features, "1", "mlp_block"),
    "checkpointed": Host(partial(Checkpointed, False), _vectors, "layers.1", "attention"),
    "checkpointed, reentrant": Host(partial(Checkpointed, True), _vectors, "layers.1", "attention"),
    "shared": Host(Twice, _vectors, "again", "mlp_block"),
    "looped": Host(Twice, _vectors, "cell", "norm"),
    "lstm": Host(Recurrent, _vectors, "lstm", "mlp_block", output=0),
}  # fmt: skip
