"""The office: see the orders, and approve them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

import grctl
from examples.django_orders.orders.models import Order


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    list_display = ("__str__", "taken_at", "is_started")
    actions = ("approve",)

    @admin.action(description="Approve the selected orders", permissions=["change"])
    def approve(self, request: HttpRequest, orders: QuerySet[Any]) -> None:
        """Send each order's approval; one that cannot be approved does not keep the others from it."""
        approved = 0
        for order in orders:
            try:
                order.approve(by=request.user.get_username())
            except grctl.WorkflowFinishedError:
                self.message_user(request, f"{order} had ended already.", messages.WARNING)
            except grctl.GrctlError as error:
                self.message_user(request, f"{order} is not approved: {error}", messages.ERROR)
            else:
                approved += 1
        if approved:
            self.message_user(request, f"Approved {approved} order{'s' * (approved > 1)}.", messages.SUCCESS)
