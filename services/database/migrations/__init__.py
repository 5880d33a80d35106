"""Alembic's folder: one module a revision in ``versions``; expand first, contract in a later release."""
