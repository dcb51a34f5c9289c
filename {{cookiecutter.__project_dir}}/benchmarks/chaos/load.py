"""An open-loop load generator, a process of its own: what it sends does not wait for answers.

    python load.py PORT PATH RATE SECONDS TIMEOUT      # JSON on stdout

Each request opens a connection, as clients behind a load balancer do. `/livez` is asked beside
it, 20 times a second. One line of JSON: for `load` and `health` a list of
[seconds since the start, seconds it took, status]; status 0 is no answer in time, -1 a connection
that was refused, reset or closed without an answer. `began` is when it started, in
`time.monotonic()`. SIGTERM ends it before its time; what was sent is waited for.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time

Sample = tuple[float, float, int]
HEALTH_RATE = 20.0


async def ask(port: int, path: str, timeout: float) -> int:
    writer = None
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read(-1)
        return int(answer[9:12]) if len(answer) > 12 else -1
    except TimeoutError:
        return 0
    except (OSError, ValueError):
        return -1
    finally:
        if writer is not None:
            writer.close()


async def stream(
    port: int,
    path: str,
    rate: float,
    seconds: float,
    timeout: float,
    began: float,
    stop: asyncio.Event,
) -> list[Sample]:
    samples: list[Sample] = []
    running: set[asyncio.Task[None]] = set()

    async def one(due: float) -> None:
        status = await ask(port, path, timeout)
        samples.append((due, time.monotonic() - began - due, status))

    for number in range(int(rate * seconds)):
        due = number / rate
        if (left := due - (time.monotonic() - began)) > 0:
            await asyncio.sleep(left)
        if stop.is_set():
            break
        task = asyncio.create_task(one(due))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    return samples


async def main(port: int, path: str, rate: float, seconds: float, timeout: float) -> None:
    began, stop = time.monotonic(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    load, health = await asyncio.gather(
        stream(port, path, rate, seconds, timeout, began, stop),
        stream(port, "/livez", HEALTH_RATE, seconds, timeout, began, stop),
    )
    print(json.dumps({"began": began, "load": load, "health": health}))


if __name__ == "__main__":
    _, port, path, rate, seconds, timeout = sys.argv
    asyncio.run(main(int(port), path, float(rate), float(seconds), float(timeout)))
