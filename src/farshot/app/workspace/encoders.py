"""Base models, loaded once for all sessions."""

from __future__ import annotations

import threading
from collections import OrderedDict

from farshot.model.encoder import Encoder
from farshot.model.find import check_device, load_encoder


class Encoders:
    """The base models in memory.

    One computation at a time, since more would only share the same cores: whoever computes holds `busy`.

    Args:
        device, precision: as `load_encoder` takes them.
        most: how many are kept; the one that was not used for longest goes.
    """

    def __init__(self, device: str = "auto", precision: str = "float32", most: int = 2) -> None:
        self.device, self.precision, self.most = device, precision, most
        self.busy = threading.Lock()
        self._loaded: OrderedDict[str, Encoder] = OrderedDict()

    @property
    def on_processor(self) -> bool:
        """Whether there is no accelerator, so that what trains takes long."""
        return check_device(self.device).type == "cpu"

    def get(self, model: str) -> Encoder:
        """The base model of this name, loaded if need be."""
        if model not in self._loaded:
            self._loaded[model] = load_encoder(model, device=self.device, precision=self.precision)
        self._loaded.move_to_end(model)
        while len(self._loaded) > self.most:
            self._loaded.popitem(last=False)
        return self._loaded[model]
