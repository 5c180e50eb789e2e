"""Connect the processes of one training run on JAX, and end all of them if one is lost.

JAX's coordination service runs in process 0. It notices within `SILENCE` seconds that a process has
died or hangs, and then ends the other processes, with its message and the exit status 134.
"""

import contextlib
import os
import sys
import time
import traceback

SILENCE = 30  # seconds without a sign of life, after which a process counts as lost
PARTING = 5  # seconds that a process waits for the others before it ends with an error
# Parts of the messages of errors that another process has caused.
LOST = ("Gloo", "NCCL", "UNAVAILABLE", "coordination service")


@contextlib.contextmanager
def joined(script, coordinator, processes, process_id, wait):
    """A scope in which this process is connected with the others.

    After an error, the process ends without Python's usual end, where JAX would wait for the
    others, and they for this one.

    Args:
        script: the name of the script, for messages.
        coordinator: `host:port` of process 0, or None if the cluster or JAX's variables tell it.
        processes: number of processes, or None if the cluster tells it, or if there is only one.
        process_id: number of this process, or None if the cluster tells it.
        wait: seconds until all processes must have arrived.
    """
    if not connect(coordinator, processes, process_id, wait):
        yield
        return
    import jax

    try:
        yield
    except BaseException as error:
        leave(script, error)
    jax.distributed.shutdown()  # waits for the others


def connect(coordinator, processes, process_id, wait):
    """Connect with the other processes; return False if there are none."""
    if processes == 1:
        return False
    import jax

    # JAX's own handler of SIGTERM would keep a process alive that is not in `fit`.
    jax.config.update("jax_enable_preemption_service", False)
    if processes:
        print(
            f"Process {process_id} of {processes} waits for the others at {coordinator}, for up to"
            f" {wait} seconds",
            flush=True,
        )
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process_id,
            # JAX finds SLURM, Open MPI and Kubernetes. The flags replace what it finds.
            cluster_detection_method="deactivate" if processes else None,
            initialization_timeout=wait,
            heartbeat_timeout_seconds=SILENCE,
        )
    except ValueError as error:
        if processes or "coordinator_address should be defined" not in str(error):
            raise
        return False  # because JAX has found neither a cluster nor its own variables
    return jax.process_count() > 1


def leave(script, error):
    """End this process with one line for an expected error, and a traceback for another."""
    status = 1
    is_lost = any(word in str(error) for word in LOST)
    if is_lost:
        reason = str(error).splitlines()[0]
        print(
            f"{script}: another process has ended or cannot be reached; its output has the reason."
            f" Resume all processes with --resume ({reason})",
            file=sys.stderr,
        )
    elif isinstance(error, SystemExit):
        status = error.code or 0
        if isinstance(status, str):
            print(status, file=sys.stderr)
            status = 1
    elif isinstance(error, KeyboardInterrupt):
        print(f"\n{script}: interrupted", file=sys.stderr)
        status = 130
    elif isinstance(error, (ValueError, TypeError, OSError)):  # such as an invalid flag
        print(f"{script}: {error}", file=sys.stderr)
    else:
        traceback.print_exception(error)
    if not is_lost:
        part()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def part():
    """Wait until the others end too, which they do at once if all have the same reason.

    If process 0 ended first, JAX would end the others with its own message and status.
    """
    import jax
    from jax._src import distributed  # JAX has no public name for its barrier

    with contextlib.suppress(Exception):
        distributed.global_state.client.wait_at_barrier("parting", 1000 * PARTING)
        if jax.process_index() == 0:
            time.sleep(1)  # so that the others end before the coordination service
