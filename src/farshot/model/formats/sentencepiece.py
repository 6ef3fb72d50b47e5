"""sentencepiece's `spiece.model` -> the `tokenizers` library, without the sentencepiece package.

The file is a protocol buffer (sentencepiece_model.proto): pieces with scores and types, and the settings of
trainer and normaliser. Only unigram models are read, the kind that SigLIP and T5 have.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as FastTokenizer

from farshot.arrays import NDArray

_UNIGRAM = 1
_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4


def sentencepiece_tokenizer(path: Path) -> FastTokenizer:
    """The tokenizer of a unigram model.

    Raises:
        ValueError: the file is damaged or of another kind.
    """
    pieces: list[tuple[str, float]] = []
    kinds: list[int] = []
    trainer: dict[int, object] = {}
    normaliser: dict[int, object] = {}
    for number, value in message_fields(path.read_bytes()):
        if number == 1 and isinstance(value, bytes):
            piece = dict(message_fields(value))
            text, score = piece.get(1, b""), piece.get(2, 0.0)
            if not isinstance(text, bytes) or not isinstance(score, float):
                raise ValueError("a piece is no text with a score")
            pieces.append((text.decode("utf-8"), score))
            kinds.append(int(piece.get(3, 1)))  # type: ignore[call-overload]
        elif number in (2, 3) and isinstance(value, bytes):
            (trainer if number == 2 else normaliser).update(message_fields(value))
    if not pieces or trainer.get(3, _UNIGRAM) != _UNIGRAM:
        raise ValueError("it holds no unigram model")
    if not all(text and math.isfinite(score) for text, score in pieces):
        raise ValueError("a piece has no text or no finite score")
    if len({text for text, _ in pieces}) != len(pieces):
        raise ValueError("a piece occurs twice")
    if _UNKNOWN not in kinds:
        raise ValueError("it has no piece for unknown words")
    fast = FastTokenizer(
        models.Unigram(pieces, unk_id=kinds.index(_UNKNOWN), byte_fallback=bool(trainer.get(35, 0)))
    )
    fast.normalizer = normalizers.Sequence(_normalizers(normaliser))
    if normaliser.get(3, 1):  # add_dummy_prefix
        fast.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    else:
        fast.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="never")
    special = [text for (text, _), kind in zip(pieces, kinds, strict=True) if kind in (_CONTROL, _UNKNOWN)]
    fast.add_special_tokens([AddedToken(text, normalized=False) for text in special])
    own = [text for (text, _), kind in zip(pieces, kinds, strict=True) if kind == _USER_DEFINED]
    fast.add_tokens([AddedToken(text, normalized=False) for text in own])
    return fast


def _normalizers(normaliser: dict[int, object]) -> list[normalizers.Normalizer]:
    out: list[normalizers.Normalizer] = []
    charsmap = normaliser.get(2)
    if isinstance(charsmap, bytes) and charsmap:
        check_charsmap(charsmap)
        out.append(normalizers.Precompiled(charsmap))
    if normaliser.get(4, 1):  # remove_extra_whitespaces
        out += [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(left=True, right=True)]
    return out


def check_charsmap(content: bytes) -> None:
    """Refuses a table of characters that points outside itself: the library would panic at the first text.

    It is a double-array trie of darts-clone: its size in bytes, 32-bit units, then the texts that replace
    characters, each ended by a zero byte.

    Raises:
        ValueError: it does.
    """
    damaged = ValueError("its table of characters is damaged")
    size = int.from_bytes(content[:4], "little")
    if len(content) < 4 or size == 0 or size % 4 or 4 + size > len(content):
        raise damaged
    units = np.frombuffer(content, "<u4", size // 4, 4).astype(np.int64)
    texts = content[4 + size :]
    texts.decode("utf-8")
    starts = np.append((np.frombuffer(texts, np.uint8) & 0xC0) != 0x80, True)  # of a character, or the end
    index = np.arange(len(units))
    below = index ^ ((units >> 10) << ((units & 0x200) >> 6))  # a node's child for byte c is at below ^ c
    parent = index ^ (units & 0xFF)
    waiting: NDArray[np.bool_] = units < 0x80000000  # nodes not reached yet; the others hold values
    reached = index[:1]
    while len(reached):
        waiting[reached] = False
        bases = below[reached]
        if ((bases | 0xFF) >= len(units)).any():
            raise damaged
        values = units[bases[(units[reached] >> 8 & 1).astype(bool)]] & 0x7FFFFFFF
        if (values > len(texts)).any() or not starts[values].all():
            raise damaged
        reached = index[waiting & np.isin(parent, bases)]


def message_fields(data: bytes) -> Iterator[tuple[int, object]]:
    """Number and value of each field of a protocol buffer message: int, float or bytes.

    Raises:
        ValueError: it is no such message, or is cut off.
    """
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError("it is no protocol buffer")
        if at + size > len(data):
            raise ValueError("it ends too early")
        piece, at = data[at : at + size], at + size
        yield number, piece if kind == 2 else struct.unpack("<d" if kind == 1 else "<f", piece)[0]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("it ends too early")
        byte = data[at]
        value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            return value, at
