"""UsageService: what is spent, held and left, and what the ledger says of it."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc.aio

from bursar.authority.authority import Authority
from bursar.authority.records import Records
from bursar.domain.errors import LedgerUnavailable
from bursar.pb import usage_service_pb2 as pb
from bursar.pb import usage_service_pb2_grpc as pb_grpc
from bursar.service.decode import decode_query, decode_question
from bursar.service.decode_usage import (
    decode_entry_question,
    decode_usage_question,
    decode_verify,
)
from bursar.service.encode import encode_balances, encode_explanation, encode_holds
from bursar.service.encode_usage import encode_entries, encode_usage, encode_verified

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class UsageServicer(pb_grpc.UsageServiceServicer):
    """Answers from the counters that decide, and from the ledger."""

    def __init__(self, authority: Authority, records: Records | None) -> None:
        self._authority = authority
        self._ledger = records

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

    @property
    def _records(self) -> Records:
        if self._ledger is None:
            raise LedgerUnavailable("this server has no ledger")
        return self._ledger

    async def QueryUsage(
        self, request: pb.QueryUsageRequest, context: Context
    ) -> pb.QueryUsageResponse:
        """Answer what was used."""
        question = decode_usage_question(request)
        page = await self._records.query_usage(question, request.page_size, request.page_token)
        return encode_usage(page)

    async def ListLedgerEntries(
        self, request: pb.ListLedgerEntriesRequest, context: Context
    ) -> pb.ListLedgerEntriesResponse:
        """List what was booked."""
        question = decode_entry_question(request)
        page = await self._records.list_entries(question, request.page_size, request.page_token)
        return encode_entries(page)

    async def Verify(self, request: pb.VerifyRequest, context: Context) -> pb.VerifyResponse:
        """Compare the ledger with what decides."""
        org = decode_verify(request)
        verified = await self._records.verify(org, request.deep, request.repair, request.page_token)
        return encode_verified(verified)
