"""Tests of the shop: ``manage.py test examples.django_orders.orders.tests``. The workflows run in this process."""

from __future__ import annotations

from typing import Any
from unittest import mock

from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import TestCase

import grctl
from examples.django_orders.orders.models import Order
from examples.django_orders.workflows import workflows
from grctl.sync import Connection, connect


class OrderTests(TestCase):
    def setUp(self) -> None:
        connection = self.enterContext(connect("memory://", workflows=workflows))
        self.enterContext(mock.patch.object(Connection, "connect", return_value=connection))
        self.client.force_login(User.objects.create_superuser("mia"))

    def order(self, item: str = "tea") -> Order:
        with self.captureOnCommitCallbacks(execute=True):
            self.client.post("/", {"item": item})
        order: Order = Order.objects.get(item=item)
        return order

    def approve(self, *orders: Order) -> list[str]:
        data = {"action": "approve", "_selected_action": [order.pk for order in orders]}
        page = self.client.post("/admin/orders/order/", data, follow=True)
        return [str(message) for message in page.context["messages"]]

    def shown(self, order: Order) -> Any:
        return self.client.get(f"/orders/{order.id}/").context["progress"]

    def test_an_order_waits_until_the_office_approves_it(self) -> None:
        tea, coffee = self.order("tea"), self.order("coffee")
        self.assertEqual(self.shown(tea), "waits for approval")
        self.assertEqual(self.approve(tea, coffee), ["Approved 2 orders."])
        self.assertEqual(tea.handle().result(timeout=10), "tea shipped, approved by mia")
        self.assertEqual(coffee.handle().result(timeout=10), "coffee shipped, approved by mia")
        self.assertEqual(self.shown(tea), "tea shipped, approved by mia")

    def test_what_cannot_be_approved_does_not_keep_the_others_from_it(self) -> None:
        ended, waiting = self.order("tea"), self.order("coffee")
        ended.handle().terminate("sold out")
        ended.handle().outcome(timeout=10)
        unknown = Order.objects.create(item="cocoa")
        said = self.approve(ended, waiting, unknown)
        self.assertIn("Approved 1 order.", said)
        self.assertIn(f"{ended} had ended already.", said)
        self.assertTrue(any(message.startswith(f"{unknown} is not approved: ") for message in said), said)
        self.assertEqual(self.shown(ended), "terminated: sold out")

    def test_an_order_that_could_not_be_started_is_kept_and_started_later(self) -> None:
        nobody = grctl.NotDeliveredError("no server listens")
        with mock.patch("grctl.sync.Client.start_workflow", side_effect=nobody), self.assertLogs("orders"):
            order = self.order()
        self.assertEqual(self.shown(order), "taken")
        call_command("start_orders", stdout=mock.Mock())
        self.assertEqual(self.shown(order), "waits for approval")

    def test_an_order_whose_progress_cannot_be_learned(self) -> None:
        order = self.order()
        for error in (grctl.DeliveryUnknownError("no answer"), TimeoutError("too long")):
            asking = mock.patch("grctl.sync.Client.get_handle", side_effect=error)
            with asking, self.assertLogs("orders"), self.assertLogs("django.request"):
                page = self.client.get(f"/orders/{order.id}/")
            self.assertContains(page, "not known at the moment", status_code=503)

    def test_an_order_is_started_once(self) -> None:
        order = self.order()
        run = order.handle().run_info.id
        Order.objects.update(is_started=False)  # as if the process had ended before it could write that down
        call_command("start_orders", stdout=mock.Mock())
        self.assertEqual(order.handle().run_info.id, run)
        order.approve("ben")
        order.handle().result(timeout=10)
        Order.objects.update(is_started=False)
        call_command("start_orders", stdout=mock.Mock())
        self.assertEqual(order.handle().run_info.id, run)

    def test_an_order_that_is_rolled_back_is_not_started(self) -> None:
        with self.captureOnCommitCallbacks(execute=False):
            self.client.post("/", {"item": "tea"})
        with self.assertRaises(grctl.WorkflowNotFoundError):
            Order.objects.get().handle()

    def test_the_migrations_are_those_of_the_models(self) -> None:
        call_command("makemigrations", check=True, dry_run=True, stdout=mock.Mock())

    def test_health(self) -> None:
        self.assertEqual(self.client.get("/health/").json(), {"status": "ok"})
        slow = mock.patch.object(Connection, "ping", side_effect=grctl.DeliveryUnknownError("no answer"))
        with slow, self.assertLogs("django.request"):
            self.assertEqual(self.client.get("/health/").status_code, 503)
