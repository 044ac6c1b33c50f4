"""AdminService: how an installation stands, and loading its shards anew."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc.aio

from bursar.authority.records import Records
from bursar.pb import admin_service_pb2 as pb
from bursar.pb import admin_service_pb2_grpc as pb_grpc
from bursar.service.decode_usage import decode_rebuild
from bursar.service.encode_admin import encode_rebuilding, encode_status

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class AdminServicer(pb_grpc.AdminServiceServicer):
    """Answers operators."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def GetStatus(
        self, request: pb.GetStatusRequest, context: Context
    ) -> pb.GetStatusResponse:
        """Answer how shards, ledger and servers stand."""
        return encode_status(await self._records.status())

    async def Rebuild(self, request: pb.RebuildRequest, context: Context) -> pb.RebuildResponse:
        """Begin to load shards anew."""
        return encode_rebuilding(await self._records.rebuild(decode_rebuild(request)))
