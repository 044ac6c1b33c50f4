"""One of several processes that serve on one address: a program of its own.

    python -m bursar.service.worker DESCRIPTOR

Only the supervisor starts it, and hands it its end of the link (`worker_link`) as an open file. It
is a whole server, as one that runs alone is.
"""

from __future__ import annotations

import asyncio
import sys

import structlog
import uvloop

from bursar.domain.errors import BursarError
from bursar.service.logs import configure_logging
from bursar.service.process import ServerProcess, fault_of, serve
from bursar.service.worker_link import BEAT_INTERVAL_S, Assignment, State, Word, WorkerEnd


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM, or until the supervisor is gone."""
    link = WorkerEnd(int(arguments[0]))
    try:
        assignment = link.receive()
    except EOFError:
        return 1
    link.end_with_supervisor()
    configure_logging(assignment.settings.log_level, assignment.settings.log_format)
    # Of every line of this process, also of those of libraries.
    structlog.contextvars.bind_contextvars(worker=assignment.number)
    try:
        uvloop.run(_serve(assignment, link))
    except (BursarError, OSError) as error:
        link.tell(Word(State.STARTING, fault_of(error)))
        return 1
    return 0


async def _serve(assignment: Assignment, link: WorkerEnd) -> None:
    process = ServerProcess(
        assignment.settings, policy_files=assignment.policy_files, shares_port=True
    )
    beating = asyncio.create_task(_beat(process, link))
    try:
        await serve(process, lambda _address: link.tell(Word(_state(process))))
    finally:
        beating.cancel()


async def _beat(process: ServerProcess, link: WorkerEnd) -> None:
    """Say how the process is, all along: silence means that its event loop stands still."""
    while True:
        link.tell(Word(_state(process)))
        await asyncio.sleep(BEAT_INTERVAL_S)


def _state(process: ServerProcess) -> State:
    if not process.address:
        return State.STARTING
    return State.READY if process.is_ready else State.UNREADY


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
