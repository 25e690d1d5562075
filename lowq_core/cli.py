"""`lowq`: thin verbs, each one call that a notebook could make.

Heavy modules are imported by the verb that needs them, so that `lowq --help` answers at once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import tyro
from tyro.conf import OmitArgPrefixes, subcommand

from lowq_core.errors import LowqError
from lowq_core.verbs.data import Data
from lowq_core.verbs.project import Doctor, List, Reproduce
from lowq_core.verbs.retrieve import Evaluate, Extract, Find, Rerank

FULL = {errno.ENOSPC, errno.EDQUOT}
WRONG_PLACE = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
}

Command = (
    Annotated[Reproduce, subcommand("reproduce")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Extract, subcommand("extract")]
    | Annotated[Find, subcommand("find")]
    | Annotated[Rerank, subcommand("rerank")]
    | Annotated[Data, subcommand("data")]
    | Annotated[List, subcommand("list")]
    | Annotated[Doctor, subcommand("doctor")]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; 0 done, 1 not all passed, 2 an input that its owner can mend.

    >>> main(["list", "profiles"])  # doctest: +ELLIPSIS
    smoke ...
    0
    """
    command = tyro.cli(
        Command,
        prog="lowq",
        description="Image retrieval from bad pictures: reproduce the works, evaluate, extract, find, rerank.",
        args=argv,
        config=(OmitArgPrefixes,),
    )
    try:
        status = command.run()
        sys.stdout.flush()
        return status
    except LowqError as error:
        print(f"lowq: {error}", file=sys.stderr)
    except BrokenPipeError:  # the reader of the output has seen enough, as `head` has
        _drop_output()
        return 0
    except OSError as error:
        if error.errno not in WRONG_PLACE | FULL:
            raise
        if error.filename is None:
            _drop_output()
        print(f"lowq: {_told(error)}", file=sys.stderr)
    except KeyboardInterrupt:
        print("lowq: stopped; what was finished is kept, run the same command to go on", file=sys.stderr)
        return 130
    return 2


def _told(error: OSError) -> str:
    where = error.filename or "output"
    if error.errno in FULL:
        return f"{where}: the disk is full; free some space and run again"
    return (
        f"{where}: cannot be read or written ({error.strerror}); give another path or change its permissions"
    )


def _drop_output() -> None:
    """Keep Python from writing what is left at exit, which would fail once more."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
