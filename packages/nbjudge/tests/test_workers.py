"""How a class's workers come into being: forked where that is safe, else started anew."""

import subprocess
import sys

import pytest
from nbjudge.run.provisioner import can_fork

pytestmark = pytest.mark.skipif(not can_fork(), reason="a platform without fork")

CODE = """
import socket, sys, threading
from nbjudge.classes import job, many

class Server:
    @staticmethod
    def instance(): return Server
    @staticmethod
    def lend(): return socket.socketpair()[0]

many.ForkServer = Server
sys.here_only = True
asked = "hasattr(__import__('sys'), 'here_only'), __import__('signal').getsignal(2) == 1"

def worker():
    with many._new_pool(1) as pool:
        return pool.submit(eval, asked).result()

print(*worker())
stop = threading.Event()
threading.Thread(target=stop.wait).start()
print(*worker())
stop.set()
"""


def test_a_worker_is_a_fork_as_long_as_its_owner_has_one_thread():
    """Either way Ctrl-C is left to the owner."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["True", "True", "False", "True"], done.stderr
