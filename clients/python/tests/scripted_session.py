"""The streams of the scripted server: what they carry is recorded, and they end where told to."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc

from bursar_client.pb import budget_authority_service_pb2 as authority_pb

Message: TypeAlias = Any


@dataclass(eq=False)
class ScriptedStream:
    """One stream.

    Attributes:
        messages: The numbers of the operations of each message that came.
        timeouts_s: Of its operations, in order.
        closed: Set once the client sends nothing more, or is gone.
    """

    messages: list[list[int]] = field(default_factory=list)
    timeouts_s: list[float] = field(default_factory=list)
    closed: threading.Event = field(default_factory=threading.Event)
    _out: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)

    def say(self, response: authority_pb.SessionResponse) -> None:
        self._out.put(response)

    def drain(self) -> None:
        self.say(authority_pb.SessionResponse(draining=True))

    def end(self, code: grpc.StatusCode = grpc.StatusCode.OK) -> None:
        """End it, whatever is in flight."""
        self._out.put(code)

    def outgoing(self) -> Iterator[Any]:
        while True:
            yield self._out.get()


class ScriptedSessions:
    """Carries out operations of streams, each in a thread of its own, answered as they are done.

    Attributes:
        streams: All that were opened.
        refuse: The code that every stream ends with at its first message, or None.
        refuse_unread: Whether it ends before that, so that the message may meet its end.
        refused: Set once a stream has ended so.
        silent: Whether streams take operations and neither carry them out nor answer.
        script: What becomes of the next answers: the code that their stream ends with instead,
            after the operation was carried out.
    """

    def __init__(self, result: Callable[[Message], Message]) -> None:
        self.streams: list[ScriptedStream] = []
        self.refuse: grpc.StatusCode | None = None
        self.refuse_unread = False
        self.refused = threading.Event()
        self.silent = False
        self.script: deque[grpc.StatusCode] = deque()
        self._result = result

    @property
    def messages(self) -> list[list[int]]:
        return [numbers for stream in self.streams for numbers in stream.messages]

    def serve(self, requests: Message, context: Message) -> Iterator[Message]:
        stream = ScriptedStream()
        self.streams.append(stream)
        if self.refuse is not None:
            context.add_callback(self.refused.set)
            if not self.refuse_unread:
                next(requests)
            context.abort(self.refuse, "no streams here")
        threading.Thread(target=self._read, args=(stream, requests), daemon=True).start()
        for out in stream.outgoing():
            if out is grpc.StatusCode.OK:
                return
            if isinstance(out, grpc.StatusCode):
                context.abort(out, "the stream was broken")
            yield out

    def end(self) -> None:
        for stream in self.streams:
            stream.end()

    def _read(self, stream: ScriptedStream, requests: Message) -> None:
        carrying: list[threading.Thread] = []
        try:
            for message in requests:
                stream.messages.append([each.correlation_id for each in message.operations])
                for each in message.operations:
                    stream.timeouts_s.append(each.timeout.ToNanoseconds() / 1e9)
                    if not self.silent:
                        carrying.append(
                            threading.Thread(
                                target=self._carry_out, args=(stream, each), daemon=True
                            )
                        )
                        carrying[-1].start()
            for thread in carrying:
                thread.join()
            stream.end()
        except grpc.RpcError:
            stream.end()
        except Exception:
            # How gRPC says that the client is gone.
            stream.end()
        finally:
            stream.closed.set()

    def _carry_out(self, stream: ScriptedStream, operation: Message) -> None:
        result = self._result(operation.operation)
        if self.script:
            stream.end(self.script.popleft())
            return
        answer = authority_pb.SessionResult(correlation_id=operation.correlation_id, result=result)
        stream.say(authority_pb.SessionResponse(results=[answer]))
