"""Model families, each with padded batches and the same samples one by one without padding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

Inputs = Mapping[str, object]

# Models that compute in float64 throughout differ by the order of sums alone.
ROUNDING = 1e-9
# Rotary embeddings, and norms of Llama and its like, compute in float32 whatever the weights are.
ROUNDING_FLOAT32 = 2e-5


@dataclass(frozen=True)
class Family:
    """A model, and what it is called with.

    Attributes:
        padded: inputs of batches of two widths.
        alone: those of each sample of each batch.
        mask: as that of `fmstats.track`.
        accuracy: of means, variances and extremes, in standard deviations.
        unmasked: why rows are left out of padded batches, by name.
        unequal: why rows have other positions in padded batches, by name.
        run: calls the model.
    """

    model: nn.Module
    padded: Sequence[Inputs]
    alone: Sequence[Inputs]
    mask: object = "auto"
    accuracy: float = ROUNDING
    unmasked: Mapping[str, str] = field(default_factory=dict)
    unequal: Mapping[str, str] = field(default_factory=dict)
    run: Callable[[nn.Module, Inputs], object] = lambda model, inputs: model(**inputs)


def lay_padded(samples: Sequence[Tensor], width: int, side: str = "right") -> tuple[Tensor, Tensor]:
    """Samples of several lengths in one batch, with noise behind or before them, and their mask."""
    shape = len(samples), width, *samples[0].shape[1:]
    whole = samples[0].dtype == torch.long
    batch = torch.randint(5, VOCABULARY, shape) if whole else 50 * torch.randn(shape).double()
    mask = torch.zeros(shape[:2], dtype=torch.long)
    for row, sample in enumerate(samples):
        first = 0 if side == "right" else width - len(sample)
        batch[row, first : first + len(sample)] = sample
        mask[row, first : first + len(sample)] = 1
    return batch, mask


VOCABULARY = 120
LENGTHS = (5, 12, 3, 9, 16, 7)
WIDTHS = (16, 21)


def draw_sentences(lengths: Sequence[int] = LENGTHS) -> list[Tensor]:
    return [torch.randint(5, VOCABULARY, (length,)) for length in lengths]


def lay_sentences(
    sentences: Sequence[Tensor], width: int, side: str = "right"
) -> dict[str, Tensor]:
    ids, mask = lay_padded(sentences, width, side)
    return {"input_ids": ids, "attention_mask": mask}


def of_text(model: nn.Module, side: str = "right", **known: object) -> Family:
    """A family that reads sentences."""
    sentences = draw_sentences()
    padded = [lay_sentences(sentences, width, side) for width in WIDTHS]
    alone = [{"input_ids": sentence[None]} for sentence in sentences] * len(WIDTHS)
    return Family(model.eval(), padded, alone, **known)  # type: ignore[arg-type]


def make_bert(attention: str) -> nn.Module:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=24, attn_implementation=attention,
    )  # fmt: skip
    return BertModel(config).eval().double()  # type: ignore[no-any-return]


def bert(attention: str) -> Family:
    of_none = "is made of no input, where the model is given none"
    return of_text(
        make_bert(attention),
        unmasked={f"embeddings.{name}_embeddings": of_none for name in ("position", "token_type")},
    )


def make_llama(attention: str) -> PreTrainedModel:
    from transformers import LlamaConfig, LlamaForCausalLM

    # A mask makes SDPA repeat the keys of few heads, and the channels of its result others.
    heads = {"sdpa": 4, "eager": 2}[attention]
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=heads, intermediate_size=48, max_position_embeddings=48,
        pad_token_id=0, eos_token_id=1, attn_implementation=attention,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    # Eager attention takes its softmax in float32, where a mask of float64 is infinite: padding on
    # the left would be NaN.
    return model if attention == "eager" else model.double()  # type: ignore[no-any-return]


def llama(attention: str, side: str) -> Family:
    family = of_text(make_llama(attention), side, accuracy=ROUNDING_FLOAT32)
    for batch in family.padded:
        counted = batch["attention_mask"].cumsum(1)  # type: ignore[attr-defined]
        batch["position_ids"] = (counted - 1).clamp(min=0)  # type: ignore[index]
    return family


def generate(model: nn.Module, inputs: Inputs) -> object:
    return model.generate(**inputs, max_new_tokens=5, min_new_tokens=5, do_sample=False)  # type: ignore[operator]


def llama_that_generates(attention: str) -> Family:
    """Each pass but the first has one token a sentence, and the keys of all before in a cache."""
    sentences = draw_sentences()
    cached = "the mask of keys is not known any more once they come out of the cache"
    return Family(
        make_llama(attention),
        [lay_sentences(sentences, width, "left") for width in WIDTHS],
        [lay_sentences([sentence], len(sentence)) for sentence in sentences] * len(WIDTHS),
        accuracy=ROUNDING_FLOAT32,
        unequal={f"model.layers.{layer}.self_attn/softmax": cached for layer in range(2)}
        if attention == "eager"
        else {},
        run=generate,
    )


def t5() -> Family:
    """Encoder and decoder have a mask each."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, vocab_size=VOCABULARY,
        decoder_start_token_id=0,
    )  # fmt: skip
    sources, targets = draw_sentences(), draw_sentences((4, 7, 2, 9, 3, 5))
    padded = []
    for wide, narrow in ((16, 16), (20, 9)):  # of equal sizes, names alone tell whose a mask is
        of_target = lay_sentences(targets, narrow)
        named = {f"decoder_{name}": x for name, x in of_target.items()}
        padded.append(lay_sentences(sources, wide) | named)
    alone = [
        {"input_ids": source[None], "decoder_input_ids": target[None]}
        for source, target in zip(sources, targets, strict=True)
    ]
    bias = "is made of distances between tokens, and of no input"
    name = "{}.block.0.layer.0.SelfAttention.relative_attention_bias"
    return Family(
        T5ForConditionalGeneration(config).eval().double(),
        padded,
        alone * 2,
        unmasked={name.format(stack): bias for stack in ("encoder", "decoder")},
    )


class Experts(nn.Module):
    """Each token goes to two of four experts, which see the tokens that chose them."""

    def __init__(self, width: int = 16, experts: int = 4) -> None:
        super().__init__()
        self.gate = nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 24), nn.SiLU(), nn.Linear(24, width))
            for _ in range(experts)
        )

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.view(-1, x.shape[-1])
        weights, chosen = torch.topk(self.gate(tokens).softmax(-1), 2, -1)
        weights = weights / weights.sum(-1, keepdim=True)
        hot = F.one_hot(chosen, len(self.experts)).permute(2, 1, 0)
        out = torch.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            choice, place = torch.where(hot[number])
            out.index_add_(0, place, expert(tokens[place]) * weights[place, choice, None])
        return out.view(x.shape)


class MixtureOfExperts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Embedding(VOCABULARY, 16), nn.LayerNorm(16)
        self.mixture, self.head = Experts(), nn.Linear(16, 10)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        x = self.embed(input_ids)
        return self.head(x + self.mixture(self.norm(x)))  # type: ignore[no-any-return]


def mixtral() -> Family:
    from transformers import MixtralConfig, MixtralModel

    config = MixtralConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, num_local_experts=4, num_experts_per_tok=2,
        max_position_embeddings=24,
    )  # fmt: skip
    counted = {"rotary_emb": "is made of the numbers of places, and of no input"}
    # Its experts do not know float64.
    return of_text(MixtralModel(config), accuracy=ROUNDING_FLOAT32, unmasked=counted)


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        n, t, c = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, t, 3, 4, c // 4).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])
        return x + self.out(y.transpose(1, 2).reshape(n, t, c))  # type: ignore[no-any-return]


class PatchDroppingViT(nn.Module):
    """Of each image the patches of `keep` go on, behind a token of no patch."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, 4)
        self.first = nn.Parameter(torch.randn(1, 1, width))
        self.places = nn.Parameter(torch.randn(1, 16, width))
        self.blocks = nn.ModuleList([Attention(width), Attention(width)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 5)

    def forward(self, images: Tensor, mask: Tensor, keep: Tensor | None = None) -> Tensor:
        x = self.patch(images).flatten(2).transpose(1, 2) + self.places
        if keep is not None:
            x = x.gather(1, keep[..., None].expand(-1, -1, x.shape[2]))
            mask = mask.gather(1, keep)
        x = torch.cat([self.first.expand(len(x), -1, -1), x], 1)
        mask = torch.cat([mask.new_ones(len(mask), 1), mask], 1)
        for block in self.blocks:
            x = block(x, mask)
        return self.head(self.norm(x)[:, 0])  # type: ignore[no-any-return]


def vit() -> Family:
    images, mask = torch.randn(6, 3, 16, 16).double(), torch.rand(6, 16) < 0.5
    order = mask.double().argsort(dim=1, descending=True, stable=True)
    images_alone = [
        {"images": images[i : i + 1], "mask": mask[i : i + 1], "keep": mask[i].nonzero().T}
        for i in range(6)
    ]
    assert 1 <= int(mask.sum(1).min()) <= int(mask.sum(1).max()) <= 12
    return Family(
        PatchDroppingViT().eval().double(),
        [{"images": images, "mask": mask, "keep": keep} for keep in (order[:, :12], None)],
        images_alone * 2,
        mask={"patch": lambda args, kwargs: kwargs["mask"].view(-1, 4, 4)},
        unequal={"patch": "runs on whole images, whatever is dropped behind it"},
    )


def siglip2() -> Family:
    from transformers import Siglip2VisionConfig, Siglip2VisionModel

    config = Siglip2VisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_patches=64, patch_size=4,
    )  # fmt: skip
    shapes = ((4, 4), (2, 6), (3, 3), (5, 3))
    images = [torch.randn(height * width, 48).double() for height, width in shapes]

    def lay(images: Sequence[Tensor], shapes: Sequence[tuple[int, int]], width: int) -> Inputs:
        pixels, mask = lay_padded(images, width)
        return {
            "pixel_values": pixels,
            "pixel_attention_mask": mask.to(torch.int32),
            "spatial_shapes": torch.tensor(shapes),
        }

    alone = [lay([x], [shape], len(x)) for x, shape in zip(images, shapes, strict=True)]
    model = Siglip2VisionModel(config).eval().double()
    return Family(model, [lay(images, shapes, width) for width in (16, 20)], alone * 2)


def wav2vec2() -> Family:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    config = Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        conv_dim=(16, 16, 16), conv_stride=(5, 2, 2), conv_kernel=(10, 3, 2), conv_bias=True,
        num_feat_extract_layers=3, feat_extract_norm="layer", do_stable_layer_norm=True,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, mask_time_prob=0.0,
    )  # fmt: skip
    sounds = [torch.randn(length).double() for length in (400, 700, 523, 611)]
    padded = []
    for width in (700, 900):
        samples, mask = lay_padded(sounds, width)
        padded.append({"input_values": samples, "attention_mask": mask})
    more = "of an even number of places, makes one frame more, which is cut off behind it"
    return Family(
        Wav2Vec2Model(config).eval().double(),
        padded,
        [{"input_values": sound[None]} for sound in sounds] * 2,
        unequal={"encoder.pos_conv_embed.conv": more},
    )


class Level(nn.Module):
    """What is not valid is 0 in front of each convolution, as the border of an image is."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm, self.relu = nn.BatchNorm2d(outputs), nn.ReLU()

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        return self.relu(self.norm(self.conv(x * valid)))  # type: ignore[no-any-return]


class MaskedUNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.pool, self.deep = Level(3, 8), nn.MaxPool2d(2), Level(8, 12)
        self.up, self.join = nn.ConvTranspose2d(12, 8, 2, 2), Level(16, 8)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        valid = mask[:, None].to(images.dtype)
        half = valid[:, :, ::2, ::2]
        skip = self.down(images, valid) * valid
        deep = self.up(self.deep(self.pool(skip), half) * half) * valid
        return self.head(self.join(torch.cat([skip, deep], 1), valid))  # type: ignore[no-any-return]


def unet() -> Family:
    """Pooling and its inverse lose the mask of pixels, so each level is told its own."""
    sizes = ((8, 12), (16, 16), (4, 10), (12, 6))
    images = [torch.randn(3, height, width).double() for height, width in sizes]

    def lay(images: Sequence[Tensor], height: int, width: int) -> Inputs:
        batch = 50 * torch.randn(len(images), 3, height, width).double()
        mask = torch.zeros(len(images), height, width, dtype=torch.bool)
        for row, image in enumerate(images):
            batch[row, :, : image.shape[1], : image.shape[2]] = image
            mask[row, : image.shape[1], : image.shape[2]] = True
        return {"images": batch, "mask": mask}

    half = lambda args, kwargs: kwargs["mask"][:, ::2, ::2]  # noqa: E731
    return Family(
        MaskedUNet().eval().double(),
        [lay(images, *size) for size in ((16, 16), (20, 24))],
        [lay([image], *image.shape[1:]) for image in images] * 2,
        mask={"(inputs)": "mask", "pool": half, "up": "mask"},
    )
