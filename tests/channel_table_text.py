"""Models of transformers that read text and audio: where every layer has its channels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from channel_table import LAST, ONE, Entry, hugging
from torch import Tensor

BERT = {
    "vocab_size": 50, "hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 12,
    "max_position_embeddings": 20, "num_attention_heads": 2, "attn_implementation": "eager",
}  # fmt: skip
ROTARY = {"*rotary_emb": "the angles of positions, which no layer makes"}
LLAMA = {**BERT, "num_attention_heads": 4, "num_key_value_heads": 2}


def tokens(count: int = 6, *names: str) -> Callable[[int], dict[str, Tensor]]:
    names = names or ("input_ids",)
    return lambda batch: {n: torch.randint(3, 50, (batch, count)) for n in names}


def wav2vec2(kind: str, norm: str) -> Entry:
    config = {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 24, "conv_dim": (6, 10), "conv_stride": (5, 2),
        "conv_kernel": (10, 3), "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
        "feat_extract_norm": norm, "do_stable_layer_norm": norm == "layer",
        "attn_implementation": "eager",
    }  # fmt: skip
    return Entry(
        hugging(kind, config), lambda batch: {"input_values": torch.randn(batch, 200)},
        (2, 10, 16, 19), {"*conv_layers.*.activation": 1, "*pos_conv_embed.*": 1},
    )  # fmt: skip


TEXTS = {
    "BERT": Entry(hugging("Bert", BERT), tokens(), (2, 6, 8), silent=("*self.dropout",)),
    "BERT, pairs": Entry(
        hugging("Bert", BERT, "ForNextSentencePrediction"), tokens(), (2, 6, 8),
        silent=("*self.dropout",),
    ),
    "BERT, one score": Entry(
        hugging("Bert", {**BERT, "num_labels": 1}, "ForSequenceClassification"), tokens(),
        (2, 6, 8), silent=("*self.dropout",),
    ),
    "RoBERTa": Entry(hugging("Roberta", BERT), tokens(), (2, 6, 8), silent=("*self.dropout",)),
    "DistilBERT": Entry(
        hugging("DistilBert", {"vocab_size": 50, "dim": 8, "n_layers": 1, "n_heads": 2,
        "hidden_dim": 12, "max_position_embeddings": 20, "attn_implementation": "eager"}), tokens(),
        (2, 6, 8), silent=("*attention.dropout",),
    ),
    "ALBERT": Entry(
        hugging("Albert", {**BERT, "embedding_size": 4}), tokens(), (2, 4, 8),
        silent=("*attention_dropout", "*layers.0.dropout"),
    ),
    # Heads that are joined with the samples are lost, here and in BLOOM.
    "DeBERTa v2": Entry(
        hugging("DebertaV2", {**BERT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"],
        "conv_kernel_size": 3}), tokens(), (2, 6, 8), {"*self.dropout": ONE},
        guessed={"*pos_dropout": "weights alone"}, silent=("encoder.rel_embeddings",),
    ),
    "ELECTRA": Entry(
        hugging("Electra", {**BERT, "embedding_size": 4}), tokens(), (2, 4, 8),
        silent=("*self.dropout",),
    ),
    "Longformer": Entry(
        hugging("Longformer", {**BERT, "attention_window": 4}), tokens(8), (2, 4, 8),
        silent=("*_global",),
    ),
    "GPT-2": Entry(
        hugging("GPT2", {"vocab_size": 50, "n_embd": 8, "n_layer": 1, "n_head": 2,
        "n_positions": 20, "bos_token_id": 0, "eos_token_id": 0, "attn_implementation": "eager"}),
        tokens(), (2, 6, 8), silent=("*attn_dropout",),
    ),
    "GPT-NeoX": Entry(hugging("GPTNeoX", BERT), tokens(), (2, 6, 8), guessed=ROTARY),
    "Llama": Entry(hugging("Llama", LLAMA, "ForCausalLM"), tokens(), (2, 4, 6, 8), guessed=ROTARY),
    "Mistral": Entry(hugging("Mistral", LLAMA), tokens(), (2, 6, 8), guessed=ROTARY),
    "Qwen2": Entry(hugging("Qwen2", LLAMA), tokens(), (2, 6, 8), guessed=ROTARY),
    "Gemma": Entry(hugging("Gemma", {**LLAMA, "head_dim": 4}), tokens(), (2, 6, 8), guessed=ROTARY),
    "Mixtral": Entry(
        hugging("Mixtral", {**LLAMA, "num_local_experts": 2}), tokens(), (2, 6, 8), guessed=ROTARY,
    ),
    "Falcon": Entry(
        hugging("Falcon", {"vocab_size": 50, "hidden_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2, "attn_implementation": "eager"}), tokens(), (2, 6, 8),
        guessed=ROTARY, silent=("*attention_dropout",),
    ),
    "BLOOM": Entry(
        hugging("Bloom", {"vocab_size": 50, "hidden_size": 8, "n_layer": 1, "n_head": 2}), tokens(),
        (2, 6, 8), {"*attention_dropout": ONE},
    ),
    "T5": Entry(
        hugging("T5", {"vocab_size": 50, "d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 1,
        "num_heads": 2, "relative_attention_num_buckets": 6}), tokens(6, "input_ids",
        "decoder_input_ids"), (2, 6, 8), silent=("shared",),
    ),
    "BART": Entry(
        hugging("Bart", {"vocab_size": 50, "d_model": 8, "encoder_layers": 1, "decoder_layers": 1,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 12,
        "decoder_ffn_dim": 12, "max_position_embeddings": 20, "attn_implementation": "eager"}),
        tokens(), (2, 6, 8), silent=("shared",),
    ),
    "Mamba": Entry(
        hugging("Mamba", {"vocab_size": 50, "hidden_size": 8, "state_size": 4,
        "num_hidden_layers": 1, "conv_kernel": 3, "expand": 2}), tokens(), (2, 6, 8, 16),
        silent=("*mixer.conv1d", "*mixer.act", "*mixer.dt_proj"),
    ),
    "RWKV": Entry(
        hugging("Rwkv", {"vocab_size": 50, "hidden_size": 8, "num_hidden_layers": 2,
        "attention_hidden_size": 8, "intermediate_size": 12}), tokens(), (2, 6, 8),
    ),
    "FNet": Entry(hugging("FNet", BERT), tokens(), (2, 6, 8)),
    "SqueezeBERT": Entry(
        hugging("SqueezeBert", {**BERT, "embedding_size": 8, "q_groups": 2, "k_groups": 2,
        "v_groups": 2, "intermediate_groups": 2, "output_groups": 2, "post_attention_groups": 1}),
        tokens(), (2, 6, 8), {"pooler.*": LAST, "embeddings.*": LAST, "encoder.*": 1},
    ),
    # Time-major; one dropout is of maps and of tokens, and the last call counts.
    "XLNet": Entry(
        hugging("XLNet", {"vocab_size": 50, "d_model": 8, "n_layer": 1, "n_head": 2,
        "d_inner": 12}), tokens(), (2, 6, 8), silent=("layer.0.dropout",),
    ),
    "CLIP, text": Entry(hugging("CLIPText", {**BERT, "eos_token_id": 0}), tokens(), (2, 6, 8)),
    "Whisper": Entry(
        hugging("Whisper", {"vocab_size": 50, "d_model": 8, "encoder_layers": 1,
        "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
        "encoder_ffn_dim": 12, "decoder_ffn_dim": 12, "num_mel_bins": 4, "max_source_positions": 5,
        "max_target_positions": 20, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        "decoder_start_token_id": 1, "attn_implementation": "eager"}),
        lambda batch: {"input_features": torch.randn(batch, 4, 10),
        "decoder_input_ids": torch.randint(0, 50, (batch, 5))}, (2, 5, 8),
    ),
    "Wav2Vec2": wav2vec2("Wav2Vec2", "group"),
    "HuBERT": wav2vec2("Hubert", "layer"),
    "AST": Entry(
        hugging("AST", {"hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 12,
        "num_attention_heads": 2, "patch_size": 4, "frequency_stride": 4, "time_stride": 4,
        "max_length": 16, "num_mel_bins": 8, "attn_implementation": "eager"}),
        lambda batch: {"input_values": torch.randn(batch, 16, 8)}, (2, 8, 10),
    ),
    "Perceiver": Entry(
        hugging("Perceiver", {"num_latents": 6, "d_latents": 8, "d_model": 12, "num_blocks": 1,
        "num_self_attends_per_block": 1, "num_self_attention_heads": 2,
        "num_cross_attention_heads": 2}), lambda batch: {"inputs": torch.randn(batch, 5, 12)},
        (2, 6, 8), {"*self.dropout": 1}, guessed={"embeddings": "weights alone"},
        silent=("*self_attends.*.layernorm2",),
    ),
    "PatchTST": Entry(
        hugging("PatchTST", {"context_length": 16, "patch_length": 4, "patch_stride": 4,
        "num_input_channels": 3, "d_model": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
        "ffn_dim": 12}), lambda batch: {"past_values": torch.randn(batch, 16, 3)}, (2, 3, 4, 8),
        {"patchifier": 1, "masking": 1}, guessed=dict.fromkeys(("scaler.scaler", "patchifier",
        "masking"), "the series themselves"),
    ),
    "EnCodec": Entry(
        hugging("Encodec", {"num_filters": 4, "hidden_size": 8, "upsampling_ratios": [2, 2],
        "num_residual_layers": 1, "num_lstm_layers": 1, "codebook_size": 16, "codebook_dim": 8}),
        lambda batch: {"input_values": torch.randn(batch, 1, 64)}, (2, 8, 16), rest=1,
        silent=("*codebook",),
    ),
}  # fmt: skip
