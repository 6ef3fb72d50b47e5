"""Changes of inputs that keep their structure: of JSON, and of numbers and words in text."""

from __future__ import annotations

import json
import random
from typing import Any

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 255, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**30, 1e308, -0.0, 0.5),
    *(float("nan"), float("inf"), "", " ", "a", "\n", "\0", "\ud800", "é", "e\u0301", "{}", "{}{}", "../x"),
    *(
        "true",
        "none",
        "nan",
        "-1",
        "1e999",
        "a" * 300,
        [],
        [[]],
        [None],
        [1, 2, 3],
        {},
        {"": None},
        {"a": {}},
    ),
)
_DEPTH = 40


def change_json(payload: bytes, seed: int) -> bytes | None:
    """The JSON with a few nodes replaced, removed, copied or wrapped; None where it is none."""
    try:
        tree = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    chance = random.Random(seed)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        tree = _changed(tree, chance, _DEPTH)
    try:
        return json.dumps(tree, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return None


def _changed(node: Any, chance: random.Random, depth: int) -> Any:
    if isinstance(node, dict | list) and node and depth and chance.random() < 0.85:
        if isinstance(node, dict):
            return _of_object(dict(node), chance, depth)
        return _of_list(list(node), chance, depth)
    match chance.randrange(4):
        case 0 if isinstance(node, int | float) and not isinstance(node, bool):
            return node + chance.choice((-1, 1, 0.5, 2**16))
        case 1 if isinstance(node, str):
            place = chance.randrange(len(node) + 1)
            return node[:place] + chance.choice(("\n", "\0", '"', "é", "{", " ", "9", "")) + node[place + 1 :]
        case 2:
            return [node] if chance.random() < 0.5 else {"a": node}
        case _:
            return chance.choice(ODD)


def _of_object(node: dict[str, Any], chance: random.Random, depth: int) -> dict[str, Any]:
    key = chance.choice(list(node))
    match chance.randrange(8):
        case 0:
            del node[key]
        case 1:
            node[key + chance.choice(("_", " ", "x"))] = node[key]
        case 2:
            node[key] = node[chance.choice(list(node))]
        case _:
            node[key] = _changed(node[key], chance, depth - 1)
    return node


def _of_list(node: list[Any], chance: random.Random, depth: int) -> list[Any]:
    place = chance.randrange(len(node))
    match chance.randrange(8):
        case 0:
            del node[place]
        case 1:
            node.insert(place, node[chance.randrange(len(node))])
        case 2:
            node += node[:20]
        case _:
            node[place] = _changed(node[place], chance, depth - 1)
    return node
