"""Threads for searches give what one thread gives, in order."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info  # type: ignore[import-untyped]

from lowq_core.retrieval.threads import in_threads, serial_pool


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_in_order(count: int) -> None:
    assert in_threads(lambda x: x * x, list(range(count))) == [x * x for x in range(count)]


def test_an_error_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda x: 1 // x, [1, 0, 2])


def test_products_in_the_pool_are_serial_and_the_setting_comes_back() -> None:
    _ = np.ones((4, 4)) @ np.ones((4, 4))  # so that the library of products is loaded

    def threads() -> list[int]:
        pools = (library for library in threadpool_info() if library.get("threading_layer") == "pthreads")
        return [library["num_threads"] for library in pools]

    before = threads()
    if not before:
        pytest.skip("numpy multiplies with a library that has another kind of threads, or none")
    with serial_pool(2) as pool:
        assert set(pool.submit(threads).result()) == {1}
        assert pool.submit(threading.get_ident).result() != threading.get_ident()
    assert threads() == before
