"""Starts the orders that could not be started when they were taken. Run it from time to time."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from examples.django_orders.orders.models import Order


class Command(BaseCommand):
    help = "Start the orders that are taken and not started."

    def handle(self, *args: Any, **options: Any) -> None:
        for order in Order.objects.filter(is_started=False):
            order.start()
            self.stdout.write(f"started {order}")
