"""The shop: take an order, and show how far it has come."""

from __future__ import annotations

import logging
import uuid

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe

import grctl
from examples.django_orders.orders.ground_control import client
from examples.django_orders.orders.models import Order

log = logging.getLogger("orders")


@require_http_methods(["GET", "POST"])
def shop(request: HttpRequest) -> HttpResponse:
    if request.method != "POST":
        return render(request, "orders/shop.html", {"orders": Order.objects.all()[:20]})
    order = Order(item=request.POST.get("item", "tea")[:100])
    with transaction.atomic():
        order.save()
        # Not before the commit: a workflow must not begin for an order that is rolled back.
        transaction.on_commit(lambda: start(request, order))
    return redirect("status", order.id)


def start(request: HttpRequest, order: Order) -> None:
    try:
        order.start()
    except grctl.GrctlError:
        # The order is kept: `manage.py start_orders` starts what is not started, and none of them twice.
        log.exception("%s could not be started", order)
        messages.warning(request, "Your order is taken, and will be worked on a little later.")


@require_safe
def status(request: HttpRequest, order_id: uuid.UUID) -> HttpResponse:
    order = get_object_or_404(Order, pk=order_id)
    try:
        progress, code = order.progress(), 200
    except (grctl.GrctlError, TimeoutError):
        log.exception("the progress of %s is not known", order)
        progress, code = "not known at the moment", 503
    return render(request, "orders/status.html", {"order": order, "progress": progress}, status=code)


@require_safe
def health(request: HttpRequest) -> HttpResponse:
    try:
        client().connection.ping(timeout=5)
    except grctl.GrctlError as error:
        return JsonResponse({"status": "down", "detail": str(error)}, status=503)
    return JsonResponse({"status": "ok"})
