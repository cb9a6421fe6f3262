"""Where the subject and the camera are at a time of the clip. Pure arithmetic, no torch."""

import dataclasses
import math

from .scene import CLOCK_FRAMES, Scene

PAN_LENGTH = 0.62  # frame heights that the camera passes during a pan
ZOOM_RATIO = 1.6  # last magnification of a zoom over its first
SHRUNK = 0.48  # size of a growing subject at the start, over its size at the end
SPIN_TURN = 2.0 * math.pi * 0.875  # so that the last keyframe does not repeat the first
SWAY_ANGLE = 0.42
HOPS = 2.0


@dataclasses.dataclass(frozen=True)
class Pose:
    """Middle of the subject (frame heights), its scale along its own axes (half of its size) and turn (radians)."""

    x: float
    y: float
    scale_x: float
    scale_y: float
    angle: float


@dataclasses.dataclass(frozen=True)
class Camera:
    """What the camera does to the setting: a shift to the right (frame heights) and a magnification."""

    shift: float
    zoom: float


def pose(scene: Scene, frame: float) -> Pose:
    """Pose of the subject at a frame time of 0 to 28 (fractions allowed; times outside continue the movement)."""
    t = frame / (CLOCK_FRAMES - 1)
    x, y, scale, squash, angle = scene.x, scene.y, scene.size / 2, 1.0, 0.0
    bob = 0.012 * math.sin(2.0 * math.pi * (1.5 * scene.speed * t + scene.phase))
    match scene.motion:
        case "moves right" | "moves left":
            x += scene.facing * scene.travel * (2.0 * t - 1.0)
            y += bob
            angle = 2.0 * bob
        case "rises" | "falls":
            y += scene.travel * (2.0 * t - 1.0) * (1.0 if scene.motion == "rises" else -1.0)
            angle = 3.0 * bob
        case "bounces":
            hop = abs(math.sin(math.pi * HOPS * t))
            y += scene.travel * (2.0 * hop - 1.0)
            squash = 1.0 + 0.10 * (hop - 0.55)
        case "spins":
            angle = -SPIN_TURN * t
        case "grows":
            scale *= SHRUNK + (1.0 - SHRUNK) * t
        case "shrinks":
            scale *= 1.0 - (1.0 - SHRUNK) * t
        case "sways":
            swing = math.sin(2.0 * math.pi * (1.75 * t + 0.1))
            x += scene.travel * swing
            angle = -SWAY_ANGLE * swing
    return Pose(x, y, scale / math.sqrt(squash), scale * squash, angle + scene.turn)


def camera(scene: Scene, frame: float) -> Camera:
    """Camera at a frame time; a pan or a zoom is centred on the middle of the clip."""
    t = frame / (CLOCK_FRAMES - 1) - 0.5
    if scene.camera == "pan":
        return Camera(scene.camera_sign * PAN_LENGTH * t, 1.0)
    if scene.camera == "zoom":
        return Camera(0.0, ZOOM_RATIO ** (scene.camera_sign * t))
    return Camera(0.0, 1.0)
