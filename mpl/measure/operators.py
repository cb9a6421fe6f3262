"""What a network's call spends its time on, by kinds of operators."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from torch.profiler import profile

from mpl.devices import wait

# ATen's names; what is of none of these (views, allocations), and the time between operators, is "dispatch".
KINDS = {
    "convolutions": ("mkldnn_convolution", "cudnn_convolution", "_slow_conv2d_forward", "slow_conv3d_forward"),
    "products": ("mm", "bmm", "addmm", "baddbmm", "mkldnn_linear"),
    "norms": ("native_group_norm", "native_layer_norm"),
    "activations": ("silu", "gelu", "_softmax"),
    "additions": ("add", "add_", "sub", "mul", "div", "addcmul"),
    "copies": ("copy_", "cat", "fill_", "constant_pad_nd", "pixel_shuffle", "avg_pool2d", "upsample_bilinear2d"),
}
DISPATCH = "dispatch"
_OF = {f"aten::{name}": kind for kind, names in KINDS.items() for name in names}
_ATTENTION = "aten::_scaled_dot_product"  # the fused kernels' names begin so
CALLS = 3


@torch.no_grad()
def shares_of_time(run: Callable[[], Any], device: torch.device) -> dict[str, float]:
    """By kind of operator, the share of the call's time on the CPU, as the profiler sees it; they add up to 1.

    Launching counts, on a GPU, and not the work. The profiler itself makes small operators slower.
    """
    run()
    wait(device)
    with profile() as seen:
        begin = perf_counter()
        for _ in range(CALLS):
            run()
        wait(device)
        total = perf_counter() - begin
    spent = dict.fromkeys(KINDS, 0.0)
    for event in seen.key_averages():
        kind = "products" if event.key.startswith(_ATTENTION) else _OF.get(event.key)
        if kind:
            spent[kind] += event.self_cpu_time_total / 1e6 / total
    shares = {kind: round(share, 4) for kind, share in spent.items()}
    return {**shares, DISPATCH: round(1 - sum(shares.values()), 4)}
