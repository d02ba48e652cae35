"""A shop's orders in Django: a view that takes them, a status page, an admin action that approves.

    pip install "grctl-client[dev-server]" django
    grctl-client dev examples.django_orders.workflows             in a shell of its own
    python examples/django_orders/manage.py migrate
    python examples/django_orders/manage.py createsuperuser
    python examples/django_orders/manage.py runserver

The shop is at http://127.0.0.1:8000, its admin at /admin. GRCTL_NATS_SERVERS names another Ground Control server.
"""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent
PACKAGE = "examples.django_orders"

SECRET_KEY = os.environ.get("SECRET_KEY", "for development alone")
DEBUG = "SECRET_KEY" not in os.environ
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    f"{PACKAGE}.orders",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = f"{PACKAGE}.urls"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("ORDERS_DATABASE", BASE_DIR / "db.sqlite3"),
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
TIME_ZONE = "UTC"
USE_TZ = True
