"""Listeners that are not HTTP: Graphite and StatsD."""
