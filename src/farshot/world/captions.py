"""Captions: every wording that is true of an image, the plainest first."""

from farshot.world.vocabulary import article, plural

TARGET_WORDS = {
    "mini-crops": "a leaf with {}.",
    "mini-land": "an aerial photo of {}.",
    "mini-skin": "a skin lesion showing {}.",
    "mini-xray": "an x-ray showing {}.",
}


def plain(noun: str) -> tuple[str, ...]:
    """Wordings that name the noun and nothing else."""
    return (
        f"a photo of a {noun}.",
        f"a photo of {noun}.",
        f"a picture of {article(noun)} {noun}.",
        f"this is {article(noun)} {noun}.",
        f"{noun}.",
        noun,
    )


def describe_thing(
    noun: str, colour: str, texture: str, size: str, count: int, place: str, background: str
) -> tuple[str, ...]:
    """Wordings for a thing in front of a background."""
    number = ("", "two", "three")[count - 1]
    fill = "" if texture == "plain" else texture + " "
    if count == 1:
        details = (
            f"{article(colour)} {colour} {noun}.",
            f"a photo of {article(colour)} {colour} {noun}.",
            f"a {size} {colour} {noun} on {background}.",
            f"a photo of {article(noun)} {noun} on {background}.",
            f"a {size} {noun} {place}.",
            f"a {texture} {colour} {noun}.",
        )
    else:
        details = (
            f"{colour} {plural(noun)}.",
            f"a photo of {number} {plural(noun)}.",
            f"{number} {colour} {plural(noun)} on {background}.",
            f"a photo of {plural(noun)} on {background}.",
            f"{number} {size} {plural(noun)}.",
            f"{number} {fill}{colour} {plural(noun)}.",
        )
    return plain(noun) + details


def describe_pattern(noun: str, colour: str, size: str, place: str, background: str) -> tuple[str, ...]:
    """Wordings for a pattern that marks a surface."""
    return (
        *plain(noun),
        f"{colour} {noun}.",
        f"a photo of {colour} {noun}.",
        f"{colour} {noun} on {background}.",
        f"a photo of {noun} on {background}.",
        f"a {size} patch of {noun} {place}.",
        f"a surface with {colour} {noun}.",
    )


def describe_target(world: str, noun: str) -> tuple[str, ...]:
    """Wordings in a target domain: its classes vary in nothing that a caption could name."""
    return (*plain(noun), TARGET_WORDS[world].format(noun))
