"""``python -m tests.kafka``: an Apache Kafka for development, until Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from tests.kafka.broker import KafkaBroker
from tests.kafka.jars import JarsError
from tests.servers import ServerError


def main() -> int:
    """Run a broker until SIGINT or SIGTERM: 0; or 1 if it does not start or ends by itself."""
    parser = argparse.ArgumentParser(prog="python -m tests.kafka", description=__doc__)
    parser.add_argument("--port", type=int, default=9092, help="the clients' port (9092)")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="keep the data in this folder; without it they go when the broker does",
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with KafkaBroker(folder=arguments.data, port=arguments.port) as broker:
            print(f"Apache Kafka is ready at {broker.bootstrap}; Ctrl-C ends it.", flush=True)
            broker.wait()
    except KeyboardInterrupt:
        return 0
    except (ServerError, JarsError) as error:
        print(error, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
