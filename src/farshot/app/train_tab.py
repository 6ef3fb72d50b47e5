"""The step that trains: one choice between fast and thorough, and everything else under Advanced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import gradio as gr

from farshot.app.choices import OTHER, about_method, about_way, by_way, way_of, ways
from farshot.app.models import ModelChoice
from farshot.app.workspace.picture import Setup
from farshot.methods.base import Method

# in the browser, so that a click right after it sends what is shown
_SET_BY_HAND = f"() => {OTHER!r}"
_SET_BY_WAY = f"(way, method, quick) => way === {OTHER!r} ? [method, quick] : [way, false]"


class TrainTab:
    """The components, and what their values mean.

    Args:
        models: the base models by their title.
        methods: those that can be chosen, by name.
    """

    def __init__(self, models: dict[str, ModelChoice], methods: Mapping[str, type[Method]]) -> None:
        self.models, self.methods = models, methods

    def build(self, more: Callable[[], object] | None = None) -> None:
        """The components, within the tab.

        Args:
            more: builds what follows the model.
        """
        first = next(iter(self.models))
        self.model = gr.Dropdown(list(self.models), value=first, label="Model", elem_id="model")
        self.about_model = gr.Markdown(self.models[first].about)
        if more is not None:
            more()
        self.way = gr.Radio(ways(), value=way_of(Setup()), label="Training", elem_id="way")
        self.about_way = gr.Markdown(about_way(way_of(Setup())))
        with gr.Accordion("Advanced", open=False, elem_id="advanced"):
            self.method = gr.Dropdown(
                list(self.methods), value=Setup().method, label="Method", elem_id="method"
            )
            self.about_method = gr.Markdown(about_method(self.methods[Setup().method]))
            self.quick = gr.Checkbox(
                False,
                label="Quick",
                info="Train on the pictures as they are, without turned, flipped and recoloured copies: "
                "about five times faster.",
                elem_id="quick",
            )
        quiet = {"show_progress": "hidden", "api_visibility": "private"}
        for one in (self.method, self.quick):
            one.input(None, None, self.way, js=_SET_BY_HAND, **quiet)
        self.way.input(
            None, [self.way, self.method, self.quick], [self.method, self.quick], js=_SET_BY_WAY, **quiet
        )
        self.train = gr.Button("Train", variant="primary", elem_id="adapt-button")
        self.result = gr.HTML("", elem_id="result", apply_default_css=False)

    def add(self, model: ModelChoice) -> None:
        """Offer another base model; pages show it once they are drawn again."""
        self.models[model.title] = model

    @property
    def chosen(self) -> list[Any]:
        """Model, way, method and "Quick": what an event sends."""
        return [self.model, self.way, self.method, self.quick]

    @property
    def about(self) -> list[Any]:
        """The sentences on model, way and method."""
        return [self.about_model, self.about_way, self.about_method]

    def here(self) -> list[str]:
        """Names of the models that are on this computer."""
        return [one.name for one in list(self.models.values()) if one.here]

    def setup(self, before: Setup, title: str, way: str, method: str, quick: bool) -> Setup:
        """What is chosen; as it was before where the page offers no such thing."""
        if title not in self.models or method not in self.methods:
            return before
        return by_way(replace(before, model=self.models[title].name, method=method, quick=bool(quick)), way)

    def offered(self, choice: Setup) -> Setup:
        """The choice with the first model where its own is not offered any more, and so on."""
        if self._title(choice) is not None and choice.method in self.methods:
            return choice
        title = self._title(choice) or next(iter(self.models))
        return replace(choice, model=self.models[title].name, method=Setup().method)

    def shown(self, choice: Setup) -> list[Any]:
        """Values of `chosen`."""
        return [self.listed(choice), way_of(choice), choice.method, choice.quick]

    def listed(self, choice: Setup) -> Any:
        """The list of models as it is now, with the chosen one."""
        return gr.update(choices=list(self.models), value=self._title(choice))

    def sentences(self, choice: Setup) -> list[str]:
        """Values of `about`."""
        return [
            self.about_chosen(choice),
            about_way(way_of(choice)),
            about_method(self.methods[choice.method]),
        ]

    def about_chosen(self, choice: Setup) -> str:
        """The sentence on the chosen model."""
        title = self._title(choice)
        return "" if title is None else self.models[title].about

    def _title(self, choice: Setup) -> str | None:
        models = list(self.models.items())  # one may arrive meanwhile
        return next((title for title, one in models if one.name == choice.model), None)
