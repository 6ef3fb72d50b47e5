"""The service in the words of OpenAPI: what is sent and what comes back."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

ABOUT = (
    "Predictions of adapted models. An image that cannot be used has an `error` in place of a "
    "prediction; a request "
    "without a usable image is refused with 422. Every refusal is a JSON object with one sentence: "
    '{"error": "..."}.'
)


class Prediction(BaseModel):
    """What is known of one image; the fields are those of `farshot predict --json`."""

    image: str = Field(description="its name")
    class_: str | None = Field(
        None, alias="class", description="the most probable class; null where rejected"
    )
    probabilities: dict[str, float] | None = Field(None, description="of every class")
    calibrated: bool | None = Field(
        None, description="whether the probabilities say how often they are right; else they are scores"
    )
    sure: bool | None = Field(
        None, description="whether the probability reaches the limit; absent of a model without one"
    )
    p_value: float | None = Field(
        None, description="how often an image like the labelled ones is as unlike them as this one"
    )
    set: list[str] | None = Field(None, description="with `coverage`: classes, the most probable first")
    rejected: bool | None = Field(None, description="with `reject`: whether the p-value is at most that")
    note: str | None = Field(
        None, description="what was left out of the image, or what to know of the method"
    )
    explanation: str | None = Field(None, description="with `explain`: a PNG as a data address")
    error: str | None = Field(None, description="in place of all else: why the image cannot be used")


class Predicted(BaseModel):
    """The answer to a request."""

    model: str
    version: str = Field(description="hash of the model that answered")
    images: list[Prediction] = Field(description="in the order in which they were sent")


class Limit(BaseModel):
    """When a prediction is not sure."""

    wanted: float = Field(description="share of the sure predictions that should be right")
    probability: float | None = Field(
        description="from which on a prediction is sure; null where none is high enough"
    )


class Model(BaseModel):
    """A model that is served."""

    name: str
    version: str = Field(description="hash of all that it is")
    loaded: str = Field(description="when, in UTC")
    method: str
    base_model: str
    classes: list[str]
    calibrated: bool
    limit: Limit | None = Field(description="below which predictions are not sure; null without one")
    smallest_reject: float | None = Field(description="that it can keep; null where it knows no p-values")
    largest_coverage: float | None = Field(description="that it can promise; null where it knows no sets")
    error: str | None = Field(description="why the folder as it is now is not what is served")


class Listed(BaseModel):
    """All models."""

    models: list[Model]


class Loaded(BaseModel):
    """A model in the answer of /health."""

    version: str
    loaded: str
    error: str | None


class Health(BaseModel):
    """How the service is."""

    status: Literal["ok", "degraded"]
    farshot: str = Field(description="its version")
    models: dict[str, Loaded] | None = None


class Refused(BaseModel):
    """Why a request is not answered."""

    error: str


_NUMBER = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
_WORDS: dict[str, dict[str, Any]] = {
    "coverage": {
        **_NUMBER,
        "description": "add the classes that hold the true one with this probability: 0.9",
    },
    "reject": {**_NUMBER, "description": "give no class to images with a p-value of at most this: 0.05"},
    "explain": {"type": "boolean", "description": "add a picture of what the model looked at"},
}
NAME: dict[str, Any] = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "of a model, as /models lists it",
    "schema": {"type": "string"},
}
PARAMETERS: list[dict[str, Any]] = [
    {
        "name": name,
        "in": "query",
        "required": False,
        "description": words["description"],
        "schema": {key: value for key, value in words.items() if key != "description"},
    }
    for name, words in _WORDS.items()
]
_FILE = {"type": "string", "format": "binary"}
_BASE64 = {"type": "string", "contentEncoding": "base64"}
BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"images": {"type": "array", "items": _FILE}, **_WORDS},
                "required": ["images"],
            }
        },
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    "images": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {"name": {"type": "string"}, "data": _BASE64},
                            "required": ["data"],
                        },
                    },
                    **_WORDS,
                },
                "required": ["images"],
            }
        },
    },
}
_REFUSALS = {
    400: "a body or an option that cannot be read, or that the model cannot answer",
    404: "no such model",
    408: "the body came too slowly",
    413: "too many bytes or images",
    415: "a body of another type",
    422: "no image of the request can be used",
    429: "too much at once; Retry-After says when to send it again",
}


def answers(kind: str) -> dict[int | str, dict[str, Any]]:
    """The responses of a route: "predicted", "models", "model", "health" or "metrics"."""
    if kind == "metrics":
        return {200: {"content": {"text/plain": {}}, "description": "counters"}}
    model = {"predicted": Predicted, "models": Listed, "model": Model, "health": Health}[kind]
    found: dict[int | str, dict[str, Any]] = {200: {"model": model, "description": model.__doc__}}
    if kind == "predicted":
        found |= {status: {"model": Refused, "description": words} for status, words in _REFUSALS.items()}
    if kind == "model":
        found[404] = {"model": Refused, "description": _REFUSALS[404]}
    return found
