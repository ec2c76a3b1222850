"""The peers. Each module is a program of its own: ``python -m bench.peers.NAME TASK``.

They import the peer, the standard library and ``bench.task``, nothing of Floodwatch: quixstreams
and bytewax live in an environment of their own.
"""
