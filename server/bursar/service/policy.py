"""PolicyService: changes what decides."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import grpc.aio
import structlog

from bursar.authority.clock import Clock
from bursar.authority.credits import Credits
from bursar.authority.freezes import Freezes
from bursar.authority.policies import Policies
from bursar.authority.policy_admin import By, PolicyAdmin
from bursar.authority.policy_watch import PolicyWatch
from bursar.domain.errors import Fault, FieldInvalid, PolicyInvalid
from bursar.engine.operations import Engine
from bursar.ledger.credit_store import CreditStore
from bursar.ledger.database import Database
from bursar.ledger.freeze_store import FreezeStore
from bursar.ledger.policy_listener import PolicyListener
from bursar.ledger.policy_store import PolicyStore
from bursar.pb import policy_service_pb2 as pb
from bursar.pb import policy_service_pb2_grpc as pb_grpc
from bursar.service.budget_message import (
    decode_budget,
    decode_mask,
    encode_budget,
    take_over,
    with_units,
)
from bursar.service.decode_policy import (
    decode_by,
    decode_credit,
    decode_org,
    decode_page,
    decode_subtree,
    decode_version,
)
from bursar.service.encode_policy import (
    encode_applied,
    encode_credit,
    encode_freeze,
    encode_granted,
    encode_listed,
    encode_version,
)
from bursar.service.fields import check_text, unless_faulty

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Answer = TypeVar("Answer")

REPLAYED_KEY = "bursar-replayed"

_SOURCE = "the request"
_log = structlog.get_logger(__name__)
_BUDGET = re.compile(r"budgets\[\d+\]")


@dataclass(frozen=True, slots=True)
class PolicyCases:
    """What the service is made of, and what keeps a server on the newest policies."""

    policies: Policies
    admin: PolicyAdmin
    freezes: Freezes
    credits: Credits
    watch: PolicyWatch

    @classmethod
    def over(
        cls, database: Database, engine: Engine, policies: Policies, clock: Clock
    ) -> PolicyCases:
        """Bring together what works on a database and an engine.

        Args:
            database: Where versions, freezes and credits are.
            engine: Where counters are.
            policies: Those of this server, which it keeps current.
            clock: When credits begin.
        """
        freezes = FreezeStore(database)
        store = PolicyStore(database)
        watch = PolicyWatch(policies, store, freezes, PolicyListener(database))
        return cls(
            policies=policies,
            admin=PolicyAdmin(policies, store),
            freezes=Freezes(policies, freezes, watch),
            credits=Credits(engine, policies, CreditStore(database), clock),
            watch=watch,
        )

    async def start(self, files: Sequence[tuple[str, str]]) -> None:
        """Load what decides, and apply the files that a server was started with.

        Args:
            files: Name and text of each.

        Raises:
            LedgerUnavailable: PostgreSQL cannot be reached.
            PolicyInvalid: A file has faults.
        """
        await self.watch.refresh()
        await self.admin.apply_files(files)
        await self.watch.load_past_versions()
        if not self.policies.orgs():
            _log.warning("no_policies", what="every request is refused until one is applied")


class PolicyServicer(pb_grpc.PolicyServiceServicer):
    """Policies, budgets, credits and freezes."""

    def __init__(self, cases: PolicyCases) -> None:
        self._policies = cases.policies
        self._admin = cases.admin
        self._freezes = cases.freezes
        self._credits = cases.credits

    async def CreateBudget(
        self, request: pb.CreateBudgetRequest, context: Context
    ) -> pb.CreateBudgetResponse:
        """Add a budget."""
        faults: list[Fault] = []
        org, by = decode_org(faults, request.org), decode_by(faults, request)
        budget = decode_budget(faults, request.budget)
        edited = await _in_budget(
            self._admin.create_budget(org, with_units(unless_faulty(budget, faults)), by)
        )
        return pb.CreateBudgetResponse(
            budget=encode_budget(edited.budget), version=encode_version(edited.head)
        )

    async def GetBudget(
        self, request: pb.GetBudgetRequest, context: Context
    ) -> pb.GetBudgetResponse:
        """Answer a budget."""
        faults: list[Fault] = []
        org = decode_org(faults, request.org)
        check_text(faults, "budget", request.budget, required=True)
        unless_faulty(org, faults)
        return pb.GetBudgetResponse(
            budget=encode_budget(await self._admin.budget(org, request.budget))
        )

    async def ListBudgets(
        self, request: pb.ListBudgetsRequest, context: Context
    ) -> pb.ListBudgetsResponse:
        """Answer a page of budgets."""
        org = decode_page(request)
        page = await self._admin.budgets(org, request.page_size, request.page_token)
        return pb.ListBudgetsResponse(
            budgets=[encode_budget(each) for each in page.budgets],
            next_page_token=page.next_page_token,
        )

    async def UpdateBudget(
        self, request: pb.UpdateBudgetRequest, context: Context
    ) -> pb.UpdateBudgetResponse:
        """Change a budget."""
        faults: list[Fault] = []
        org, by = decode_org(faults, request.org), decode_by(faults, request)
        check_text(faults, "budget.name", request.budget.name, required=True)
        fields = decode_mask(faults, request.update_mask.paths)
        after = decode_budget(faults, request.budget, fields)
        unless_faulty(after, faults)
        edited = await _in_budget(
            self._admin.update_budget(
                org,
                request.budget.name,
                request.etag,
                lambda before: take_over(before, after, fields),
                by,
            )
        )
        return pb.UpdateBudgetResponse(
            budget=encode_budget(edited.budget), version=encode_version(edited.head)
        )

    async def DeleteBudget(
        self, request: pb.DeleteBudgetRequest, context: Context
    ) -> pb.DeleteBudgetResponse:
        """Take a budget out of the policy."""
        faults: list[Fault] = []
        org, by = decode_org(faults, request.org), decode_by(faults, request)
        check_text(faults, "budget", request.budget, required=True)
        unless_faulty(org, faults)
        head = await _in_document(self._admin.delete_budget(org, request.budget, request.etag, by))
        return pb.DeleteBudgetResponse(version=encode_version(head))

    async def ApplyPolicy(
        self, request: pb.ApplyPolicyRequest, context: Context
    ) -> pb.ApplyPolicyResponse:
        """Replace a policy, or say what that would change."""
        faults: list[Fault] = []
        by = By(request.actor, request.reason)
        if not request.validate_only:
            by = decode_by(faults, request)
        if not request.document:
            faults.append(Fault("document", "is required"))
        unless_faulty(by, faults)
        applied = await _in_document(
            self._admin.apply(
                request.document,
                _SOURCE,
                request.etag,
                by,
                validate_only=request.validate_only,
            )
        )
        return encode_applied(applied)

    async def GetPolicy(
        self, request: pb.GetPolicyRequest, context: Context
    ) -> pb.GetPolicyResponse:
        """Answer a policy."""
        org, number = decode_version(request)
        stored = await self._admin.policy(org, number)
        deciding = ""
        if number in (0, self._policies.number(org)) and self._policies.knows(org):
            deciding = self._policies.of(org).version
        return pb.GetPolicyResponse(
            version=encode_version(stored.head),
            document=stored.document,
            deciding_policy_version=deciding,
        )

    async def ListPolicyVersions(
        self, request: pb.ListPolicyVersionsRequest, context: Context
    ) -> pb.ListPolicyVersionsResponse:
        """Answer a page of versions."""
        org = decode_page(request)
        page = await self._admin.versions(org, request.page_size, request.page_token)
        return pb.ListPolicyVersionsResponse(
            versions=[encode_listed(each) for each in page.versions],
            next_page_token=page.next_page_token,
        )

    async def AdjustCredit(
        self, request: pb.AdjustCreditRequest, context: Context
    ) -> pb.AdjustCreditResponse:
        """Add room to a counter."""
        granted = await self._credits.adjust(decode_credit(request))
        if granted.replayed:
            context.set_trailing_metadata(((REPLAYED_KEY, "true"),))
        return encode_granted(granted)

    async def ListCredits(
        self, request: pb.ListCreditsRequest, context: Context
    ) -> pb.ListCreditsResponse:
        """Answer a page of credits."""
        org = decode_page(request)
        faults: list[Fault] = []
        check_text(faults, "budget", request.budget)
        unless_faulty(org, faults)
        page = await self._credits.list(
            org, request.budget, request.include_ended, request.page_size, request.page_token
        )
        return pb.ListCreditsResponse(
            credits=[encode_credit(each) for each in page.credits],
            next_page_token=page.next_page_token,
        )

    async def Freeze(self, request: pb.FreezeRequest, context: Context) -> pb.FreezeResponse:
        """Freeze a subtree."""
        faults: list[Fault] = []
        subject = decode_subtree(faults, request.subject)
        by = decode_by(faults, request, needs_reason=True)
        unless_faulty(by, faults)
        freeze, version = await self._freezes.freeze(subject, by)
        return pb.FreezeResponse(freeze=encode_freeze(freeze), policy_version=version)

    async def Unfreeze(self, request: pb.UnfreezeRequest, context: Context) -> pb.UnfreezeResponse:
        """Lift the freeze of a subtree."""
        faults: list[Fault] = []
        subject = decode_subtree(faults, request.subject)
        check_text(faults, "actor", request.actor, required=True)
        unless_faulty(subject, faults)
        freeze, version = await self._freezes.unfreeze(subject, By(request.actor))
        return pb.UnfreezeResponse(freeze=encode_freeze(freeze), policy_version=version)

    async def ListFreezes(
        self, request: pb.ListFreezesRequest, context: Context
    ) -> pb.ListFreezesResponse:
        """Answer a page of freezes."""
        org = decode_page(request)
        page = await self._freezes.list(
            org, request.include_lifted, request.page_size, request.page_token
        )
        return pb.ListFreezesResponse(
            freezes=[encode_freeze(each) for each in page.freezes],
            next_page_token=page.next_page_token,
        )


async def _in_document(answer: Awaitable[Answer]) -> Answer:
    """Answer the faults of a document as those of a request, by their path in the document."""
    try:
        return await answer
    except PolicyInvalid as error:
        raise FieldInvalid(*error.faults) from None


async def _in_budget(answer: Awaitable[Answer]) -> Answer:
    """Answer the faults of a budget by their path in it: nobody knows its place in the policy."""
    try:
        return await answer
    except PolicyInvalid as error:
        faults = (
            Fault(_BUDGET.sub("budget", each.path, count=1), each.description)
            for each in error.faults
        )
        raise FieldInvalid(*faults) from None
