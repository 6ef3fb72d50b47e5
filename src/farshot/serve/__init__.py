"""The prediction service: adapted models over HTTP (`farshot serve`).

A request's way: `guard` (may it ask?) -> `bodies` (what does it ask, within limits) -> `pictures` (decode
each image, refuse bad ones) -> `batches` (compute together with other requests) -> `service` (answer).
`models` loads folders and exchanges them while requests run; `server` starts and stops all of it.
"""
