"""Search for the user agent that costs most to parse: mutate, and keep what costs more.

    python -m tests.bench.user_agents --seconds 60 --length 2048

Words of ua-parser's patterns and of the list of crawlers are put together at random. The cost is the median CPU time
of several calls, without the cache. A result above one millisecond belongs in tests/hits/test_user_agent.py.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import time
from typing import Any

from crawleruseragents import CRAWLER_USER_AGENTS_DATA
from ua_parser import loaders

from traffic_analytics.hits.bots import is_bot
from traffic_analytics.hits.user_agent import parse

POOL = 20
"""Candidates that are mutated further."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="time of the search")
    parser.add_argument("--length", type=int, default=2048, help="length of the user agents, in characters")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    words = all_words()
    pool: list[tuple[float, str]] = []
    end = time.monotonic() + options.seconds
    while time.monotonic() < end:
        fresh = len(pool) < POOL or rng.random() < 0.4
        agent = compose(rng, words, options.length) if fresh else mutate(rng, words, rng.choice(pool)[1])
        seconds = cost(agent, 3)
        if len(pool) < POOL or seconds > pool[-1][0]:
            pool = sorted([*pool, (cost(agent, 7), agent)], reverse=True)[:POOL]
    for seconds, agent in pool[:3]:
        print(f"{seconds * 1e6:8.0f} µs  {agent[:200]!r}")


def all_words() -> list[str]:
    """Return the literal parts of all patterns, those that identify bots aside: they end the work early."""
    matchers: Any = loaders.load_builtins()  # their base class hides the pattern
    patterns = [re.compile(each.pattern).pattern for kind in matchers[:2] for each in kind]
    patterns += [crawler["pattern"] for crawler in CRAWLER_USER_AGENTS_DATA]
    parts = {part.replace("\\", "") for pattern in patterns for part in re.split(r"[\[\](){}?*+^$|]", pattern)}
    return [*sorted(part for part in parts if len(part) > 1 and not is_bot(part)), "é", "1.1", "; ", " ", "/", "A"]


def compose(rng: random.Random, words: list[str], length: int) -> str:
    """Repeat a few words up to the length."""
    unit = "".join(rng.choices(words, k=rng.choice([1, 2, 3, 4, 6, 9, 20, 60])))
    return (unit * length)[:length]


def mutate(rng: random.Random, words: list[str], agent: str) -> str:
    """Insert, replace, repeat or remove a part; the length stays."""
    length = len(agent)
    for _ in range(rng.choice([1, 2, 4])):
        word, begin = rng.choice(words), rng.randrange(length)
        end = min(length, begin + rng.randrange(1, 60))
        agent = rng.choice(
            [
                agent[:begin] + word + agent[begin:],
                agent[:begin] + word + agent[begin + len(word) :] + agent,
                agent[:begin] + agent[begin:end] * rng.randrange(2, 20) + agent[end:],
                agent[:begin] + agent[end:] + agent,
            ]
        )[:length]
    return agent


def cost(agent: str, calls: int) -> float:
    """Return the median CPU time of a call, in seconds."""
    times = []
    for _ in range(calls):
        started = time.thread_time()
        parse(agent)
        times.append(time.thread_time() - started)
    return statistics.median(times)


if __name__ == "__main__":
    main()
