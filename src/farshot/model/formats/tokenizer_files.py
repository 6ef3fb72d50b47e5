"""Tokenizer files of a checkpoint -> the `tokenizers` library: `tokenizer.json`, or vocabulary files.

`tokenizer.json`; `vocab.json` and `merges.txt` (CLIP); `vocab.txt` (BERT); `spiece.model` (SigLIP).
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as FastTokenizer

from farshot.errors import ModelError
from farshot.model.formats.files import Source, first_line
from farshot.model.formats.sentencepiece import sentencepiece_tokenizer
from farshot.sanitize import short
from farshot.storage.json_text import read_object

CLIP_START, CLIP_END = "<|startoftext|>", "<|endoftext|>"
_CLIP_WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def load_fast(source: Source, vocabulary: int) -> FastTokenizer | None:
    """The tokenizer in the source's folder; None where there is none.

    Args:
        vocabulary: number of tokens of the text tower.

    Raises:
        ModelError: it is damaged, or knows more tokens than the text tower.
    """
    for names, build in _BUILDERS.items():
        if all(source.has(name) for name in names):
            try:
                fast = build(*(source.folder / name for name in names))
            except Exception as error:  # the library raises bare exceptions for damaged files
                raise ModelError(
                    f"The tokenizer of {source.name} ({', '.join(names)}) cannot be read "
                    f"({first_line(error)}); fetch it again."
                ) from error
            return _checked(source, fast, vocabulary)
    return None


def special_id(source: Source, fast: FastTokenizer, role: str, usual: str) -> int:
    """Id of a special token.

    Args:
        role: its name in tokenizer_config.json, such as "eos_token".
        usual: what it is called where that file does not say.

    Raises:
        ModelError: the tokenizer does not know it, so it belongs to another model.
    """
    named: Any = source.json("tokenizer_config.json").get(role) or usual
    token = str(named.get("content", usual)) if isinstance(named, dict) else str(named)
    found = fast.token_to_id(token)
    if found is None:
        raise ModelError(
            f"The tokenizer of {source.name} does not know the token {short(token)} ({role}), so it "
            "belongs to another model; copy that of its text tower."
        )
    return int(found)


def clip_tokenizer(vocab: Path, merges: Path) -> FastTokenizer:
    """CLIP's byte-level byte-pair encoding."""
    pairs = [line.split() for line in merges.read_text(encoding="utf-8").splitlines()]
    known = read_object(vocab)
    return clip_bpe(
        known, [(pair[0], pair[1]) for pair in pairs if len(pair) == 2 and pair[0] != "#version:"]
    )


def clip_bpe(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> FastTokenizer:
    """The same from vocabulary and merges."""
    fast = FastTokenizer(
        models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>", unk_token=CLIP_END)
    )
    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    fast.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
    words = pre_tokenizers.Split(Regex(_CLIP_WORDS), behavior="removed", invert=True)
    fast.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    fast.add_special_tokens([AddedToken(token, normalized=False) for token in (CLIP_START, CLIP_END)])
    return fast


def built_in_clip_tokenizer() -> FastTokenizer:
    """OpenAI's vocabulary of 49,408 tokens, for CLIP checkpoints that come without one (clip_bpe/LICENSE)."""
    packed = Path(__file__).parent.parent / "clip_bpe" / "merges.txt.gz"
    lines = gzip.decompress(packed.read_bytes()).decode().splitlines()
    merges = [(first, second) for first, _, second in (line.partition(" ") for line in lines)]
    letters = byte_letters()
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *(a + b for a, b in merges)]
    vocabulary = {piece: i for i, piece in enumerate([*pieces, CLIP_START, CLIP_END])}
    return clip_bpe(vocabulary, merges)


def byte_letters() -> list[str]:
    """The printable letter that represents each byte in byte-level encodings, printable bytes first."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [*map(chr, printable), *(chr(256 + i) for i in range(len(others)))]


def bert_tokenizer(vocab: Path) -> FastTokenizer:
    """BERT's WordPiece, lower-cased."""
    words = vocab.read_text(encoding="utf-8").splitlines()
    known = {word: i for i, word in enumerate(words)}
    fast = FastTokenizer(models.WordPiece(vocab=known, unk_token="[UNK]"))
    fast.normalizer = normalizers.BertNormalizer(lowercase=True)
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [word for word in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if word in known]
    fast.add_special_tokens([AddedToken(word, normalized=False) for word in special])
    return fast


def _checked(source: Source, fast: FastTokenizer, vocabulary: int) -> FastTokenizer:
    size = max(fast.get_vocab().values(), default=-1) + 1
    if size > vocabulary:
        raise ModelError(
            f"The tokenizer of {source.name} has {size} tokens, its text tower {vocabulary}: they are of two "
            "models; copy the tokenizer of its text tower."
        )
    return fast


_BUILDERS: dict[tuple[str, ...], Callable[..., FastTokenizer]] = {
    ("tokenizer.json",): lambda path: FastTokenizer.from_file(str(path)),
    ("vocab.json", "merges.txt"): clip_tokenizer,
    ("vocab.txt",): bert_tokenizer,
    ("spiece.model",): sentencepiece_tokenizer,
}
"""The files that a tokenizer is made of, by preference."""
