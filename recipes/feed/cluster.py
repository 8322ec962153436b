"""A Ray cluster that computes for this process: reached, asked, and told from one that is lost."""

import collections
import contextlib
import importlib.util
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any, TypeVar

from graft.zoo.errors import ConfigError, GraftError
from graft.zoo.terminal import say

__all__ = ["Cluster", "connect", "connected", "refuse_unknown"]

RAY_EXTRA = "pip install 'graft-zoo[ray]'"
CONNECT_SECONDS = 20.0
LOOK_SECONDS = 5.0
"""How often to look whether the cluster is still there."""
SILENT_SECONDS = 30.0
"""A cluster that does not answer for so long, or has no processor, is lost. Ray itself ends the
whole process after a minute.
"""
TRIES = 5
"""How often an item may lose its worker."""

Item = TypeVar("Item")


def refuse_unknown(address: str) -> None:
    """Refuse an address at which nobody listens at once: Ray itself would try for a minute.

    Raises:
        ConfigError: no cluster at that address, or Ray is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(f"--ray needs the package ray: {RAY_EXTRA}")
    why = _silence(address, CONNECT_SECONDS)
    if why:
        raise _no_cluster(address, why)


def connect(address: str) -> None:
    """Connect to the Ray cluster at `address`; nothing happens where this process has done so
    already.

    Raises:
        ConfigError: no cluster at that address, or Ray is not installed.
    """
    loaded = sys.modules.get("ray")
    if loaded is not None and loaded.is_initialized():
        return
    refuse_unknown(address)
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", namespace="graft")
    except Exception as error:  # Ray raises what its transport raises
        raise _no_cluster(address, type(error).__name__) from error


@contextlib.contextmanager
def connected(address: str) -> "Iterator[Cluster]":
    """Connect to the Ray cluster at `address` while the block runs. A connection that this process
    has already is used, and kept.

    Raises:
        ConfigError: no cluster at that address, or Ray is not installed.
    """
    refuse_unknown(address)
    import ray

    if ray.is_initialized():
        yield Cluster(address)
        return
    with _own_signals():
        connect(address)
    with _quiet():
        try:
            yield Cluster(address)
        finally:
            # Not kept while a training goes on: Ray ends a process whose cluster has gone.
            ray.shutdown()


@dataclass
class Cluster:
    """The cluster at `address`, to which this process is connected.

    Attributes:
        losses: how many workers were lost.
    """

    address: str
    losses: int = 0
    _heard: float = field(default_factory=time.monotonic)
    _looked: float = 0.0
    _counts: list[int] = field(default_factory=list)

    def processors(self) -> list[int]:
        """Of each node that has some, how many."""
        import ray

        counts = [int(n["Resources"].get("CPU", 0)) for n in ray.nodes() if n["Alive"]]
        return [count for count in counts if count > 0]

    def compute(
        self,
        function: Callable[[Any], Any],
        items: Sequence[Item],
        given: Callable[[Item], Any],
        threads: int,
        variables: Mapping[str, str],
    ) -> Iterator[tuple[Item, Any]]:
        """Have the nodes compute `function(given(item))` and yield each item with what comes back,
        as it comes. An item whose worker or node is lost is computed again elsewhere.

        Args:
            function: what is computed; importable on every node.
            items: one call each.
            given: makes what the function is given, just before it is needed.
            threads: so many processors each call reserves, or all of a smaller node.
            variables: of the environment of the processes on the nodes.

        Raises:
            ConfigError: the cluster is lost, or the function fails on it.
        """
        import ray

        self._heard = time.monotonic()
        left, waiting, tries = collections.deque(items), {}, collections.Counter()
        task = ray.remote(max_retries=0, runtime_env={"env_vars": dict(variables)})(function)
        try:
            while left or waiting:
                counts = self._looked_at()
                each = min([threads, *counts])
                # Some wait on the cluster, so that no node waits for this process.
                while left and len(waiting) < 2 * max(1, sum(count // each for count in counts)):
                    item = left.popleft()
                    made = task.options(num_cpus=each).remote(given(item))
                    waiting[made.future()] = item, made
                # Not Ray's own wait, in which every signal becomes a Ctrl-C.
                done, _ = futures.wait(waiting, LOOK_SECONDS, futures.FIRST_COMPLETED)
                for ready in done:
                    item, _ = waiting.pop(ready)
                    try:
                        answer = ready.result()
                    except ray.exceptions.RayError as error:
                        self._told_of(error)
                        tries[item] += 1
                        if tries[item] >= TRIES:
                            raise ConfigError(
                                f"a part of the work on the Ray cluster at '{self.address}' lost "
                                f"its worker {TRIES} times ({_one_line(error)}): most likely the "
                                "memory of the nodes does not hold the model; what is finished is "
                                "kept"
                            ) from error
                        left.appendleft(item)
                        continue
                    yield item, answer
        except GraftError:
            raise
        except ray.exceptions.RayError as error:
            raise self._lost(_one_line(error)) from error
        finally:
            with contextlib.suppress(Exception):
                for _, made in waiting.values():
                    ray.cancel(made, force=True)

    def _looked_at(self) -> list[int]:
        """The processors of the nodes; those of before while it is not yet time to look again."""
        if time.monotonic() - self._looked < LOOK_SECONDS and self._looked:
            return self._counts
        why = _silence(self._place(), LOOK_SECONDS)
        counts = [] if why else self.processors()
        self._looked = now = time.monotonic()
        if counts:
            self._heard, self._counts = now, counts
        elif now - self._heard > SILENT_SECONDS:
            raise self._lost(why or "no node with a processor is left")
        return self._counts

    def _place(self) -> str:
        """Where the cluster's head listens."""
        import ray

        with contextlib.suppress(Exception):  # a connection through Ray's client does not say
            return ray.get_runtime_context().gcs_address
        return self.address

    def _told_of(self, error: Exception) -> None:
        """A call failed: a worker was lost, or the whole cluster, or the function cannot run."""
        import ray

        if isinstance(error, ray.exceptions.LocalRayletDiedError):
            raise self._lost("the node of this process has gone") from error
        if isinstance(error, ray.exceptions.RayTaskError | ray.exceptions.RuntimeEnvSetupError):
            raise ConfigError(
                f"the nodes of the Ray cluster at '{self.address}' cannot do their part "
                f"({_one_line(error)}): they need the same Graft and the same folders as this "
                "machine"
            ) from error
        self.losses += 1
        say(f"a Ray worker was lost ({type(error).__name__}): its part is computed again")

    def _lost(self, why: str) -> ConfigError:
        return ConfigError(
            f"the Ray cluster at '{self.address}' is lost ({why}): what it finished is kept, and "
            "the same command goes on with it once a cluster is there; or leave --ray away"
        )


def _silence(address: str, seconds: float) -> str:
    """Why nobody answers at `address` within `seconds`; "" if somebody does, or where it does not
    say host and port.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return ""
    try:
        socket.create_connection((host, int(port)), timeout=seconds).close()
    except (OSError, OverflowError) as error:
        return str(getattr(error, "strerror", None) or error)
    return ""


def _no_cluster(address: str, why: str) -> ConfigError:
    return ConfigError(
        f"no Ray cluster answers at '{address}' ({why}): start one with `ray start --head`, or "
        "leave --ray away"
    )


def _one_line(error: Exception) -> str:
    """The last line of what Ray says, which names the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join((lines or [type(error).__name__])[-1].split())[:300]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Ray prints on stdout why a node has gone, whatever it was told; results go there, and nobody
    else prints any in the block. GRAFT_VERBOSE=1 shows it on stderr.
    """
    with contextlib.ExitStack() as stack:
        verbose = os.environ.get("GRAFT_VERBOSE")
        nowhere = sys.stderr if verbose else stack.enter_context(open(os.devnull, "w"))
        stack.enter_context(contextlib.redirect_stdout(nowhere))
        yield


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself as it begins: afterwards it is ours again."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
