"""Models of transformers that read images and video: where every layer has its channels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from channel_table import LAST, Entry, hugging
from torch import Tensor

VIT = {
    "hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 12, "image_size": 12,
    "patch_size": 4, "num_attention_heads": 2, "attn_implementation": "eager",
}  # fmt: skip
CONVNEXT = {"embeddings.layernorm": 1, "*downsampling_layer.0": 1, "*drop_path": 1}


def images(size: int) -> Callable[[int], dict[str, Tensor]]:
    return lambda batch: {"pixel_values": torch.randn(batch, 3, size, size)}


IMAGES = {
    "ViT": Entry(hugging("ViT", VIT), images(12), (2, 8, 10)),
    "DeiT": Entry(hugging("DeiT", VIT), images(12), (2, 8, 11)),
    "BEiT": Entry(
        hugging("Beit", {**VIT, "use_relative_position_bias": True}), images(12), (2, 8, 10),
        {"*relative_position_bias": 1},
        guessed={"*relative_position_bias": "resized weights alone"},
    ),
    "DINOv2": Entry(hugging("Dinov2", VIT), images(12), (2, 8, 10)),
    "ViT MAE": Entry(hugging("ViTMAE", {**VIT, "mask_ratio": 0.0}), images(12), (2, 8, 10)),
    "Swin": Entry(
        hugging("Swin", {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [2, 1],
        "num_heads": [2, 4], "window_size": 4, "attn_implementation": "eager"}), images(16),
        (2, 8, 16), {"*relative_position_bias": 1},
    ),
    "Swinv2": Entry(
        hugging("Swinv2", {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [2, 1],
        "num_heads": [2, 4], "window_size": 4}), images(16), (2, 8, 16), {"*self.dropout": 1},
    ),
    "ConvNeXt": Entry(
        hugging("ConvNext", {"hidden_sizes": [8, 12], "depths": [1, 1], "num_stages": 2,
        "patch_size": 4}), images(32), (2, 8, 12), CONVNEXT,
        silent=("*stages.0.downsampling_layer",),
    ),
    "ConvNeXt V2": Entry(
        hugging("ConvNextV2", {"hidden_sizes": [8, 12], "depths": [1, 1], "num_stages": 2,
        "patch_size": 4}), images(32), (2, 8, 12), CONVNEXT,
        silent=("*stages.0.downsampling_layer",),
    ),
    "Segformer": Entry(
        hugging("Segformer", {"num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [2, 1],
        "hidden_sizes": [8, 12], "patch_sizes": [7, 3], "strides": [4, 2],
        "num_attention_heads": [1, 2], "mlp_ratios": [2, 2], "decoder_hidden_size": 8,
        "num_labels": 3}, "ForSemanticSegmentation"), images(32), (2, 8, 64),
        {"decode_head.activation": 1, "decode_head.dropout": 1},
    ),
    "PVT": Entry(
        hugging("Pvt", {"image_size": 32, "num_encoder_blocks": 2, "depths": [1, 1],
        "sequence_reduction_ratios": [2, 1], "hidden_sizes": [8, 16], "patch_sizes": [4, 2],
        "strides": [4, 2], "num_attention_heads": [1, 2], "mlp_ratios": [2, 2]}), images(32),
        (2, 8, 16), {"*self.dropout": 1},
    ),
    "PVTv2": Entry(
        hugging("PvtV2", {"image_size": 32, "num_encoder_blocks": 2, "depths": [1, 1],
        "sr_ratios": [2, 1], "hidden_sizes": [8, 16], "patch_sizes": [7, 3], "strides": [4, 2],
        "num_attention_heads": [1, 2], "mlp_ratios": [2, 2]}), images(32), (2, 8, 64),
        {"*attn_drop": 1},
    ),
    "MobileViT": Entry(
        hugging("MobileViT", {"image_size": 32, "patch_size": 2, "hidden_sizes": [12, 16, 20],
        "neck_hidden_sizes": [4, 4, 8, 8, 12, 12, 24], "num_attention_heads": 2}), images(64), (2,
        4, 16), {"*.attention.attention.dropout": 1, "*.transformer.*": LAST}, 1,
    ),
    "MobileViTV2": Entry(
        hugging("MobileViTV2", {"image_size": 64, "width_multiplier": 0.125,
        "base_attn_unit_dims": [16, 24, 32], "n_attn_blocks": [1, 1, 1]}), images(64), (2, 8, 16),
        rest=1, silent=("*transformer.layer.?.dropout1",),
    ),
    "EfficientNet": Entry(
        hugging("EfficientNet", {"image_size": 32, "kernel_sizes": [3, 5], "in_channels": [32, 16],
        "out_channels": [16, 16], "depthwise_padding": [], "strides": [1, 2],
        "num_block_repeats": [1, 1], "expand_ratios": [1, 2], "hidden_dim": 1280,
        "width_coefficient": 1.0, "depth_coefficient": 1.0}), images(32), (2, 16, 32), rest=1,
        guessed={"embeddings.padding": "the image itself"}, silent=("*blocks.0*depthwise_conv_pad",
        "*projection.dropout"),
    ),
    "ResNet": Entry(
        hugging("ResNet", {"embedding_size": 6, "hidden_sizes": [8, 12], "depths": [1, 2],
        "layer_type": "bottleneck"}), images(32), (2, 8, 12), rest=1,
    ),
    "RegNet": Entry(
        hugging("RegNet", {"embedding_size": 6, "hidden_sizes": [8, 12], "depths": [1, 1],
        "groups_width": 4}), images(32), (2, 8, 16), rest=1,
    ),
    "MobileNetV1": Entry(
        hugging("MobileNetV1", {"depth_multiplier": 0.25, "min_depth": 8}), images(32), (2, 8, 16),
        rest=1,
    ),
    "MobileNetV2": Entry(
        hugging("MobileNetV2", {"depth_multiplier": 0.25, "min_depth": 8}), images(32), (2, 8, 16),
        rest=1,
    ),
    "PoolFormer": Entry(
        hugging("PoolFormer", {"num_encoder_blocks": 2, "depths": [1, 1], "hidden_sizes": [8, 12],
        "patch_sizes": [7, 3], "strides": [4, 2], "padding": [2, 1], "mlp_ratio": 2.0}), images(32),
        (2, 8, 12), rest=1,
    ),
    "FocalNet": Entry(
        hugging("FocalNet", {"image_size": 32, "patch_size": 4, "embed_dim": 8, "hidden_sizes": [8,
        16], "depths": [1, 1], "focal_levels": [2, 2], "focal_windows": [3, 3]}), images(32),
        (2, 8, 16), {"*modulation.activation": 1, "*focal_layers.*": 1},
    ),
    "LeViT": Entry(
        hugging("Levit", {"image_size": 64, "hidden_sizes": [8, 12, 16], "num_attention_heads": [2,
        3, 4], "depths": [1, 1, 1], "key_dim": [4, 4, 4], "down_ops": [["Subsample", 4, 2, 4, 2, 2],
        ["Subsample", 4, 3, 4, 2, 2], [""]]}), images(64), (2, 8, 16),
        {"patch_embeddings.activation*": 1},
    ),
    "CvT": Entry(
        hugging("Cvt", {"embed_dim": [8, 12], "num_heads": [1, 2], "depth": [1, 2],
        "patch_sizes": [7, 3], "patch_stride": [4, 2], "patch_padding": [2, 1], "mlp_ratio": [2.0,
        2.0], "attention_drop_rate": [0.0, 0.0], "drop_rate": [0.0, 0.0], "drop_path_rate": [0.0,
        0.1], "qkv_bias": [True, True], "cls_token": [False, True],
        "qkv_projection_method": ["dw_bn", "dw_bn"], "kernel_qkv": [3, 3], "padding_kv": [1, 1],
        "stride_kv": [2, 2], "padding_q": [1, 1], "stride_q": [1, 1]}), images(32), (2, 8, 16),
        {"*embedding.dropout": 1, "*attention.attention.dropout": 1},
    ),
    "BiT": Entry(
        hugging("Bit", {"embedding_size": 8, "hidden_sizes": [32, 64], "depths": [1, 1],
        "num_groups": 4}), images(32), (2, 8, 32), rest=1,
    ),
    "DPT": Entry(
        hugging("DPT", {**VIT, "num_hidden_layers": 4, "image_size": 16, "backbone_out_indices": [0,
        1, 2, 3], "neck_hidden_sizes": [4, 8, 8, 12], "fusion_hidden_size": 8},
        "ForDepthEstimation"), images(16), (2, 8, 16), {"*readout_projects.*": LAST, "neck.*": 1,
        "head.*": 1}, silent=("neck.fusion_stage.layers.0.residual_layer1.*",),
    ),
    "SAM": Entry(
        hugging("SamVision", {"hidden_size": 8, "output_channels": 12, "num_hidden_layers": 2,
        "image_size": 32, "patch_size": 4, "num_attention_heads": 2, "window_size": 4,
        "global_attn_indexes": [1], "mlp_dim": 16, "num_pos_feats": 4}), images(32), (2, 8, 12),
        {"*neck.layer_norm?": 1},
    ),
    "CLIP, images": Entry(hugging("CLIPVision", VIT), images(12), (2, 8, 10)),
    "SigLIP, images": Entry(
        hugging("SiglipVision", VIT), images(12), (2, 8, 9), silent=("head.attention.out_proj",),
    ),
    "TimeSformer": Entry(
        hugging("Timesformer", {**VIT, "num_frames": 2}),
        lambda batch: {"pixel_values": torch.randn(batch, 2, 3, 12, 12)}, (2, 8, 9),
        {"*attn_drop": 1},
    ),
    "VideoMAE": Entry(
        hugging("VideoMAE", {**VIT, "num_frames": 4, "tubelet_size": 2}),
        lambda batch: {"pixel_values": torch.randn(batch, 4, 3, 12, 12)}, (2, 8, 18),
    ),
    "YOLOS": Entry(
        hugging("Yolos", {**VIT, "num_detection_tokens": 4, "image_size": [12, 12]}), images(12),
        (2, 8, 14), guessed={"embeddings.interpolation": "weights alone"},
        silent=("encoder.interpolation",),
    ),
    "GLPN": Entry(
        hugging("GLPN", {"num_encoder_blocks": 4, "depths": [1, 1, 1, 1], "sr_ratios": [2, 2, 1, 1],
        "hidden_sizes": [8, 8, 12, 16], "patch_sizes": [7, 3, 3, 3], "strides": [4, 2, 2, 2],
        "num_attention_heads": [1, 2, 2, 2], "mlp_ratios": [2, 2, 2, 2], "decoder_hidden_size": 8},
        "ForDepthEstimation"), images(64), (2, 8, 64), {"*self.dropout": 1, "decoder.*": 1,
        "head.*": 1},
    ),
}  # fmt: skip
