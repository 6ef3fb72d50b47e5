"""The ML backend of Label Studio (`farshot label-studio`): predictions, and adapting again to new labels.

A request's way: `serve.guard` (may it ask?) -> `service` (what does it ask, within limits) -> `instance`
(fetch the pictures from Label Studio, and from nowhere else) -> `serve.pictures` (decode, refuse bad ones)
-> `serve.batches` (compute) -> `service` (answer). `labels` reads the labelling configuration, `trainer`
adapts to the labels in the background and exchanges the model, `server` starts and stops all of it.
"""
