"""Where everything is."""

from django.contrib import admin
from django.urls import path

from examples.django_orders.orders import views

urlpatterns = [
    path("", views.shop, name="shop"),
    path("orders/<uuid:order_id>/", views.status, name="status"),
    path("health/", views.health, name="health"),
    path("admin/", admin.site.urls),
]
