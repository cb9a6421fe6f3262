"""Files of the published networks: what they are called, where they come from, whether they are the right ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .protocols import protocol_folder, read_toml

TABLE = protocol_folder() / "shared" / "weights.toml"


@dataclass(frozen=True)
class Network:
    """A published network; `files` names, for each file that it needs, what it may be called."""

    title: str
    origin: str
    files: tuple[tuple[str, ...], ...]
    sha256: Mapping[str, str]  # of files where it is known

    def find(self, folder: Path) -> dict[str, Path]:
        """Its files by name.

        Raises:
            ValueError: one is not there; says which, where it comes from, and where it was looked for.
        """
        found, lacking = {}, []
        for names in self.files:
            name = next((name for name in names if (folder / name).is_file()), None)
            if name is None:
                lacking.append(" or ".join(names))
            else:
                found[name] = folder / name
        if lacking:
            raise ValueError(f"{self.title}: {', '.join(lacking)} not in {folder}; from {self.origin}")
        return found

    def check(self, found: Mapping[str, Path]) -> dict[str, str]:
        """The SHA-256 of its files.

        Raises:
            ValueError: one is not what is known of it.
        """
        hashes = {name: sha256(path) for name, path in found.items()}
        for name, digest in hashes.items():
            known = self.sha256.get(name, digest)
            if digest != known:
                raise ValueError(f"{found[name]}: SHA-256 {digest}, must be {known}; from {self.origin}")
        return hashes


def load_networks() -> dict[str, Network]:
    """The table of networks, by the names that protocols use."""
    return {
        name: Network(values["title"], values["origin"], tuple(map(tuple, values["files"])), values["sha256"])
        for name, values in read_toml(TABLE).items()
    }


def sha256(path: Path) -> str:
    """Of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
