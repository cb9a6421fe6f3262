"""The stage cache: what comes back, what is bounded, and what happens to broken entries."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mpl.store import StageCache, digest, text_cache

ROOT = Path(__file__).resolve().parent.parent


A, B, C, D, K = (digest(letter) for letter in "abcdk")


@pytest.fixture
def clip():
    return np.random.default_rng(0).standard_normal((1, 3, 2, 4, 6)).astype(np.float32)


def test_round_trip(tmp_path, clip):
    cache = StageCache(tmp_path / "new" / "folder")
    info = {"seconds": 1.5, "info": {"noise_level": 250}, "words": [["zzz", None]]}
    assert cache.get(K) is None
    assert cache.put(K, {"clip": clip.transpose(0, 1, 2, 4, 3), "other": np.arange(3)}, info)
    entry = cache.get(K)
    assert np.array_equal(entry.arrays["clip"], clip.transpose(0, 1, 2, 4, 3)) and entry.info == info
    assert entry.arrays["clip"].flags.writeable and set(entry.arrays) == {"clip", "other"}


def test_digest_depends_on_values_not_on_order(clip):
    assert digest({"a": 1, "b": [clip.tolist()]}) == digest({"b": [clip.tolist()], "a": 1})
    changed = clip.copy()
    changed[0, 0, 0, 0, 0] += 1e-6
    parts = [("x", clip), ("x", changed), ("y", clip), ("x", clip.reshape(-1)), ("x", clip.astype(np.float64)), ("xy",)]
    parts += [("x", "y"), ({"a": 1.0},), ({"a": 2},), (None,)]
    assert len({digest(*p) for p in parts}) == len(parts)
    assert digest(clip) == digest(np.asfortranarray(clip))


def test_least_recently_used_entries_go_first(tmp_path, clip):
    cache = StageCache(tmp_path)
    for key in (A, B, C):
        cache.put(key, {"clip": clip}, {})
    one = (tmp_path / f"{A}.safetensors").stat().st_size
    for age, key in ((30, A), (20, B), (10, C)):
        os.utime(tmp_path / f"{key}.safetensors", (time.time() - age,) * 2)
    assert cache.get(A)  # used: now the newest
    bounded = StageCache(tmp_path, max_bytes=2 * one + 10)
    bounded.prune()
    assert [key for key in (A, B, C) if bounded.get(key)] == [A, C]
    assert bounded.bytes() == 2 * one
    assert not StageCache(tmp_path, max_bytes=clip.nbytes - 1).put(D, {"clip": clip}, {})
    bounded.clear()
    assert bounded.bytes() == 0


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_a_broken_entry_is_no_entry_and_is_deleted(tmp_path, clip, damage):
    cache = StageCache(tmp_path)
    cache.put(K, {"clip": clip}, {})
    path = tmp_path / f"{K}.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    broken = {"cut": data[: len(data) // 2], "flip": data, "empty": b"", "text": b"not a tensor file"}[damage]
    path.write_bytes(broken)
    assert cache.get(K) is None
    assert not path.exists()
    assert cache.put(K, {"clip": clip}, {}) and cache.get(K)


def test_a_disk_that_refuses_costs_nothing_but_the_entry(tmp_path, clip):
    (tmp_path / "file").write_text("in the way")
    cache = StageCache(tmp_path / "file")
    assert cache.put(K, {"clip": clip}, {}) is False
    assert cache.get(K) is None


def test_an_entry_that_cannot_be_deleted_costs_nothing_but_room(tmp_path, clip, monkeypatch):
    """As on Windows, while somebody reads it."""
    cache = StageCache(tmp_path, max_bytes=clip.nbytes + 1000)
    assert cache.put(A, {"clip": clip}, {})

    def refuse(self, missing_ok=False):
        raise PermissionError(13, "in use")

    monkeypatch.setattr(Path, "unlink", refuse)
    assert cache.put(B, {"clip": clip}, {}) and cache.get(A) and cache.get(B)
    (tmp_path / f"{A}.safetensors").write_bytes(b"broken")
    assert cache.get(A) is None


def test_a_full_disk_costs_nothing_but_the_entry(tmp_path):
    """Files may grow to 100 bytes, so that the library that writes entries fails in the middle."""
    code = f"""
import resource
import numpy as np
from mpl.store import StageCache

resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
cache = StageCache({str(tmp_path / "cache")!r})
assert cache.put({K!r}, {{"clip": np.zeros(1000, np.float32)}}, {{}}) is False and cache.get({K!r}) is None
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_leftovers_of_killed_processes_go_and_fresh_ones_stay(tmp_path, clip):
    cache = StageCache(tmp_path)
    old, fresh, library_s = tmp_path / f".{K}.1.1.tmp", tmp_path / f".{K}.2.2.tmp", tmp_path / ".tmpAbC123"
    for path in (old, fresh, library_s):
        path.touch()
    for path in (old, library_s):
        os.utime(path, (time.time() - 7200,) * 2)
    cache.put(K, {"clip": clip}, {})
    assert not old.exists() and not library_s.exists() and fresh.exists()


def test_files_that_are_no_entries_are_left_alone(tmp_path, clip):
    """A folder that somebody gives a cache may hold models and clips."""
    others = [tmp_path / name for name in ("model.safetensors", "notes.tmp", ".tmp", "clip-0.safetensors")]
    for path in others:
        path.write_bytes(bytes(9000))
        os.utime(path, (time.time() - 7200,) * 2)
    cache = StageCache(tmp_path, max_bytes=8000)
    assert cache.put(K, {"clip": clip}, {}) and cache.get(K) and cache.bytes() < 8000
    cache.clear()
    assert not cache.get(K) and all(path.exists() for path in others)


def test_threads_may_write_the_same_key(tmp_path, clip):
    cache = StageCache(tmp_path)
    results = []
    work = [threading.Thread(target=lambda: results.append(cache.put(K, {"clip": clip}, {}))) for _ in range(8)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert results == [True] * 8 and np.array_equal(cache.get(K).arrays["clip"], clip)
    assert [p.name for p in tmp_path.iterdir()] == [f"{K}.safetensors"]


def test_keys_are_no_paths(tmp_path):
    for key in ("../k", "a/b", "", "a.b", "model", K + "0"):
        with pytest.raises(ValueError, match="cache key"):
            StageCache(tmp_path).get(key)
    with pytest.raises(ValueError, match="max_bytes"):
        StageCache(tmp_path, max_bytes=0)


def test_where_embeddings_are_kept(tmp_path, clip):
    cache = text_cache(None, tmp_path)
    assert cache.folder == tmp_path / "text" and not cache.folder.exists()
    assert text_cache(str(tmp_path / "own"), tmp_path).folder == tmp_path / "own"
    assert text_cache("off", tmp_path) is False
    cache.put(K, {"clip": clip}, {})
    assert text_cache(None, tmp_path).get(K) and not text_cache(None, tmp_path, clear=True).get(K)
    with pytest.raises(ValueError, match="--clear-text-cache.*accepted: a folder"):
        text_cache("off", tmp_path, clear=True)
    with pytest.raises(ValueError, match="--text-cache = "):
        text_cache("a\0b", tmp_path)
    with pytest.raises(ValueError, match="--text-cache = /dev/null: cannot write there"):
        text_cache("/dev/null", tmp_path)
    assert text_cache(None, "/dev/null")  # nobody named it: homes may be read-only
