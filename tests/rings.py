"""Devices as threads of this process, each with a queue from the one before."""

from queue import Queue
from threading import Thread


class Ring:
    def __init__(self, rank, queues):
        self.rank, self.size, self.queues = rank, len(queues), queues

    def exchange(self, x, width):
        self.queues[(self.rank + 1) % self.size].put(x.copy())
        received = self.queues[self.rank].get(timeout=60)
        assert received.shape == (width,)
        return received


def on_each(size, run):
    """What `run` gives of each device's communicator, in the order of ranks."""
    queues, found = [Queue() for _ in range(size)], [None] * size

    def one(rank):
        try:
            found[rank] = run(Ring(rank, queues))
        except BaseException as error:
            found[rank] = error
            for queue in queues:  # the others wait for it
                queue.put(error)

    threads = [Thread(target=one, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    errors = [x for x in found if isinstance(x, BaseException)]
    if errors:
        raise next((e for e in errors if not isinstance(e, AttributeError)), errors[0])
    return found
