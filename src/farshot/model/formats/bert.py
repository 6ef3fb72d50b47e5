"""BERT as a text tower of open_clip: BiomedCLIP, QuiltNet-B-16-PMB.

Its sizes are published in another repository, which the configuration names; where that is not at hand,
they follow from the tensors, with the heads of the BERTs that Google published in these widths.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from farshot.errors import ModelError
from farshot.model.config import Biases, TextConfig
from farshot.model.formats.clip_hf import activation_of
from farshot.model.formats.files import Source, block_count, read_json
from farshot.model.formats.tokenizer_files import load_fast, special_id
from farshot.model.tokenizer import TextRules, Tokenizer
from farshot.sanitize import short

_PREFIX = "text.transformer."
_UNUSED = (
    f"{_PREFIX}pooler.",
    f"{_PREFIX}embeddings.position_ids",
    f"{_PREFIX}embeddings.token_type_embeddings.",
)
_HEADS = {768: 12, 1024: 16}  # of other widths there are several, such as MiniLM's 12 of 32 channels
_NO_BERT = re.compile("roberta|camembert|bertweet", re.IGNORECASE)  # tensors of a BERT, other positions
_POOLERS = ("cls_last_hidden_state_pooler", "cls_pooler")
_BLOCK = {
    "attention.self.query": "q",
    "attention.self.key": "k",
    "attention.self.value": "v",
    "attention.output.dense": "out",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "fc1",
    "output.dense": "fc2",
    "output.LayerNorm": "norm2",
}


def read_text(
    source: Source,
    config: Mapping[str, Any],
    about: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    joint: int,
) -> tuple[TextConfig, dict[str, Tensor], Tokenizer | None]:
    """The tower, its tensors and its tokenizer.

    Args:
        config: `text_cfg` of open_clip.
        about: what `published` returned.

    Raises:
        ModelError: a pooling that farshot does not have, or heads that nothing gives.
    """
    pooler, projection = _read_out(config)
    if pooler == "cls_pooler" and any(name.startswith(f"{_PREFIX}pooler.") for name in tensors):
        raise ModelError(
            f"The BERT of {source.name} is read out by a layer of its pooler ({_PREFIX}pooler), which "
            "farshot does not have."
        )
    words = dict(_canonical(tensors))
    if "text.token" not in words or "text.blocks.0.fc1.weight" not in words:
        raise ModelError(f"The weights of {source.name} lack a BERT; fetch the checkpoint again.")
    vocabulary, width = words["text.token"].shape
    heads = about.get("num_attention_heads", _HEADS.get(width))
    if heads is None:
        other = str(config["hf_model_name"])
        raise ModelError(
            f"{source.name} has a BERT of width {width}, and its heads are in the config.json of "
            f"{short(other)}, which is not at hand; put it into a folder {short(other.rpartition('/')[2])} "
            "next to the weights."
        )
    text = TextConfig(
        width=width,
        depth=block_count(words, "text.blocks."),
        heads=int(heads),
        hidden=len(words["text.blocks.0.fc1.weight"]),
        output=joint,
        activation=activation_of(source, about.get("hidden_act", "gelu")),
        eps=float(about.get("layer_norm_eps", 1e-12)),
        post_norm=True,
        pre_norm=True,
        final_norm=False,
        projection="mlp" if projection == "mlp" else "linear",
        projection_hidden=(width + joint) // 2 if projection == "mlp" else 0,
        biases=Biases(),
        vocabulary=vocabulary,
        length=len(words["text.position"]),
        causal=False,
        mask_padding=True,
    )
    return text, words, _tokenizer(source, text, int(config.get("context_length", 77)))


def published(source: Source, config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the BERT that `text_cfg` of open_clip names; empty where it is not at hand.

    Raises:
        ModelError: another kind of tower, or a pooling or projection that farshot does not have.
    """
    pooler, projection = _read_out(config)
    if pooler not in _POOLERS or projection not in ("mlp", "linear"):
        raise ModelError(
            f"The BERT of {source.name} is read out by {short(pooler)} and {short(projection)}, which "
            "farshot does not have."
        )
    name = str(config["hf_model_name"])
    about = _bert_config(source, name)
    if about.get("model_type", "bert") != "bert" or (not about and _NO_BERT.search(name)):
        raise ModelError(
            f"{source.name} has {short(name)} as text tower, which is no BERT; of the hub's text towers "
            "farshot reads only BERT."
        )
    return about


def _read_out(config: Mapping[str, Any]) -> tuple[str, str]:
    """How the text is pooled and projected."""
    pooler = config.get("hf_pooler_type", config.get("pooler_type", "cls_last_hidden_state_pooler"))
    return str(pooler), str(config.get("hf_proj_type", config.get("proj", "mlp")))


def _bert_config(source: Source, name: str) -> dict[str, Any]:
    """config.json of the repository that is named: next to the checkpoint, or in the hub's cache,
    or on the hub where the checkpoint is from there; else empty."""
    short = name.rpartition("/")[2]
    for folder in (source.folder / short, source.folder.parent / short, source.folder.parent / name):
        if (folder / "config.json").is_file():
            return read_json(folder / "config.json")
    try:
        place = None if source.fetch is None else source.fetch(name) / "config.json"
    except ModelError:
        return {}
    return read_json(place) if place is not None and place.is_file() else {}


def _tokenizer(source: Source, text: TextConfig, length: int) -> Tokenizer | None:
    fast = load_fast(source, text.vocabulary)
    if fast is None:
        return None
    rules = TextRules(
        length=min(length, text.length),
        start=special_id(source, fast, "cls_token", "[CLS]"),
        end=special_id(source, fast, "sep_token", "[SEP]"),
        pad=special_id(source, fast, "pad_token", "[PAD]"),
        pool="first",
    )
    return Tokenizer(fast, rules)


def _canonical(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """By our names; the vector of token type 0, which every token gets, becomes part of the positions."""
    out: dict[str, Tensor] = {}
    embeddings = f"{_PREFIX}embeddings."
    for name, tensor in tensors.items():
        if name.startswith(f"{_PREFIX}encoder.layer."):
            number, _, rest = name.removeprefix(f"{_PREFIX}encoder.layer.").partition(".")
            layer, _, kind = rest.rpartition(".")
            out[f"text.blocks.{number}.{_BLOCK.get(layer, layer)}.{kind}"] = tensor
        elif name.startswith(f"{embeddings}LayerNorm."):
            out[f"text.pre_norm.{name.rpartition('.')[2]}"] = tensor
        elif name == f"{embeddings}word_embeddings.weight":
            out["text.token"] = tensor
        elif name == f"{embeddings}position_embeddings.weight":
            types = tensors.get(f"{embeddings}token_type_embeddings.weight")
            out["text.position"] = tensor if types is None else tensor.float() + types[0].float()
        elif name.startswith("text.proj."):
            layers = {"0.weight": "0.weight", "2.weight": "1.weight", "weight": "weight"}
            rest = name.removeprefix("text.proj.")
            out[f"text.projection.{layers.get(rest, rest)}"] = tensor
        elif name.startswith("text.") and not name.startswith(_UNUSED):  # refused where shapes are checked
            out[name] = tensor
    return out
