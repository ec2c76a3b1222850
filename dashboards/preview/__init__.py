"""Pictures of the dashboards from real answers, where there is no Grafana."""
