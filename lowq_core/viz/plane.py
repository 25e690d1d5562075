"""Descriptors laid out on a plane: landmarks coloured, queries marked, neighbours joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from lowq_core.data.benchmark import Benchmark
from lowq_core.errors import LowqError
from lowq_core.viz.style import GREEN, GREY, ORANGE, house_style


def landmarks(benchmark: Benchmark) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which landmark each database picture shows, and each query, by the ground truth.

    Queries that share a positive ask for one landmark.

    Returns:
        (N,) of the pictures, -1 where a picture is positive for no query; (Q,) of the queries. Landmarks are numbered
        from 0 in the order of their first query.

    >>> from pathlib import Path
    >>> from lowq_core.data.benchmark import Query
    >>> none = np.array([], int)
    >>> queries = tuple(Query("q", None, np.array(easy), none, none) for easy in ([0, 2], [3], [2]))
    >>> of_pictures, of_queries = landmarks(Benchmark("b", tuple("abcde"), queries, Path(".")))
    >>> of_pictures.tolist(), of_queries.tolist()
    ([0, -1, 0, 1, -1], [0, 1, 0])
    """
    of_pictures = np.full(len(benchmark.images), -1)
    of_queries = np.full(len(benchmark.queries), -1)
    count = 0
    for number, query in enumerate(benchmark.queries):
        positives = np.concatenate([query.easy, query.hard]).astype(np.int64)
        known = of_pictures[positives]
        known = known[known >= 0]
        landmark = int(known[0]) if known.size else count
        count += not known.size
        of_pictures[positives] = landmark
        of_queries[number] = landmark
    return of_pictures, of_queries


def hues(of_landmarks: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N,) places on the wheel of colours, 0 to 1: those of neighbouring numbers lie far apart.

    >>> hues(np.array([0, 1, 2])).round(2).tolist()
    [0.0, 0.38, 0.76]
    """
    return np.asarray(of_landmarks * 0.381966 % 1.0)  # the golden angle


def plane(
    panels: Mapping[str, tuple[ArrayLike, ArrayLike]],
    of_pictures: Sequence[int] | NDArray[np.int64],
    of_queries: Sequence[int] | NDArray[np.int64],
) -> Figure:
    """One panel each: pictures as dots, queries as stars, both in their landmark's colour; grey without one.

    Args:
        panels: title -> places (N, 2) of the pictures, (Q, 2) of the queries.
        of_pictures, of_queries: landmarks, see `landmarks`.

    Raises:
        LowqError: places that are not two numbers for each picture and query.
    """
    pictures, asked = np.asarray(of_pictures), np.asarray(of_queries)
    with house_style():
        figure, axes = plt.subplots(1, len(panels), figsize=(5.0 * len(panels), 4.6), squeeze=False)
        for axis, (title, (places, marked)) in zip(axes[0], panels.items(), strict=True):
            at, stars = np.asarray(places, float), np.asarray(marked, float)
            if at.shape != (pictures.size, 2) or stars.shape != (asked.size, 2):
                raise LowqError(
                    f"{title}: places {at.shape} and {stars.shape} for {pictures.size} pictures and {asked.size} "
                    "queries; give two numbers for each"
                )
            shown = pictures >= 0
            axis.scatter(*at[~shown].T, s=5, color=GREY, alpha=0.4, linewidths=0)
            axis.scatter(*at[shown].T, s=14, c=_colours(pictures[shown]), linewidths=0)
            axis.scatter(*stars.T, s=110, c=_colours(asked), marker="*", edgecolors="black", linewidths=0.7)
            axis.set(title=title, xticks=[], yticks=[])
            axis.grid(False)
    return figure


def graph(
    places: ArrayLike, panels: Mapping[str, ArrayLike], of_pictures: Sequence[int] | NDArray[np.int64]
) -> Figure:
    """One panel each: every picture whose landmark is known is joined to its neighbours.

    Green where both show one landmark, orange where they do not, which is drawn above. Pictures without a landmark
    are grey dots, from which no edge begins: nothing is known of them.

    Args:
        places: (N, 2) of the pictures, the same in all panels.
        panels: title -> (N, k) neighbours of each picture.
        of_pictures: landmarks, see `landmarks`.

    Raises:
        LowqError: places or neighbours that do not fit the pictures.
    """
    at, pictures = np.asarray(places, float), np.asarray(of_pictures)
    shown = np.flatnonzero(pictures >= 0)
    with house_style():
        figure, axes = plt.subplots(1, len(panels), figsize=(5.0 * len(panels), 4.6), squeeze=False)
        for axis, (title, ids) in zip(axes[0], panels.items(), strict=True):
            neighbours = np.asarray(ids)
            if at.shape != (pictures.size, 2) or len(neighbours) != pictures.size:
                raise LowqError(
                    f"{title}: places {at.shape} and neighbours {neighbours.shape} for {pictures.size} pictures; "
                    "give two numbers and k neighbours for each"
                )
            ends = np.stack([np.repeat(shown, neighbours.shape[1]), neighbours[shown].ravel()], axis=1)
            same = pictures[ends[:, 0]] == pictures[ends[:, 1]]
            for part, colour in ((ends[same], GREEN), (ends[~same], ORANGE)):
                edges = np.full((len(part), 3, 2), np.nan)  # one line a colour, broken after each edge
                edges[:, :2] = at[part]
                axis.plot(*edges.reshape(-1, 2).T, color=colour, linewidth=0.5, alpha=0.6)
            axis.scatter(*np.delete(at, shown, axis=0).T, s=4, color=GREY, alpha=0.4, linewidths=0)
            axis.scatter(*at[shown].T, s=8, color="black", linewidths=0, zorder=3)
            axis.set(title=f"{title}: {100 * same.mean():.0f} % green", xticks=[], yticks=[])
            axis.grid(False)
    return figure


def _colours(of_landmarks: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(plt.get_cmap("hsv")(hues(of_landmarks)))
