"""A deterministic simulation of the worker's world: log, broker, group, crashes, zombies.

The real partition task, pipelines, stages and checkpoints run in it; all else is a fake with a seed
(``python -m tests.simulation --help``). In some worlds there is the first stage alone, in others
the second and third read what it says; models are swapped in many. How it works is told where it is
done: ``loop`` (time and processes), ``faults`` (where things break), ``broker``, ``group``, ``app``
(what Kafka and Faust do around a partition task), ``stage``, ``history`` (what was done),
``oracle`` (what should have come out), ``run`` (one seed).
"""
