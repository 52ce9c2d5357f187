"""One copy of MTCNN's networks on a device, for all worker processes: `preprocess.crop --device`.

Workers decode, resample, align and code on the CPU, each its own file, and ask one process for what
the networks say. It answers all that is asked meanwhile together, so that a GPU gets batches where
each worker has a single picture. It never sees a file: one that crashes a decoder costs it nothing.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import secrets
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection, Listener
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from preprocess.work.pool import WorkerError, end_with_parent, interrupts_held, main_hidden

if TYPE_CHECKING:
    from .mtcnn_networks import Networks, Proposals

_CONTEXT = multiprocessing.get_context("spawn")  # CUDA does not outlive a fork
_FAMILY = "AF_UNIX" if hasattr(socket, "AF_UNIX") else "AF_INET"


@dataclass(frozen=True)
class Address:
    """Where the networks answer; sent to workers.

    Attributes:
        device: for messages.
        at: of `multiprocessing.connection`, reached from this machine only.
        key: shown by whoever connects.
    """

    device: str
    at: object
    key: bytes


class SharedNetworks:
    """`mtcnn.Networks` in another process.

    Raises:
        WorkerError: from every method, where that process has ended.
    """

    def __init__(self, address: Address) -> None:
        self._device = address.device
        with self._alive():
            self._connection = Client(address.at, _FAMILY, address.key)

    def propose(self, levels: Iterable[np.ndarray]) -> list[Proposals]:
        return self._ask("propose", list(levels))

    def refine(self, views: np.ndarray) -> list[np.ndarray]:
        return self._ask("refine", views)

    def finish(self, views: np.ndarray) -> list[np.ndarray]:
        return self._ask("finish", views)

    def _ask(self, kind: str, value: object) -> list:
        with self._alive():
            self._connection.send((kind, value))
            return self._connection.recv()

    @contextlib.contextmanager
    def _alive(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as error:
            raise WorkerError(
                f"the process that runs the networks on {self._device} has ended"
            ) from error


@contextlib.contextmanager
def share_networks(device: str) -> Iterator[Address]:
    """Start the process; it ends with the block, and with this process however that ends.

    Raises:
        WorkerError: no such device.
    """
    address, (ours, theirs) = None, _CONTEXT.Pipe()
    key = secrets.token_bytes(32)
    process = _CONTEXT.Process(target=_serve, args=(theirs, device, key), daemon=True)
    with interrupts_held(), main_hidden(unless=False):
        process.start()
    theirs.close()
    try:
        try:
            address = ours.recv()
        except EOFError:
            process.join()
            address = f"its process ended with status {process.exitcode}"
        if not isinstance(address, Address):
            raise WorkerError(f"expected a device for the networks but {device}: {address}")
        yield address
    finally:
        process.kill()
        process.join()
        ours.close()


class Request(NamedTuple):
    """What one worker asks.

    Attributes:
        kind: "propose", "refine" or "finish".
        value: levels or views, see `mtcnn.Networks`.
        connection: where the answer goes.
    """

    kind: str
    value: Sequence[np.ndarray] | np.ndarray
    connection: Connection | None = None


def answer(networks: Networks, requests: Sequence[Request]) -> list[list]:
    """What the networks say to each request; those of a kind go through them together."""
    answers: list[list] = [[] for _ in requests]
    for kind in ("propose", "refine", "finish"):
        group = [i for i, request in enumerate(requests) if request.kind == kind]
        if not group:
            continue
        values = [requests[i].value for i in group]
        ends = np.cumsum([len(value) for value in values])[:-1]
        if kind == "propose":
            found = networks.propose_together([level for levels in values for level in levels])
            starts = [0, *ends]
            for i, start, value in zip(group, starts, values, strict=True):
                answers[i] = found[start : start + len(value)]
        else:
            outputs = getattr(networks, kind)(np.concatenate(values))
            parts = zip(*(np.split(output, ends) for output in outputs), strict=True)
            for i, part in zip(group, parts, strict=True):
                answers[i] = list(part)
    return answers


def _serve(parent: Connection, device: str, key: bytes) -> None:
    end_with_parent()
    import torch  # the program that starts this process needs none of it

    from .mtcnn_networks import Networks

    torch.set_num_threads(1)
    try:
        networks = Networks(device)
        with torch.inference_mode():
            networks.finish(np.zeros((1, 48, 48, 3), np.float32))  # a device that is there may fail
        listener = Listener(None, _FAMILY, backlog=64, authkey=key)
    except Exception as error:
        parent.send(f"{type(error).__name__}: {error}")
        return
    requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
    threading.Thread(target=_accept, args=(listener, requests), daemon=True).start()
    parent.send(Address(device, listener.address, key))
    while True:
        waiting = [requests.get()]
        with contextlib.suppress(queue.Empty):
            while True:
                waiting.append(requests.get_nowait())
        with torch.inference_mode():
            answers = answer(networks, waiting)
        for request, told in zip(waiting, answers, strict=True):
            with contextlib.suppress(OSError):  # that worker was killed
                request.connection.send(told)


def _accept(listener: Listener, requests: queue.SimpleQueue[Request]) -> None:
    while True:
        with contextlib.suppress(OSError, EOFError, multiprocessing.AuthenticationError):
            connection = listener.accept()
            threading.Thread(target=_receive, args=(connection, requests), daemon=True).start()


def _receive(connection: Connection, requests: queue.SimpleQueue[Request]) -> None:
    with contextlib.suppress(OSError, EOFError):
        while True:
            requests.put(Request(*connection.recv(), connection))
