"""django-oauth-toolkit: Django under gunicorn, its tokens rows in Postgres."""
