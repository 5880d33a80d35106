"""Queries: functions over an ``AsyncSession``, one module for each group of tables; the caller commits."""
