"""The storybook: a procedural world of captioned scenes that the embedded models are trained on.

Rooms: `scene` (what a scene is, sampling, held-out split), `captions` (English for a scene), `render` (scenes to
pixels) with `motions`, `settings`, `subjects`, `patterns` and `sdf` behind it, `command` (the command line verb).
`scene` and `captions` need only the standard library.
"""
