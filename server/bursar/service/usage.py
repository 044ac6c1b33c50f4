"""UsageService: what is spent, held and left."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc.aio

from bursar.authority.authority import Authority
from bursar.pb import usage_service_pb2 as pb
from bursar.pb import usage_service_pb2_grpc as pb_grpc
from bursar.service.decode import decode_query, decode_question
from bursar.service.encode import encode_balances, encode_explanation, encode_holds

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class UsageServicer(pb_grpc.UsageServiceServicer):
    """Answers from the counters that decide."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    async def GetBalances(
        self, request: pb.GetBalancesRequest, context: Context
    ) -> pb.GetBalancesResponse:
        """Answer the counters of a subject."""
        subject = decode_query(request.subject, request.page_size, request.page_token)
        page = await self._authority.balances(subject, request.page_size, request.page_token)
        return encode_balances(page)

    async def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.ExplainResponse:
        """Answer which budgets apply to a request, and why."""
        subject, target = decode_question(request.subject, request.target)
        return encode_explanation(await self._authority.explain(subject, target))

    async def ListHolds(
        self, request: pb.ListHoldsRequest, context: Context
    ) -> pb.ListHoldsResponse:
        """List who holds what."""
        subject = decode_query(request.subject, request.page_size, request.page_token)
        page = await self._authority.list_holds(subject, request.page_size, request.page_token)
        return encode_holds(page)
