"""Settings of the profiles: how local features are made, trained and searched, and options of searches."""

from __future__ import annotations

from typing import Any

from lowq_core.degrade import KNOWN
from lowq_core.reproduce.settings import LocalSettings

SMOKE = LocalSettings(
    backbone="lite0-",
    dim=32,
    size=96,
    scales=(1.0, 2**-0.5),
    count=40,
    precision="float32",
    words=32,
    codebook_pictures=8,
    epochs=1,
    queries_per_epoch=2,
    pool=8,
    negatives=1,
    batch=2,
    lr=1e-5,
    train_size=96,
    whitening_pictures=8,
    whitening_features=100,
    seeds=(0,),
    noises=("jpeg",),
)
MINI = LocalSettings(
    backbone="lite0-",
    dim=64,
    size=320,
    scales=(1.0, 0.5),
    count=300,
    precision="float32",
    words=1024,
    codebook_pictures=100,
    epochs=1,
    queries_per_epoch=16,
    pool=60,
    negatives=2,
    batch=2,
    lr=1e-5,
    train_size=160,
    whitening_pictures=50,
    whitening_features=200,
    seeds=(0, 1, 2),
    noises=("motion_blur", "jpeg"),
)
REAL = LocalSettings(
    backbone="lite0-",
    dim=96,
    size=640,
    scales=(1.414, 1.0, 0.707, 0.5, 0.353),
    count=800,
    precision="float32",
    words=8192,
    codebook_pictures=600,
    epochs=1,
    queries_per_epoch=150,
    pool=400,
    negatives=3,
    batch=5,
    lr=1e-5,
    train_size=384,
    whitening_pictures=400,
    whitening_features=300,
    seeds=(0, 1, 2),
    noises=KNOWN,
)
PAPER = LocalSettings(
    backbone="resnet50-",
    dim=128,
    size=1024,
    scales=(2.0, 1.414, 1.0, 0.707, 0.5, 0.353, 0.25),
    count=1000,
    precision="float32",
    words=65536,
    codebook_pictures=20000,
    epochs=20,
    queries_per_epoch=2000,
    pool=20000,
    negatives=5,
    batch=5,
    lr=1e-6,
    train_size=1024,
    whitening_pictures=5000,
    whitening_features=1000,
    seeds=(0, 1, 2),
    noises=KNOWN,
    validation="sfm120k",
)

FEW: dict[str, dict[str, Any]] = {
    "dqe": {"negatives": 20},
    "dfs": {"k": 10},
    "dfst": {"k": 10, "truncation": 20},
    "fsr": {"k": 10},
    "dfs-fsr": {"k": 10, "rank": 20},
    "gss": {"epochs": 5},
    "sv": {"candidates": 10},
    "hesaff": {"candidates": 10},
    "dsm": {"candidates": 10},
    "gss_v": {"candidates": 10, "k": 5, "epochs": 5},
    "gss_v-sv": {"candidates": 10, "k": 5, "epochs": 5},
}
"""For databases of some fifty pictures."""
HUNDREDS: dict[str, dict[str, Any]] = {
    "dfst": {"truncation": 200},
    "gss": {"epochs": 100, "precision": "auto"},
    "sv": {"candidates": 50},
    "hesaff": {"candidates": 50},
    "dsm": {"candidates": 50},
    "gss_v": {"candidates": 50, "k": 5, "epochs": 100, "precision": "auto"},
    "gss_v-sv": {"candidates": 50, "k": 5, "epochs": 100, "precision": "auto"},
}
THOUSANDS: dict[str, dict[str, Any]] = {
    "sv": {"candidates": 100},
    "hesaff": {"candidates": 100},
    "dsm": {"candidates": 100},
    "gss_v": {"candidates": 100, "k": 5},
    "gss_v-sv": {"candidates": 100, "k": 5, "query_k": 10},
}
FEW_GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "aqe": {"n": (1, 3)},
    "alphaqe": {"n": (1, 3)},
    "dqe": {"n": (3,), "negatives": (20,)},
    "dba": {"n": (1, 3)},
    "dfs": {"k": (5, 10)},
    "dfst": {"k": (10,), "truncation": (20,)},
    "fsr": {"k": (10,), "rank": (20,)},
    "dfs-fsr": {"k": (10,), "rank": (20,)},
    "ime": {"k": (3,)},
    "gss-untrained": {"k": (3, 5)},
    "gss": {"k": (5,), "epochs": (2, 5)},
}
GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "aqe": {"n": (1, 3, 5, 10)},
    "alphaqe": {"n": (3, 5, 10, 50), "alpha": (1.0, 3.0)},
    "dqe": {"n": (1, 3, 5, 10), "negatives": (200,)},
    "dba": {"n": (1, 3, 5, 10), "alpha": (3.0,)},
    "dfs": {"k": (5, 10, 20, 50), "query_k": (3, 5, 10)},
    "dfst": {"k": (5, 10, 20), "query_k": (5,), "truncation": (200,)},
    "fsr": {"k": (5, 10, 20), "query_k": (5,)},
    "dfs-fsr": {"k": (5, 10, 20), "query_k": (5,)},
    "ime": {"k": (3, 5, 10)},
    "gss-untrained": {"k": (3, 5, 10), "query_k": (3, 5, 10)},
    "gss": {"k": (5, 10), "query_k": (5, 10), "epochs": (100, 200)},
}
"""What is tried of a search's options on the validation sets."""
