from __future__ import annotations

import threading
import time

from service.models.fifo_semaphore import FifoSemaphore


def test_semaphore_with_two_places_admits_two_at_once() -> None:
    lock, inside, seen = FifoSemaphore(2), [0], []
    guard = threading.Lock()

    def take() -> None:
        with lock:
            with guard:
                inside[0] += 1
                seen.append(inside[0])
            time.sleep(0.01)
            with guard:
                inside[0] -= 1

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert (max(seen), len(seen)) == (2, 6)
    with lock, lock:  # both places are free again
        pass


def test_semaphore_with_waiting_threads_admits_them_in_order() -> None:
    lock, order, threads = FifoSemaphore(), [], []

    def take(number: int) -> None:
        with lock:
            order.append(number)

    with lock:
        for number in range(8):
            threads.append(threading.Thread(target=take, args=(number,)))
            threads[-1].start()
            while len(lock._waiting) <= number:
                time.sleep(0.001)
        assert order == []
    for thread in threads:
        thread.join(5)
    assert order == list(range(8))
    with lock:
        pass
