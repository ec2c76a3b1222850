"""What Grafana and Prometheus show and tell of Floodwatch, as code (``docs/dashboards.md``)."""
