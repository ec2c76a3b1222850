"""The five dashboards, one a module."""
