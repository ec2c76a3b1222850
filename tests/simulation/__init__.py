"""A deterministic simulation of the worker's world: log, broker, group, crashes, zombies.

The real partition task, pipeline, stages and checkpoints run in it; all else is a fake with a seed
(``python -m tests.simulation --help``). How it works is told where it is done: ``loop`` (time and
processes), ``faults`` (where things break), ``broker``, ``group``, ``member`` (what Kafka and Faust
do around a partition task), ``oracle`` (what should have come out), ``run`` (one seed).
"""
