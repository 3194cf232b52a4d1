"""Cleaners: one file each, and one line in this table. The order of the table is the order of the chain."""

from nacre.base.plugins import Table

CLEANERS = Table("cleaner", {})
