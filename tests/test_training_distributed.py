"""Training by several processes: one clock, one writer, shared gradients. Two processes on the CPU."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

import pytest
import torch
from training_toys import ToyTask, toy_loop
from unet_configs import SMALL, TEXT

from mpl.training.autoencoder import VaeTask
from mpl.training.data import Batch
from mpl.training.denoisers import DenoiserTask
from mpl.training.loop import Loop, Run
from mpl.training.options import DataOptions, TaskOptions

SCHEDULER = {"_class_name": "DDPMScheduler", "prediction_type": "v_prediction"}
MODEL = {"block_out_channels": [8], "norm_num_groups": 4, "layers_per_block": 1}


def run_toy(rank: int, folder: Path) -> None:
    """A run ended by time, where one process's clock is slower; then it goes on."""
    draw = ToyTask.draw
    ToyTask.draw = lambda self, *args: time.sleep(0.02 * rank) or draw(self, *args)
    for minutes in (0.005, 0.01):
        loop = toy_loop(folder, minutes=minutes, max_steps=None, save_every=0.002, sample_every=0.002)
        loop.train()
    (folder / f"steps{rank}").write_text(str(loop.progress.step))
    assert loop.progress.samples == 8 * loop.progress.step


def run_vae(rank: int, folder: Path) -> None:
    """Two steps of the autoencoder, each process with pictures of its own."""
    torch.manual_seed(0)
    task = VaeTask(TaskOptions("vae", model=MODEL, data=DataOptions(batch=1, height=16, width=16)), folder, None)
    drawn = torch.Generator().manual_seed(rank)
    task.data.draw = lambda seed, progress: Batch(torch.randn(1, 3, 1, 16, 16, generator=drawn), ["a"])
    loop = Loop(task, Run(folder / "out", folder / "work", minutes=1e6))
    for _ in range(2):
        loop.step()
    torch.save([p.detach() for p in loop.trained], folder / f"weights{rank}.pt")


def run_stills(rank: int, folder: Path) -> None:
    """Two steps of a video model; of its processes one has clips, the other single frames, and then the reverse."""
    torch.manual_seed(0)
    data = DataOptions(batch=1, frames=2, height=8, width=8, stills=0.5)
    task = StillsTask(TaskOptions("keyframes", scheduler=SCHEDULER, model=SMALL, data=data), folder, None)
    drawn = torch.Generator().manual_seed(rank)
    frames = iter((1 + rank, 2 - rank))
    task.draw = lambda seed, progress: Batch(torch.randn(1, 3, next(frames), 8, 8, generator=drawn), ["a"])
    loop = Loop(task, Run(folder / "out", folder / "work", minutes=1e6))
    for _ in range(2):
        loop.step()
    torch.save([p.detach() for p in loop.trained], folder / f"weights{rank}.pt")


class StillsTask(DenoiserTask):
    """A denoiser whose text states need no encoder."""

    def build_text(self) -> torch.nn.Module:
        return torch.nn.Identity()

    def states(self, captions: list[str], generator: torch.Generator) -> torch.Tensor:
        return torch.ones(len(captions), 2, TEXT)


def worker(rank: int, job: str, folder: Path, port: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    torch.set_num_threads(1)
    {"toy": run_toy, "vae": run_vae, "stills": run_stills}[job](rank, folder)
    torch.distributed.destroy_process_group()


def run_two(job: str, folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(worker, (job, folder, port), nprocs=2)


@pytest.mark.slow
def test_processes_stop_together_and_the_first_alone_writes(tmp_path: Path) -> None:
    run_two("toy", tmp_path)
    steps = int((tmp_path / "steps0").read_text())
    assert steps == int((tmp_path / "steps1").read_text()) > 1
    rows = [json.loads(line)["step"] for line in (tmp_path / "work/log.jsonl").read_text().splitlines()]
    assert rows == list(range(1, steps + 1))
    assert (tmp_path / "out/weights.pt").is_file() and (tmp_path / "work/state").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("job", ["vae", "stills"])
def test_processes_share_their_gradients(job: str, tmp_path: Path) -> None:
    run_two(job, tmp_path)
    first, second = (torch.load(tmp_path / f"weights{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
