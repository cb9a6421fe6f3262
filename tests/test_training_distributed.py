"""Training by several processes: one clock, one writer, shared gradients or shared weights. Two on the CPU."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from training_toys import ToyTask, toy_loop
from unet_configs import SMALL, TEXT

from mpl.__main__ import main
from mpl.training import loop as training_loop
from mpl.training.autoencoder import VaeTask
from mpl.training.data import Batch
from mpl.training.denoisers import DenoiserTask
from mpl.training.loop import Loop, Run
from mpl.training.options import DataOptions, OptimizerOptions, TaskOptions
from mpl.training.sharding import fit_for_sharding, is_sharded

ROOT = Path(__file__).resolve().parent.parent
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
    run_idle(rank, folder, 0.5, SMALL)


def run_layout(rank: int, folder: Path) -> None:
    """The same, all clips, with a layout that has no silhouettes to learn from."""
    run_idle(rank, folder, 0.0, SMALL | {"layout_grid": [2, 4]})


def run_idle(rank: int, folder: Path, stills: float, model: dict) -> None:
    torch.manual_seed(0)
    data = DataOptions(batch=1, frames=2, height=8, width=8, stills=stills)
    task = ClipTask(TaskOptions("keyframes", scheduler=SCHEDULER, model=model, data=data), folder, None)
    drawn = torch.Generator().manual_seed(rank)
    frames = iter((1 + rank, 2 - rank) if stills else (2, 2))
    task.draw = lambda seed, progress: Batch(torch.randn(1, 3, next(frames), 8, 8, generator=drawn), ["a"])
    loop = Loop(task, Run(folder / "out", folder / "work", minutes=1e6))
    for _ in range(2):
        loop.step()
    torch.save([p.detach() for p in loop.trained], folder / f"weights{rank}.pt")


class ClipTask(DenoiserTask):
    """A denoiser whose captions all mean the same."""

    def build_text(self) -> torch.nn.Module:
        return NoText()

    def save(self, folder: Path) -> None:
        super().save(folder)
        torch.save(torch.cat([p.detach().flatten() for p in self.model.parameters()]), folder / "weights.pt")


class NoText(torch.nn.Module):
    def forward(self, captions: list[str]) -> torch.Tensor:
        return torch.ones(len(captions), 2, TEXT)


def run_longer(rank: int, folder: Path) -> None:
    """Three steps more of what one process began; notes what was drawn."""
    training_loop.mixed_precision = lambda _: "no"
    draw, drawn = ToyTask.draw, []
    ToyTask.draw = lambda self, *args: (
        drawn.append(draw(self, *args).x) or SimpleNamespace(x=drawn[-1], captions=["a"] * 4)
    )
    toy_loop(folder, max_steps=6).train()
    torch.save(drawn, folder / f"drawn{rank}.pt")


def run_apart(rank: int, folder: Path) -> None:
    """The second process finds another disk where the first has the state."""
    toy_loop(folder / str(rank), max_steps=6)


def run_clips(rank: int, folder: Path, recomputed: bool = False) -> None:
    """Three steps of a video model, the last of them after a save and a new start."""
    training_loop.mixed_precision = lambda _: "no"
    data = DataOptions(batch=1, frames=2, height=8, width=8)
    optimizer = OptimizerOptions(warmup_steps=0, ema=0.5, decay_from=1.0)
    options = TaskOptions("keyframes", scheduler=SCHEDULER, model=SMALL, data=data, optimizer=optimizer)
    options = replace(options, gradient_checkpointing=recomputed)
    for steps in (2, 1):
        torch.manual_seed(0)
        task = ClipTask(options, folder, None)
        task.draw = lambda seed, progress: Batch(torch.randn(1, 3, 2, 8, 8, generator=seeded(seed)), ["a"])
        task.heldout.captions = lambda count: ["a"]
        task.generate = partial(task.generate, steps=2)
        loop = Loop(task, Run(folder / "out", folder / "work", minutes=1e6))
        for _ in range(steps):
            loop.step()
        loop.save_state()
    loop.finish()


def run_recomputed(rank: int, folder: Path) -> None:
    """The same under FSDP2, with layers that are computed again."""
    run_sharded(rank, folder, recomputed=True)


def run_sharded(rank: int, folder: Path, recomputed: bool = False) -> None:
    """The same under FSDP2. accelerate shards on GPUs only, so it is told that these processes are some."""
    os.environ |= {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    }
    os.environ["FSDP_TRANSFORMER_CLS_TO_WRAP"] = "Resnet,JointAttention,TemporalConv,TemporalTransformer"
    begin = AcceleratorState.__init__

    def begin_sharded(self: AcceleratorState, *args: object, fsdp_plugin: object = None, **settings: object) -> None:
        begin(self, *args, fsdp_plugin=fsdp_plugin, **settings)
        self.distributed_type = DistributedType.FSDP
        if fsdp_plugin is not None:
            self.fsdp_plugin = fsdp_plugin

    AcceleratorState.__init__ = begin_sharded
    step, held = Loop.step, []
    Loop.step = lambda self: held.append(sum(p.to_local().numel() for p in self.trained)) or step(self)
    run_clips(rank, folder, recomputed)
    (folder / f"held{rank}").write_text(str(held[-1]))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


JOBS = {
    "toy": run_toy,
    "vae": run_vae,
    "stills": run_stills,
    "layout": run_layout,
    "longer": run_longer,
    "apart": run_apart,
    "clips": run_clips,
    "sharded": run_sharded,
    "recomputed": run_recomputed,
}


def worker(rank: int, job: str, folder: Path, port: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    torch.set_num_threads(1)
    JOBS[job](rank, folder)
    torch.distributed.destroy_process_group()


def run_two(job: str, folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(worker, (job, folder, port), nprocs=2)


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Trainings in float32; accelerate keeps the number format for as long as the process lives."""
    monkeypatch.setattr(training_loop, "mixed_precision", lambda _: "no")
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.slow
def test_processes_stop_together_and_the_first_alone_writes(tmp_path: Path) -> None:
    run_two("toy", tmp_path)
    steps = int((tmp_path / "steps0").read_text())
    assert steps == int((tmp_path / "steps1").read_text()) > 1
    rows = [json.loads(line)["step"] for line in (tmp_path / "work/log.jsonl").read_text().splitlines()]
    assert rows == list(range(1, steps + 1))
    assert (tmp_path / "out/weights.pt").is_file() and (tmp_path / "work/state").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("job", ["vae", "stills", "layout"])
def test_processes_share_their_gradients(job: str, tmp_path: Path) -> None:
    run_two(job, tmp_path)
    first, second = (torch.load(tmp_path / f"weights{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.slow
@pytest.mark.usefixtures("exact")
def test_what_one_process_began_two_go_on_with_and_one_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes' steps are those of one that draws what both drew; the first draws what it would have alone."""
    toy_loop(tmp_path / "two", max_steps=3).train()
    shutil.copytree(tmp_path / "two/work", tmp_path / "one/work")
    run_two("longer", tmp_path / "two")
    first, second = (torch.load(tmp_path / f"two/drawn{rank}.pt") for rank in (0, 1))
    after = toy_loop(tmp_path / "two", max_steps=7)
    assert (after.progress.step, after.progress.samples) == (6, 4 * 3 + 8 * 3)

    alone = toy_loop(tmp_path / "one", max_steps=6)
    assert torch.equal(first[0], alone.task.draw(alone.seed(), 0.0).x)
    assert not any(torch.equal(a, b) for a in first for b in second)
    both = iter(SimpleNamespace(x=torch.cat(pair), captions=["a"] * 8) for pair in zip(first, second, strict=True))
    monkeypatch.setattr(alone.task, "draw", lambda seed, progress: next(both))
    for _ in range(3):
        alone.step()
    pairs = zip(after.trained + after.ema.shadow_params, alone.trained + alone.ema.shadow_params, strict=True)
    assert all(torch.allclose(ours, theirs, atol=1e-6) for ours, theirs in pairs)
    after.train()
    assert (after.progress.step, after.progress.samples) == (7, 4 * 4 + 8 * 3)


@pytest.mark.slow
def test_a_state_that_one_machine_alone_has_is_refused(tmp_path: Path) -> None:
    toy_loop(tmp_path / "0", max_steps=3).train()
    with pytest.raises(Exception, match="--work .*: must be on a disk that all processes share"):
        run_two("apart", tmp_path)


@pytest.mark.slow
def test_sharded_weights_learn_the_same_as_whole_ones(tmp_path: Path) -> None:
    learned = {}
    torch.manual_seed(0)
    task = ClipTask(TaskOptions("keyframes", scheduler=SCHEDULER, model=SMALL), tmp_path, None)
    begun = torch.cat([p.detach().flatten() for p in task.model.parameters()])
    for job in ("clips", "sharded", "recomputed"):
        run_two(job, tmp_path / job)
        learned[job] = torch.load(tmp_path / job / "out/weights.pt") - begun
        assert (tmp_path / job / "out/unet/diffusion_pytorch_model.safetensors").is_file()
        assert (tmp_path / job / "work/samples-000003.png").is_file()
    whole = learned.pop("clips")
    assert whole.norm() > 0
    assert all((other - whole).norm() < 0.01 * whole.norm() for other in learned.values())
    held = [int((tmp_path / f"sharded/held{rank}").read_text()) for rank in (0, 1)]
    assert sum(held) == len(whole) and max(held) < 0.6 * sum(held)
    with pytest.raises(ValueError, match="the state there was saved with FSDP2; go on with it"):
        Loop(task, Run(tmp_path / "out", tmp_path / "sharded/work", minutes=1e6))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"optimizer": OptimizerOptions(kind="muon")}, "keyframes.optimizer.kind = muon: .* must be adamw"),
        ({"data": DataOptions(stills=0.5)}, "keyframes.data.stills = 0.5: must be 0 with FSDP2"),
    ],
)
def test_what_cannot_be_sharded_is_refused(tmp_path: Path, changes: dict, says: str) -> None:
    options = replace(TaskOptions("keyframes", scheduler=SCHEDULER, model=SMALL), **changes)
    with pytest.raises(ValueError, match=says):
        fit_for_sharding(ClipTask(options, tmp_path, None))


@pytest.mark.slow
def test_torchrun_goes_on_with_a_run_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command, from tar shards: the autoencoder, one step alone and two more by two processes."""
    monkeypatch.chdir(tmp_path)
    Path("vae.toml").write_text(
        "[vae.data]\nbatch = 1\nheight = 16\nwidth = 16\nshards = 'shards'\n"
        "[vae.model]\nblock_out_channels = [8]\nnorm_num_groups = 4\nlayers_per_block = 1\n"
    )
    small = ["--height", "16", "--width", "16", "--frames", "1"]
    train = ["train", "vae", "--preset", "vae.toml", "--out", "out/vae", "--work", "work", "--json", "--max-steps"]
    assert main(["storybook", "--split", "train", "--n", "6", "--out", "videos", *small]) == 0
    assert main(["pack", "videos", "--shards", "2", "--out", "shards"]) == 0
    assert main([*train, "1"]) == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "mpl"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([*torchrun, *train, "3"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["steps"], one["samples"]) for one in said] == [(3, 5), (3, 5)]
    card = Path("out/translation/vae/README.md").read_text()
    assert "tar shards `shards` as the first process had them: 2 to learn from, 1 held out" in card


def test_the_first_version_of_fsdp_is_refused() -> None:
    with pytest.raises(ValueError, match="FSDP_VERSION = 1: must be 2"):
        is_sharded(SimpleNamespace(distributed_type=DistributedType.FSDP, is_fsdp2=False))


def test_sharding_that_accelerate_would_leave_out_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="ACCELERATE_USE_FSDP = true: .* on GPUs; here: 1 on cpu"):
        toy_loop(tmp_path)


def test_muon_trains_in_float32_where_other_optimisers_take_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    from mpl.training import loop

    for dtype, words in ((torch.float16, ("no", "fp16")), (torch.bfloat16, ("bf16", "bf16"))):
        monkeypatch.setattr(loop, "choose_dtype", lambda *_, dtype=dtype: (dtype, ""))
        assert (loop.mixed_precision("muon"), loop.mixed_precision("adamw")) == words
