"""The app."""

from django.apps import AppConfig


class OrdersConfig(AppConfig):
    name = "examples.django_orders.orders"
