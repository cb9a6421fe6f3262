"""Importing the program does nothing: no file is written, no network asked, no process or thread begun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMPORTS = """
import importlib, os, pkgutil, sys, threading

def refuse(event, args):
    wrote = event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and args[0] != os.devnull
    assert not wrote and event not in ("socket.connect", "socket.bind", "subprocess.Popen", "os.mkdir"), (event, args)

import gradio, matplotlib, torch, transformers, diffusers.models, webdataset  # what others do is not ours
sys.addaudithook(refuse)
import app, mpl
before = threading.active_count()
for module in pkgutil.walk_packages(mpl.__path__, "mpl."):
    if module.name != "mpl.__main__":
        importlib.import_module(module.name)
assert threading.active_count() == before
"""


def test_nothing_happens_at_import(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "MPLCONFIGDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", IMPORTS], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
