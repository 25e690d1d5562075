"""What a noise benchmark says of its files, and its pictures as they are read back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from lowq_core.degrade import NOISES, Noise
from lowq_core.errors import LowqError
from lowq_core.images import Box, Picture, View, open_image

MANIFEST = "manifest.json"
FORMAT = "lowq noise benchmark 1"


@dataclass(frozen=True)
class NoisyPicture(Picture):
    """A query whose file is cropped and degraded already: `bbx` and `noise` say what was done to it.

    Attributes:
        full_size: width and height in pixels before the crop; a query is seen at the zoom of its full picture.
    """

    full_size: tuple[int, int] = field(kw_only=True)

    def view(self, size: int | None) -> View:
        """What a `Picture` of the original file with this box, noise and restorer gives: same pixels, same place."""
        left, top = (0, 0) if self.bbx is None else (round(self.bbx[0]), round(self.bbx[1]))
        return self._seen(open_image(self.path), (float(left), float(top)), self.full_size, size)


@dataclass(frozen=True)
class NoisyFile:
    """One file of a noise benchmark.

    Attributes:
        file: its path below the benchmark's folder, with "/" between.
        query: name of the query (`<name>#1` where the same picture is queried again with another box).
        bbx: box that was cut out, in pixels of the upright picture, or None for all of it.
        noise: what was laid on the crop: name, severity, seed.
        full_size: width and height of the picture before the crop.
        bytes: length of the file.
        sha256: of the file.
    """

    file: str
    query: str
    bbx: Box | None
    noise: Noise
    full_size: tuple[int, int]
    bytes: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """Its entry in the manifest, flat."""
        return {
            "file": self.file,
            "query": self.query,
            "bbx": None if self.bbx is None else [float(side) for side in self.bbx],
            "noise": self.noise.name,
            "severity": self.noise.severity,
            "seed": self.noise.seed,
            "full_size": list(self.full_size),
            "bytes": self.bytes,
            "sha256": self.sha256,
        }

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> NoisyFile:
        """The reverse; KeyError, TypeError or ValueError where it is not such an entry."""
        file = PurePosixPath(entry["file"])
        if file.is_absolute() or ".." in file.parts:
            raise ValueError(f"{file} lies outside of the folder")
        bbx = None
        if entry["bbx"] is not None:
            x1, y1, x2, y2 = (float(side) for side in entry["bbx"])
            bbx = (x1, y1, x2, y2)
        noise = Noise(entry["noise"], entry["severity"], entry["seed"])
        width, height = (int(side) for side in entry["full_size"])
        if min(width, height) < 1:
            raise ValueError(f"{file} is of a picture of {width} x {height} pixels")
        length, digest = int(entry["bytes"]), str(entry["sha256"])
        return cls(str(file), str(entry["query"]), bbx, noise, (width, height), length, digest)


@dataclass(frozen=True, repr=False)
class NoiseBenchmark:
    """The noisy queries of one benchmark, as files.

    Attributes:
        root: folder of the files.
        name: the benchmark's, without distractors.
        ground_truth: see `ground_truth_digest`.
        version: of the lowq that made the files.
        files: by noise, severity and query, in that order.
    """

    root: Path
    name: str
    ground_truth: str
    version: str
    files: tuple[NoisyFile, ...]

    def __repr__(self) -> str:
        noises = {noise for noise, _ in self.conditions}
        queries = len({file.query for file in self.files})
        return f"NoiseBenchmark({self.name!r}, {queries} queries, {len(noises)} noises)"

    @cached_property
    def _by_condition(self) -> dict[tuple[str, int], tuple[NoisyFile, ...]]:
        found: dict[tuple[str, int], list[NoisyFile]] = {}
        for file in self.files:
            found.setdefault((file.noise.name, file.noise.severity), []).append(file)
        ordered = sorted(found, key=lambda condition: (NOISES.index(condition[0]), condition[1]))
        return {condition: tuple(found[condition]) for condition in ordered}

    @property
    def own_truth(self) -> Path:
        """Where the ground truth lies if the files bring it, as they do when it has no name in the catalogue."""
        return self.root / f"gnd_{self.name}.json"

    @property
    def conditions(self) -> tuple[tuple[str, int], ...]:
        """The noises and severities that there are, known noises first."""
        return tuple(self._by_condition)

    def files_of(self, noise: str, severity: int) -> tuple[NoisyFile, ...]:
        """The files of one noise at one severity, in the order of the queries.

        Raises:
            LowqError: there are none.
        """
        try:
            return self._by_condition[noise, severity]
        except KeyError:
            there = ", ".join(f"{name}:{level}" for name, level in self.conditions) or "none"
            raise LowqError(
                f"{self.root}: holds no queries under {noise}:{severity}; make them, or choose among {there}"
            ) from None

    def pictures(self, noise: str, severity: int) -> list[Picture]:
        """What `query_pictures(benchmark, (noise, severity))` gives, pixel by pixel, read from the files.

        Raises:
            LowqError: they are not there.
        """
        return [
            NoisyPicture(self.root / file.file, file.query, file.bbx, file.noise, full_size=file.full_size)
            for file in self.files_of(noise, severity)
        ]

    def only(self, conditions: Iterable[tuple[str, int]]) -> NoiseBenchmark:
        """Without all noises and severities but those given."""
        kept = set(conditions)
        return replace(self, files=tuple(f for f in self.files if (f.noise.name, f.noise.severity) in kept))

    def with_files(self, files: Sequence[NoisyFile]) -> NoiseBenchmark:
        """With more of them, in the order that does not depend on which were made first."""
        more = replace(self, files=(*self.files, *files))
        return replace(
            more, files=tuple(file for condition in more._by_condition.values() for file in condition)
        )

    def to_json(self) -> str:
        """The text of the manifest."""
        content = {
            "format": FORMAT,
            "benchmark": self.name,
            "ground_truth": self.ground_truth,
            "lowq": self.version,
            "files": [file.to_json() for file in self.files],
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def read_noise_benchmark(folder: Path | str) -> NoiseBenchmark:
    """The noise benchmark in `folder`. Its manifest is read, not its pictures; `check_noise_benchmark` holds
    them to their digests.

    Raises:
        LowqError: no manifest, or one that is broken or of something else.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise LowqError(f"{path}: no such file; give the folder of a finished noise benchmark")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}, not {FORMAT!r}")
        name, digest, version = (str(content[key]) for key in ("benchmark", "ground_truth", "lowq"))
        files = tuple(NoisyFile.from_json(entry) for entry in content["files"])
        return NoiseBenchmark(path.parent, name, digest, version, files)
    except (KeyError, TypeError, ValueError, RecursionError) as error:  # LowqError is a ValueError
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise LowqError(
            f"{path}: is not the manifest of a noise benchmark ({what}); give another folder or get it again"
        ) from None
