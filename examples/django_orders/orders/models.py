"""Orders, as the shop keeps them. How far one has come, Ground Control knows."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models

import grctl
from examples.django_orders.orders.ground_control import client
from grctl.sync import Handle


class Order(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    item = models.CharField(max_length=100)
    taken_at = models.DateTimeField(auto_now_add=True)
    is_started = models.BooleanField(default=False, editable=False)

    class Meta:
        ordering = ("-taken_at",)

    def __str__(self) -> str:
        return f"{self.item} ({str(self.id)[:8]})"

    @property
    def workflow_id(self) -> str:
        return f"shop-order-{self.id}"

    def handle(self) -> Handle[Any]:
        """Find the order's run; WorkflowNotFoundError where it was not started."""
        return client().get_handle(self.workflow_id)

    def start(self) -> None:
        """Start the order's workflow, once. Call it when the order is committed; after an error, call it again."""
        if self.is_started:
            return
        try:
            self.handle()  # an earlier call has started it, and could not write that down
        except grctl.WorkflowNotFoundError:
            client().start_workflow("DjangoOrder", self.workflow_id, {"item": self.item}, on_conflict="attach")
        Order.objects.filter(pk=self.pk).update(is_started=True)
        self.is_started = True

    def approve(self, by: str) -> None:
        """Send the approval to the order's run."""
        self.handle().send("approve", {"by": by}, idempotent=True)

    def progress(self) -> str:
        """Say how far the order has come, in a person's words."""
        if not self.is_started:
            return "taken"
        handle = self.handle()
        if not handle.run_info.is_finished:
            return "waits for approval"
        outcome = handle.outcome(timeout=5)
        if outcome.completed:
            return str(outcome.result)
        return f"{outcome.status}: {outcome.error.message if outcome.error else outcome.reason}"
