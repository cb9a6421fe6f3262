"""What `torch.compile` would win of one call of each network, the time that it takes itself counted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from mpl.measure.bench import Call, stage_of
from mpl.measure.forward import median_seconds
from mpl.measure.peak import seconds_of
from mpl.terminal import RunFailed
from mpl.weights import Weights

BACKEND = "inductor"  # torch's own default; it calls the machine's C++ compiler


@torch.no_grad()
def compiled_figures(calls: Mapping[str, Call], weights: Weights, repeats: int) -> dict[str, dict[str, Any]]:
    """By stage: median seconds of a call as it is and compiled, seconds of the compiled one's first call, and after how
    many calls it has won those back (None: never). The text is read in every call, of both.

    Raises:
        RunFailed: a network could not be compiled, as without a compiler.
    """
    found = {}
    for name, call in calls.items():
        with weights.borrow(name) as model:
            arguments = (call.sample, call.timestep, call.text)
            plain = median_seconds(partial(model, *arguments, **call.labels), weights.device, repeats)
            try:
                quick = partial(torch.compile(model, backend=BACKEND), *arguments, **call.labels)
                first = seconds_of(quick, weights.device)
                after = median_seconds(quick, weights.device, repeats)
            except Exception as error:  # of the compiler's, which are many
                raise RunFailed(f"{name} could not be compiled: {error!r:.300}") from error
            finally:
                torch._dynamo.reset()
        found[stage_of(name)] = {
            "model": name,
            "seconds": round(plain, 5),
            "compiled_seconds": round(after, 5),
            "first_call_seconds": round(first, 3),
            "calls_to_win_back": math.ceil((first - after) / (plain - after)) if after < plain else None,
        }
    return found
