"""The background of the client for threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from bursar_client._settling import Settler
from bursar_client._steps import Effect, run_sync


class SyncWorker:
    """A thread that lives as long as anything waits in the backlog."""

    def __init__(self, settler: Settler, perform: Callable[[Effect], object]) -> None:
        self._settler = settler
        self._perform = perform
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Look at the backlog anew, and start where nobody does."""
        with self._changed:
            if self._thread is None and len(self._settler.backlog) and not self._settler.closed:
                self._thread = threading.Thread(
                    target=self._work, name="bursar-settle", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()

    def start_anew(self) -> None:
        """Have no thread, as in the beginning: that of before runs in another process."""
        self._changed = threading.Condition()
        self._thread = None

    def flush(self, timeout_s: float) -> None:
        """Wait until nothing is under way, at most timeout_s."""
        self._settler.close_soon()
        self.wake()
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while not self._settler.idle:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    return
                self._changed.wait(left_s)

    def join(self) -> None:
        """Wait for the thread to end, after the settler was ended and the channel closed."""
        self.wake()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _work(self) -> None:
        try:
            while self._rest():
                run_sync(self._settler.drain(), self._perform)
        except BaseException:
            # Whoever wakes it next has to find that nobody works.
            self._thread = None
            raise

    def _rest(self) -> bool:
        """Wait until something is due; False where nothing waits any more."""
        with self._changed:
            while (wait_s := self._settler.wait_s()) is not None and not self._settler.closed:
                if wait_s == 0:
                    return True
                self._changed.wait(wait_s)
            self._thread = None
            return False
