"""Tokenizers of our own for the tiny checkpoints: a CLIP BPE and a T5 Unigram, in the real files' formats.

They are small, know every byte or common letter, and keep the words of an ordinary prompt to a token or two, so that
a prompt of a few dozen words fits into CLIP's 77 tokens as it does with the real vocabulary.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

from tokenizers import pre_tokenizers
from transformers import T5Tokenizer

#: What people ask pictures of; the tokenizers learn their merges and pieces from these words.
CORPUS = """
a photo of an astronaut riding a horse on the moon, a painting of a small red house by the sea at sunset, the portrait
of an old man with a white beard, a watercolor of green mountains and a river in the morning mist, a cat sleeping on a
blue sofa near the window, a city street at night in the rain with neon lights, a bowl of fruit on a wooden table, soft
light, high detail, studio lighting, sharp focus, cinematic, realistic, illustration, drawing, digital art, sketch,
black and white, golden hour, bright colors, dark background, wide angle, close up, macro, landscape, abstract pattern,
low quality, blurry, deformed, ugly, text, watermark, cropped, noise, grain, people, crowd, hands, face, eyes, hair,
dog, bird, fish, lion, tiger, fox, wolf, owl, dragon, robot, spaceship, castle, bridge, tower, garden, forest, desert,
ocean, island, beach, lake, snow, winter, summer, spring, autumn, storm, clouds, sky, stars, sun, flowers, roses, tree,
leaves, grass, stone, glass, metal, gold, silver, copper, paper, silk, car, train, boat, bicycle, lighthouse, market,
kitchen, library, woman, girl, boy, child, king, queen, knight, wizard, fantasy, vintage, modern, minimal, yellow,
orange, purple, pink, brown, gray, turquoise, in the style of, made of, inside, under, over, behind, between, through
"""

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
_CLIP_MERGES = 500
#: CLIP's own split of text into words, single digits and runs of punctuation.
_CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\s a-z0-9]+"
_T5_EXTRA_IDS = 100
_T5_LETTERS = [chr(code) for code in (*range(0x21, 0x7F), *range(0xA1, 0x180))]


def clip_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """CLIP's layout: 256 byte letters, the same at a word's end, one entry for each merge, then the two marks."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = _learn_merges(Counter(re.findall(_CLIP_WORDS, CORPUS)), _CLIP_MERGES)
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(a + b for a, b in merges), BOS, EOS]
    return {token: index for index, token in enumerate(tokens)}, merges


def _learn_merges(words: Counter[str], limit: int) -> list[tuple[str, str]]:
    """Byte-pair encoding: the most frequent pair of neighbours is merged, again and again.

    The trainer of `tokenizers` does the same, but breaks ties differently in every run.
    """
    spelled = {(*word[:-1], word[-1] + "</w>"): count for word, count in words.items()}
    merges: list[tuple[str, str]] = []
    while len(merges) < limit:
        pairs: Counter[tuple[str, str]] = Counter()
        for parts, count in spelled.items():
            for pair in pairwise(parts):
                pairs[pair] += count
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        spelled = {_merged(parts, best): count for parts, count in spelled.items()}
    return merges


def _merged(parts: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    out: list[str] = []
    for part in parts:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return tuple(out)


def write_clip_tokenizer(directory: Path, *, pad_token: str = EOS) -> int:
    """Write `vocab.json`, `merges.txt` and the configs of a CLIP tokenizer; the size of the vocabulary."""
    vocabulary, merges = clip_vocabulary()
    directory.mkdir(parents=True)
    (directory / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{first} {second}" for first, second in merges)]
    (directory / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    marks = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": pad_token}
    config = {**marks, "model_max_length": 77, "do_lower_case": True, "tokenizer_class": "CLIPTokenizer"}
    (directory / "special_tokens_map.json").write_text(json.dumps(marks, indent=2))
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    return len(vocabulary)


def write_t5_tokenizer(directory: Path, *, max_length: int) -> int:
    """Write `tokenizer.json` and the config of a T5 tokenizer; the size of the vocabulary.

    Frequent words are single pieces with their log-probability as score; letters spell the rest at a lower score.
    """
    counts = Counter(re.findall(r"[a-z]+", CORPUS))
    words = sorted(counts, key=lambda word: (-counts[word], word))
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -6.0)]
    pieces += [("▁" + word, -4.0 - rank / len(words)) for rank, word in enumerate(words)]
    pieces += [(letter, -12.0) for letter in _T5_LETTERS]
    pieces += [(f"<extra_id_{index}>", 0.0) for index in reversed(range(_T5_EXTRA_IDS))]
    tokenizer = T5Tokenizer(vocab=pieces, extra_ids=_T5_EXTRA_IDS, model_max_length=max_length)
    tokenizer.save_pretrained(directory)
    return len(tokenizer)
