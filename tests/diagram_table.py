"""Diagrams of networks: the steps of a forward pass as an engineer lists them, in order.

A line is a row: its name, its type and its channel dim. A line that begins with "-" is an operation
without a row: the module that calls it, the operation, and why it has none. Operations that only
move or drop values, as `pad`, `permute` and `dropout`, and products of matrices are in no diagram.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from channel_table import given, hugging
from diagram_models import Crepe, DenseNet, ResNet, UNet, ViT
from torch import Tensor, nn

CREPE = """
conv1                  Conv2d      1
(model)/relu           relu        1
conv1_BN               BatchNorm2d 1
(model)/max_pool2d     max_pool2d  1
conv2                  Conv2d      1
(model)/relu_1         relu        1
conv2_BN               BatchNorm2d 1
(model)/max_pool2d_1   max_pool2d  1
conv3                  Conv2d      1
(model)/relu_2         relu        1
conv3_BN               BatchNorm2d 1
(model)/max_pool2d_2   max_pool2d  1
conv4                  Conv2d      1
(model)/relu_3         relu        1
conv4_BN               BatchNorm2d 1
(model)/max_pool2d_3   max_pool2d  1
conv5                  Conv2d      1
(model)/relu_4         relu        1
conv5_BN               BatchNorm2d 1
(model)/max_pool2d_4   max_pool2d  1
conv6                  Conv2d      1
(model)/relu_5         relu        1
conv6_BN               BatchNorm2d 1
(model)/max_pool2d_5   max_pool2d  1
classifier             Linear      -1
(model)/sigmoid        sigmoid     -1
"""
UNET = """
inc                    Conv2d          1
(model)/instance_norm  instance_norm   1
(model)/leaky_relu     leaky_relu      1
(model)/max_pool2d     max_pool2d      1
down                   Conv2d          1
(model)/relu           relu            1
(model)/max_pool2d_1   max_pool2d      1
low                    Conv2d          1
(model)/relu_1         relu            1
up                     ConvTranspose2d 1
(model)/cat            cat             1
mid                    Conv2d          1
(model)/relu_2         relu            1
(model)/interpolate    interpolate     1
(model)/cat_1          cat             1
last                   Conv2d          1
(model)/relu_3         relu            1
outc                   Conv2d          1
(model)/sigmoid        sigmoid         1
"""
DENSENET = """
stem                         Conv2d              1
dense1.0.norm1               BatchNorm2d         1
dense1.0/relu                relu                1
dense1.0.conv1               Conv2d              1
dense1.0.norm2               BatchNorm2d         1
dense1.0/relu_1              relu                1
dense1.0.conv2               Conv2d              1
dense1.0/cat                 cat                 1
dense1.1.norm1               BatchNorm2d         1
dense1.1/relu                relu                1
dense1.1.conv1               Conv2d              1
dense1.1.norm2               BatchNorm2d         1
dense1.1/relu_1              relu                1
dense1.1.conv2               Conv2d              1
dense1.1/cat                 cat                 1
transition.norm              BatchNorm2d         1
transition/relu              relu                1
transition.conv              Conv2d              1
transition/avg_pool2d        avg_pool2d          1
dense2.0.norm1               BatchNorm2d         1
dense2.0/relu                relu                1
dense2.0.conv1               Conv2d              1
dense2.0.norm2               BatchNorm2d         1
dense2.0/relu_1              relu                1
dense2.0.conv2               Conv2d              1
dense2.0/cat                 cat                 1
norm                         BatchNorm2d         1
(model)/relu                 relu                1
(model)/adaptive_avg_pool2d  adaptive_avg_pool2d 1
classifier                   Linear              -1
(model)/log_softmax          log_softmax         -1
"""
RESNET = """
conv1                Conv2d      1
bn1                  BatchNorm2d 1
(model)/relu         relu        1
layer1.conv1         Conv2d      1
layer1.bn1           BatchNorm2d 1
layer1/relu          relu        1
layer1.conv2         Conv2d      1
layer1.bn2           BatchNorm2d 1
layer1.shortcut      Sequential  1
layer1/add           add         1
layer1/relu_1        relu        1
layer2.conv1         Conv2d      1
layer2.bn1           BatchNorm2d 1
layer2/relu          relu        1
layer2.conv2         Conv2d      1
layer2.bn2           BatchNorm2d 1
layer2.shortcut.0    Conv2d      1
layer2.shortcut.1    BatchNorm2d 1
layer2/add           add         1
layer2/relu_1        relu        1
layer3.bn1           BatchNorm2d 1
layer3/relu          relu        1
layer3.conv1         Conv2d      1
layer3.bn2           BatchNorm2d 1
layer3/relu_1        relu        1
layer3.conv2         Conv2d      1
layer3/add           add         1
(model)/avg_pool2d   avg_pool2d  1
linear               Linear      -1
"""
VIT = """
proj                     Conv2d     1
- (model)                cat        the class token is a weight
- (model)                add        the positions are weights
blocks.0.norm1           LayerNorm  -1
blocks.0.attn.qkv        Linear     -1
blocks.0.attn.q_norm     Identity   1
blocks.0.attn.k_norm     LayerNorm  -1
blocks.0.attn/softmax    softmax    1
blocks.0.attn.attn_drop  Dropout    1
blocks.0.attn.norm       Identity   -1
blocks.0.attn.proj       Linear     -1
blocks.0.attn.proj_drop  Dropout    -1
blocks.0/add             add        -1
blocks.0.norm2           LayerNorm  -1
blocks.0.fc1             Linear     -1
blocks.0/gelu            gelu       -1
blocks.0.fc2             Linear     -1
blocks.0/add_1           add        -1
blocks.1.norm1           LayerNorm  -1
blocks.1.attn.qkv        Linear     -1
blocks.1.attn.q_norm     Identity   1
blocks.1.attn.k_norm     LayerNorm  -1
blocks.1.attn/softmax    softmax    1
blocks.1.attn.attn_drop  Dropout    1
blocks.1.attn.norm       Identity   -1
blocks.1.attn.proj       Linear     -1
blocks.1.attn.proj_drop  Dropout    -1
blocks.1/add             add        -1
blocks.1.norm2           LayerNorm  -1
blocks.1.fc1             Linear     -1
blocks.1/gelu            gelu       -1
blocks.1.fc2             Linear     -1
blocks.1/add_1           add        -1
(model)/layer_norm       layer_norm -1
head                     Linear     -1
"""
# The cosines and sines of the rotary embedding are angles of positions, which no layer makes. The
# cache of keys and values is empty before the first tokens.
LLAMA_LAYER = """
model.layers.N.input_layernorm                         LlamaRMSNorm                 -1
model.layers.N.self_attn.q_proj                        Linear                       -1
model.layers.N.self_attn.k_proj                        Linear                       -1
model.layers.N.self_attn.v_proj                        Linear                       -1
- model.layers.N.self_attn                             mul                          angles
model.layers.N.self_attn/cat                           cat                          1
- model.layers.N.self_attn                             mul                          angles
model.layers.N.self_attn/add                           add                          1
- model.layers.N.self_attn                             mul                          angles
model.layers.N.self_attn/cat_1                         cat                          1
- model.layers.N.self_attn                             mul                          angles
model.layers.N.self_attn/add_1                         add                          1
- model.layers.N.self_attn                             cat                          empty cache
- model.layers.N.self_attn                             cat                          empty cache
model.layers.N.self_attn/scaled_dot_product_attention  scaled_dot_product_attention 1
model.layers.N.self_attn.o_proj                        Linear                       -1
model.layers.N/add                                     add                          -1
model.layers.N.post_attention_layernorm                LlamaRMSNorm                 -1
model.layers.N.mlp.gate_proj                           Linear                       -1
model.layers.N.mlp.act_fn                              SiLUActivation               -1
model.layers.N.mlp.up_proj                             Linear                       -1
model.layers.N.mlp/mul                                 mul                          -1
model.layers.N.mlp.down_proj                           Linear                       -1
model.layers.N/add_1                                   add                          -1
"""
LLAMA = f"""
model.embed_tokens  Embedding             -1
model.rotary_emb    LlamaRotaryEmbedding  -1
{LLAMA_LAYER.replace("layers.N", "layers.0")}
{LLAMA_LAYER.replace("layers.N", "layers.1")}
model.norm          LlamaRMSNorm          -1
lm_head             Linear                -1
"""
LLAMA_CONFIG = {
    "vocab_size": 50, "hidden_size": 8, "num_hidden_layers": 2, "intermediate_size": 12,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 20,
}  # fmt: skip


class Network(NamedTuple):
    """A network, its keyword arguments for a number of samples, and its diagram."""

    build: Callable[[], nn.Module]
    inputs: Callable[[int], dict[str, Tensor]]
    diagram: str


NETWORKS = {
    "torchcrepe": Network(Crepe, given(1024), CREPE),
    "U-Net": Network(UNet, given(3, 18, 18), UNET),
    "DenseNet": Network(DenseNet, given(3, 16, 16), DENSENET),
    "ResNet": Network(ResNet, given(3, 8, 8), RESNET),
    "ViT": Network(ViT, given(3, 16, 16), VIT),
    "Llama": Network(
        hugging("Llama", LLAMA_CONFIG, "ForCausalLM"),
        lambda batch: {"input_ids": torch.randint(0, 50, (batch, 6))},
        LLAMA,
    ),
}


class Line(NamedTuple):
    """A line of a diagram.

    Attributes:
        owner: the module, or the one whose forward calls the operation.
        kind: its type, or the name of the operation.
        row: the name of its row; None if it has none.
        dim: that of its channels.
    """

    owner: str
    kind: str
    row: str | None
    dim: int


def read(diagram: str) -> list[Line]:
    lines = []
    for first, second, third, *_ in (line.split() for line in diagram.splitlines() if line):
        if first == "-":
            lines.append(Line(second, third, None, 0))
        else:
            lines.append(Line(first.partition("/")[0], second, first, int(third)))
    return lines
