"""The application, for a server: ``gunicorn --preload examples.django_orders.wsgi``."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "examples.django_orders.settings")
application = get_wsgi_application()
