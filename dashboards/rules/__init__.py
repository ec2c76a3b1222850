"""Prometheus' recording and alerting rules, with the cases that test them."""
