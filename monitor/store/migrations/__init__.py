"""The steps that bring a database to the tables of today; applied by ``monitor.store.schema``."""
