"""Specialists that answer, lie and break in every way; found by name in worker processes."""

import asyncio
import os
import signal
import sys
import time

import numpy as np

D = 5


def say(seed, x):
    """Give an honest specialist's noise, its own and the same for the same request."""
    return np.random.default_rng([seed, int(1e6 * abs(float(x[0])))]).normal(scale=0.1, size=D)


class Honest:
    """Answer with noise."""

    def __init__(self, seed):
        self.seed = seed

    def __call__(self, x):
        return x + say(self.seed, x)


def raising(x):
    raise ConnectionError("no route")


def leaving(x):
    sys.exit(3)


def hanging(x):
    time.sleep(30)


def sleeping(x):
    time.sleep(float(x[0]))
    return np.zeros(D)


def nothing(x):
    return np.full(D, np.nan)


def lying(x):
    return x + 1e6


def misshapen(x):
    return x[:-1]


def texting(x):
    return ["a", "b", "c", "d", "e"]


def mutating(x):
    x[:] = 1e9
    return np.zeros(D) + 0.1


def silent(x):
    return None


def dying(x):
    os.kill(os.getpid(), signal.SIGKILL)


async def hanging_later(x):
    await asyncio.sleep(30)


async def refusing(x):
    while True:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            continue


async def blocking(x):
    time.sleep(3.0)


def as_async(call):
    """Turn a function that does not hang into a coroutine function."""

    async def later(x):
        return call(x)

    return later
