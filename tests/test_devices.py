"""Which device and number format are chosen, by options and by what a machine has."""

from __future__ import annotations

import pytest
import torch

from mpl.devices import choose_device, choose_dtype

CPU = torch.device("cpu")


def test_policy_for_devices_and_number_formats(monkeypatch):
    assert choose_dtype("auto", torch.device("cuda"))[0] in (torch.bfloat16, torch.float16)
    with pytest.raises(ValueError, match="weights.dtype = float16: too slow on a CPU"):
        choose_dtype("float16", CPU)
    for has_it, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has_it=has_it: has_it)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert choose_dtype("auto", CPU)[0] == dtype
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto")[0] == CPU
    with pytest.raises(ValueError, match="weights.device = cuda: this machine has 0 CUDA devices"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: "Some GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda i: (8, 6))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80", "sm_90"])
    assert choose_device("auto")[0] == torch.device("cuda:0")
    with pytest.raises(ValueError, match="cuda:1"):
        choose_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "2")  # as torchrun sets it
    assert choose_device("auto")[0] == torch.device("cuda:2")
    assert choose_device("cuda")[0] == torch.device("cuda:2") and choose_device("cuda:0")[0] == torch.device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "5")
    assert choose_device("auto")[0] == torch.device("cuda:1")


@pytest.mark.parametrize(
    ("capability", "built", "runs"),
    [
        ((6, 1), ["sm_75", "sm_90", "compute_120"], False),
        ((6, 1), ["sm_60", "sm_75"], True),
        ((7, 5), ["sm_80"], False),
        ((12, 0), ["sm_75", "compute_90"], True),  # which the driver translates
        ((9, 0), ["sm_90a"], True),
    ],
)
def test_a_gpu_that_this_torch_cannot_compute_on_is_left_alone(monkeypatch, capability, built, runs):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: "GTX 1080")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda i: capability)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built)
    device, reason = choose_device("auto")
    assert device.type == ("cuda" if runs else "cpu") and "GTX 1080" in reason
    if not runs:
        with pytest.raises(
            ValueError, match="weights.device = cuda: this torch was built without kernels for GTX 1080"
        ):
            choose_device("cuda")
