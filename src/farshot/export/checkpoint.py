"""Export a CLIPModel folder, if the adapted model can be written as weights and prompts.

LoRA and own weights are merged. A learned context becomes new words of the vocabulary, so that it is a prompt
like any other: "<context-1><context-2> apple scab." The logit scale is that of the method, divided by its
temperature. Shapes: B images, N classes, n tokens of a context, D width of the text tower.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from tokenizers import AddedToken
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import AutoTokenizer, CLIPConfig, CLIPModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from farshot.arrays import NDArray
from farshot.classifier import FewShotClassifier
from farshot.data.table import ImageTable
from farshot.errors import ModelError
from farshot.export.about import check_place, describe, write_about
from farshot.export.card import checkpoint_card
from farshot.export.check import Predict, check_same, samples
from farshot.images.preprocess import resizing
from farshot.methods.finetuned import FinetunedAdapted, FinetunedMethod
from farshot.methods.frozen import FrozenAdapted
from farshot.model.encoder import Encoder, normalise
from farshot.model.formats.clip_hf import config_json, state_dict
from farshot.model.tokenizer import Tokenizer
from farshot.parts.alignment import HeadTailAlignment
from farshot.parts.merging import merged
from farshot.parts.prompt import LinkedPrompts, PromptContext, VisualPrompts
from farshot.parts.reweighting import TokenReweighting
from farshot.storage.atomic import whole_folder
from farshot.task import Task

_ONNX = "`--format onnx` exports it whole"
_NO_PLACE: dict[type[nn.Module], str] = {
    HeadTailAlignment: "moves patches before the blocks of the vision tower",
    TokenReweighting: "re-weights patches before blocks of the vision tower",
    VisualPrompts: "adds tokens behind the patches",
    LinkedPrompts: "puts tokens into later blocks of both towers",
}


@dataclass(frozen=True)
class Plain:
    """An adapted model as weights and prompts.

    Attributes:
        encoder: the weights.
        scale: what multiplies the cosine, divided by the temperature.
        prompts: one per class.
    """

    encoder: Encoder
    scale: float
    prompts: tuple[str, ...]


def export_checkpoint(
    classifier: FewShotClassifier, out: Path, images: ImageTable | None = None
) -> dict[str, Any]:
    """Write a folder that transformers loads; returns the content of export.json.

    Args:
        images: to compare on instead of generated ones.

    Raises:
        DataError: the place is taken or cannot be written.
        ModelError: the method is more than weights and prompts, or the checkpoint predicts something else.
    """
    check_place(out)
    chosen = [name for name, value in classifier.read_options_.to_dict().items() if value is not None]
    if chosen:
        raise ModelError(
            f"This model reads pictures with {' and '.join(chosen)}, which transformers' image processor "
            f"cannot; {_ONNX}."
        )
    plain = as_plain(classifier)
    about = describe(classifier, "transformers") | {"prompts": list(plain.prompts)}
    with whole_folder(out, check_place) as staging:
        _save(plain, staging)
        text = json.dumps(_image_processor(classifier.encoder_, about["images"]["reading"]), indent=2)
        (staging / "preprocessor_config.json").write_text(text + "\n", encoding="utf-8")
        table = samples(images)
        difference = check_same(
            classifier, _runtime(staging, plain.prompts, classifier.encoder_), table, "checkpoint"
        )
        about["checked"] = {"images": len(table), "largest_difference": difference, "precision": "float32"}
        (staging / "README.md").write_text(checkpoint_card(about), encoding="utf-8")
        return write_about(staging, about)


def as_plain(classifier: FewShotClassifier) -> Plain:
    """The adapted model as weights and prompts.

    Raises:
        ModelError: why it is more than that, and what to do instead.
    """
    adapted, origin = classifier.adapted_, classifier.encoder_.origin
    if origin.layout != "clip":
        raise ModelError(
            f"The base model is {origin.format}, which transformers' CLIPModel cannot hold; {_ONNX}."
        )
    if isinstance(adapted, FrozenAdapted):
        scale, encoder, task = _plain_frozen(classifier, adapted)
        left: dict[str, nn.Module] = {}
    elif isinstance(adapted, FinetunedAdapted):
        encoder, left = merged(adapted.encoder, adapted.parts)
        scale, task = adapted.scale, _task(classifier)
        if isinstance(classifier.method_, FinetunedMethod):
            if not classifier.method_.classes_are_texts:
                raise ModelError(
                    f"{classifier.method_.name} learns one vector per class, for which a CLIPModel has no "
                    f"place; {_ONNX}."
                )
            task = classifier.method_.worded(task)
    else:
        raise ModelError(f"{classifier.method_.name} is of a kind that farshot cannot write as a CLIPModel.")
    for part in left.values():
        if not isinstance(part, PromptContext):
            does = _NO_PLACE.get(type(part), f"has a part that only farshot knows ({type(part).__name__})")
            other = "; `--format peft` its LoRA alone" if adapted.lora is not None else ""
            raise ModelError(
                f"{classifier.method_.name} {does}, for which a CLIPModel has no place, so its weights alone "
                f"would predict something else; {_ONNX}{other}."
            )
    prompts = task.prompts
    for part in left.values():
        assert isinstance(part, PromptContext)
        before = encoder
        encoder, prompts = _add_words(encoder, part, task)
        _check_words(before.tokenizer, encoder.tokenizer, task.prompts, prompts, part.length)
    return Plain(encoder, scale / classifier.temperature_, tuple(prompts))


def _plain_frozen(classifier: FewShotClassifier, adapted: FrozenAdapted) -> tuple[float, Encoder, Task]:
    """Scale, encoder and task of a method that compares images with class texts and does nothing else."""
    method, task = adapted.method, _task(classifier)
    if method.needs_images or set(adapted.state) != {"texts"}:
        raise ModelError(
            f"{classifier.method_.name} adds a classifier on the image features, for which a CLIPModel "
            f"has no place, and leaves the weights as they are; {_ONNX}."
        )
    templates = method.prompt_templates or (task.template,)
    if len(templates) > 1:
        raise ModelError(
            f"{classifier.method_.name} averages the texts of {len(templates)} prompts per class, and a "
            f"CLIPModel compares with one; {_ONNX}, or adapt with templates=task."
        )
    return method.scale_of(adapted.encoder), adapted.encoder, replace(task, template=templates[0])


def _task(classifier: FewShotClassifier) -> Task:
    """What the prompts are made of."""
    none = np.zeros(0, dtype=np.int64)
    return Task(
        ImageTable((), None, (), ()),
        classifier.adapted_.class_names,
        none,
        none,
        template=classifier.parameters_.template,
        descriptions=dict(classifier.parameters_.descriptions),
    )


def _add_words(encoder: Encoder, part: PromptContext, task: Task) -> tuple[Encoder, list[str]]:
    """The encoder with the context as new words of its vocabulary, and the prompts that begin with them."""
    context = part.values[0].detach()
    words = [f"<context-{i + 1}>" for i in range(len(context))]
    fast = FastTokenizer.from_str(encoder.tokenizer.fast.to_str())
    fast.add_tokens([AddedToken(word, normalized=False) for word in words])
    ids = [int(fast.token_to_id(word) or 0) for word in words]  # known: just added
    old = encoder.text.tensors["token"]
    new = torch.zeros(max(len(old), *(i + 1 for i in ids)), old.shape[1]).to(old)
    new[: len(old)] = old
    new[ids] = context.to(old)
    longer = encoder.with_vocabulary(new, Tokenizer(fast, encoder.tokenizer.rules))
    prefix = task.template.partition("{}")[0]
    gap = " " if prefix != prefix.rstrip() else ""
    return longer, ["".join(words) + gap + prompt.removeprefix(prefix) for prompt in task.prompts]


def _check_words(before: Tokenizer, after: Tokenizer, old: Sequence[str], new: Sequence[str], n: int) -> None:
    """Check that the tokens after the n new words are those that the method used."""
    seen, now = before([old]).ids[0], after([new]).ids[0]
    if seen.shape != now.shape or not torch.equal(seen[:, 1 + n :], now[:, 1 + n :]):
        raise ModelError(
            f"The prompt {old[0]!r} cannot be split into a learned context and the rest; {_ONNX}, or adapt "
            "with a template that has a space before {}."
        )


def _save(plain: Plain, staging: Path) -> None:
    transformers_logging.disable_progress_bar()
    try:
        clip = CLIPModel(CLIPConfig.from_dict(config_json(plain.encoder)))
        tensors = state_dict(plain.encoder)
        tensors["logit_scale"] = torch.tensor(math.log(plain.scale))
        clip.load_state_dict(tensors)
        clip.save_pretrained(staging)
        _transformers_tokenizer(plain.encoder.tokenizer).save_pretrained(staging)
    except OSError:
        raise
    except Exception as error:  # the tokenizer's own library raises bare exceptions, for a full disk too
        raise OSError(str(error)) from error
    finally:
        transformers_logging.enable_progress_bar()


def _transformers_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The same tokenizer for transformers, which adds start and end tokens itself."""
    rules, fast = tokenizer.rules, FastTokenizer.from_str(tokenizer.fast.to_str())
    assert rules.start is not None and rules.end is not None  # as every CLIP has them
    start, end, pad = (fast.id_to_token(i) for i in (rules.start, rules.end, rules.pad))
    fast.post_processor = TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, rules.start), (end, rules.end)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=fast,
        bos_token=start,
        eos_token=end,
        pad_token=pad,
        unk_token=end,
        model_max_length=rules.length,
    )


def _image_processor(encoder: Encoder, reading: str) -> dict[str, Any]:
    """preprocessor_config.json for this reading; transformers rounds the corner of the crop down."""
    how, size = resizing(reading, encoder.size), encoder.size
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": how.side} if how.keeps_shape else {"height": how.side, "width": how.side},
        "resample": how.resampling.value,
        "do_center_crop": how.keeps_shape or how.side != size,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(encoder.preprocessing.mean),
        "image_std": list(encoder.preprocessing.std),
    }


def _runtime(folder: Path, prompts: Sequence[str], encoder: Encoder) -> Predict:
    """The folder as transformers loads it."""
    transformers_logging.disable_progress_bar()
    try:
        clip = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    finally:
        transformers_logging.enable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    length = clip.config.text_config.max_position_embeddings
    words = tokenizer(list(prompts), padding=True, truncation=True, max_length=length, return_tensors="pt")

    @torch.no_grad()
    def predict(pixels: UInt8[NDArray[np.uint8], "B R R 3"]) -> Float[NDArray[np.float32], "B N"]:
        values = normalise(torch.from_numpy(pixels), encoder.preprocessing.mean, encoder.preprocessing.std)
        return clip(**words, pixel_values=values).logits_per_image.softmax(-1).numpy()

    return predict
