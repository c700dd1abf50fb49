"""What the operating system's kernel refuses to a submission, and what works all the same.

The calls are made by number or by the C library, as an attacker would make them: what NumPy or
`socket` do is not the point. One kernel runs all cells with the filter, one those without it,
where the calls that show something must succeed: so each test can fail.
"""

import errno
import platform
import socket
import stat
import struct
import sys

import pytest
from nbjudge.run.provisioner import can_fork
from nbjudge.server import sandbox, syscalls

from tests.nbjudge.server.test_sandbox import run_in_box
from tests.submission_cells import errors, printed, run_cells

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_fork(), reason="kernels cannot be forked on this platform"),
    pytest.mark.skipif(syscalls.build() is None, reason="no system call filter on this machine"),
]

TOOLS = """
import ctypes, errno, os, socket, stat
libc = ctypes.CDLL(None, use_errno=True)

def call(number, *arguments):
    arguments = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    got = libc.syscall(ctypes.c_long(number), *arguments)
    return "done" if got >= 0 else errno.errorcode[ctypes.get_errno()]

def in_child(number, *arguments):  # a process with threads may not leave its user namespace
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, call(number, *arguments).encode())
        os._exit(0)
    os.waitpid(child, 0)
    return os.read(read, 100).decode()

def attempt(action):
    try:
        action()
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]
"""

#: Calls by name, with harmless arguments. Without the filter they end otherwise (or work).
NUMBERED = {
    **{f"unshare {name}": ("unshare", flag, "EPERM") for name, flag in {
        "user": 0x10000000, "network": 0x40000000, "mount": 0x20000, "process": 0x20000000,
    }.items()},
    "setns": ("setns", "-1, 0", "EPERM"),
    "mount": ("mount", "None, b'/', None, 0, None", "EPERM"),
    "umount": ("umount2", "b'/', 0", "EPERM"),
    "the new mount calls": ("fsopen", "b'tmpfs', 0", "EPERM"),
    "a tree of mounts": ("open_tree", "-100, b'/', 0", "EPERM"),
    "pivot_root": ("pivot_root", "b'.', b'.'", "EPERM"),
    "chroot": ("chroot", "b'.'", "EPERM"),
    "ptrace": ("ptrace", "0, 0, 0, 0", "EPERM"),
    "another's memory": ("process_vm_readv", "os.getpid(), None, 0, None, 0, 0", "EPERM"),
    "writing another's memory": ("process_vm_writev", "os.getpid(), None, 0, None, 0, 0", "EPERM"),
    "another's descriptors": ("pidfd_getfd", "-1, 0, 0", "EPERM"),
    "bpf": ("bpf", "0, None, 0", "EPERM"),
    "perf_event_open": ("perf_event_open", "None, 0, -1, -1, 0", "EPERM"),
    "userfaultfd": ("userfaultfd", "1", "EPERM"),
    "io_uring": ("io_uring_setup", "1, ctypes.create_string_buffer(256)", "ENOSYS"),
    "reading a key": ("keyctl", "0, -3, 0", "EPERM"),
    "adding a key": ("add_key", "b'user', b'name', b'x', 1, -3", "EPERM"),
    "asking for a key": ("request_key", "b'user', b'name', None, -3", "EPERM"),
    "kexec": ("kexec_load", "0, 0, None, 0", "EPERM"),
    "a kernel module": ("init_module", "None, 0, b''", "EPERM"),
    "a module from a file": ("finit_module", "-1, b'', 0", "EPERM"),
    "removing a module": ("delete_module", "b'none', 0", "EPERM"),
    "a file by its handle": ("open_by_handle_at", "-1, None, 0", "EPERM"),
    "personality": ("personality", "0xffffffff", "EPERM"),
    "a limit of few files": ("prlimit64", "0, 7, (ctypes.c_ulong * 2)(500, 1024), None", "EPERM"),
    "the older way to it": ("setrlimit", "7, (ctypes.c_ulong * 2)(500, 1024)", "EPERM"),
    "another filter": ("seccomp", "2, 0, ctypes.byref(ctypes.c_uint32(0x7fff0000))", "EPERM"),
    "memory by a descriptor": ("memfd_create", "b'x', 0", "EPERM"),
    "secret memory": ("memfd_secret", "0", "EPERM"),
    "a shared segment": ("shmget", "0, 4096, 0o600", "EPERM"),
    "a message queue": ("msgget", "0, 0o600", "EPERM"),
    "semaphores": ("semget", "0, 1, 0o600", "EPERM"),
    "a POSIX queue": ("mq_open", "b'x', 0o102, 0o600, None", "EPERM"),
    # The flags are in a register here; SIGCHLD, so that a child could be waited for.
    "clone into a user namespace": ("clone", "0x10000000 | 17, 0, 0, 0, 0", "EPERM"),
    "clone3": ("clone3", "None, 0", "ENOSYS"),
    "asynchronous input": ("io_setup", "1, ctypes.byref(ctypes.c_long(0))", "ENOSYS"),
    "a call that no kernel has yet": (4000, "0", "ENOSYS"),
    "the second ABI of x86": (0x40000000 + 39, "0", "ENOSYS"),
}  # fmt: skip
#: What works on any machine that is not shut otherwise: the filter is what stops it.
OPEN_WITHOUT = {
    *("unshare user", "reading a key", "adding a key", "personality", "memory by a descriptor"),
    *("a shared segment", "a message queue", "semaphores", "another filter"),
    *("a limit of few files", "the older way to it"),
}
ACTIONS = {
    "AF_VSOCK": "socket.socket(40, socket.SOCK_STREAM)",
    "AF_ALG": "socket.socket(38, socket.SOCK_SEQPACKET)",
    "AF_PACKET": "socket.socket(17, socket.SOCK_DGRAM)",
    "AF_NETLINK for the audit": "socket.socket(16, socket.SOCK_RAW, 9)",
    "AF_BLUETOOTH": "socket.socket(31, socket.SOCK_RAW)",
    "SCTP": "socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)",
    "Multipath TCP": "socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)",
    "a raw socket": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
    "a socket's file without a socket": "os.mknod('s', stat.S_IFSOCK | 0o600)",
    "a device": "os.mknod('d', stat.S_IFCHR | 0o600, os.makedev(1, 3))",
}


def number(name):
    import seccompy

    return seccompy.syscall_nr(name) if isinstance(name, str) else name


def forbidden():
    """Return by name the source of each forbidden attempt and how it must end."""
    numbered = {}
    for name, (call, arguments, wanted) in NUMBERED.items():
        how = "in_child" if call == "unshare" else "call"
        numbered[name] = (f"{how}({number(call)}, {arguments})", wanted)
    if platform.machine() != "x86_64":
        del numbered["the second ABI of x86"]
    return numbered | {
        name: (f"attempt(lambda: {action})", "EPERM") for name, action in ACTIONS.items()
    }


def outcomes(names, without=()):
    cells = [TOOLS, *(f"print({forbidden()[name][0]})" for name in names)]
    settings = {"SandboxProvisioner": {"without": set(without)}}
    notebook = run_cells(*cells, config=settings, timeout=60)
    return dict(zip(names, (printed(cell).strip() for cell in notebook.cells[1:]), strict=True))


@pytest.fixture(scope="module")
def ended():
    return outcomes(list(forbidden()))


@pytest.fixture(scope="module")
def ended_without():
    # Landlock and the namespaces stay: what is shown is what the filter adds.
    return outcomes(sorted(OPEN_WITHOUT), {"syscall_filter"})


@pytest.mark.parametrize("name", [*NUMBERED, *ACTIONS])
def test_a_forbidden_call_is_refused(name, ended):
    if name not in ended:
        pytest.skip("not on this machine")
    assert ended[name] == forbidden()[name][1]


@pytest.mark.parametrize("name", sorted(OPEN_WITHOUT))
def test_the_call_is_open_without_the_filter(name, ended_without):
    assert ended_without[name] == "done"


WORKS = {
    "numpy": """
import numpy as np
a = np.random.default_rng(0).normal(size=(300, 300))
assert np.allclose(np.linalg.inv(a) @ a, np.eye(300))
np.save("a.npy", a)
assert (np.load("a.npy", mmap_mode="r") == a).all()
""",
    "torch": """
import torch
torch.set_num_threads(4)
a = torch.randn(400, 400, requires_grad=True)
(a @ a).sum().backward()
torch.save(a, "a.pt")
assert torch.equal(torch.load("a.pt"), a)
""",
    "torch's loader": """
import torch
from torch.utils.data import DataLoader, TensorDataset
loader = DataLoader(TensorDataset(torch.arange(8)), batch_size=4, num_workers=1)
assert sum(int(batch.sum()) for batch, in loader) == 28
""",
    "pandas": """
import pandas as pd
pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}).to_csv("t.csv", index=False)
assert pd.read_csv("t.csv").groupby("b").a.sum().to_dict() == {"x": 1, "y": 2}
""",
    "matplotlib": """
import matplotlib.pyplot as plt
plt.plot([1, 2, 3])
plt.savefig("p.png")
plt.close()
""",
    "sqlite3": """
import sqlite3
base = sqlite3.connect("t.db")
base.execute("pragma journal_mode=wal")
base.execute("create table t (a)")
base.execute("insert into t values (1)")
base.commit()
assert sqlite3.connect("t.db").execute("select a from t").fetchall() == [(1,)]
""",
    "threads": """
import concurrent.futures
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    assert list(pool.map(abs, range(-4, 0))) == [4, 3, 2, 1]
""",
    "processes": """
import multiprocessing
context = multiprocessing.get_context("fork")
with context.Pool(2) as pool:
    assert pool.map(abs, [-1, -2]) == [1, 2]
shared = context.Array("i", [1, 2])
worker = context.Process(target=lambda: shared.__setitem__(0, 5))
worker.start()
worker.join()
assert list(shared) == [5, 2]
""",
    "programs": """
import subprocess, sys
subprocess.run(["true"], check=True)
out = subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True, text=True).stdout
assert out == "1\\n", out
""",
    "asyncio and sockets": """
import asyncio, socket
async def echo():
    async def answer(reader, writer):
        writer.write(await reader.readline())
        writer.close()
    server = await asyncio.start_unix_server(answer, "s")
    reader, writer = await asyncio.open_unix_connection("s")
    writer.write(b"x\\n")
    assert await reader.readline() == b"x\\n"
    server.close()
await echo()
socket.socket(socket.AF_INET).close()
left, right = socket.socketpair()
left.send(b"x")
assert right.recv(1) == b"x"
""",
    "limits": """
import resource
assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 500
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
""",
    "files": """
import os, pathlib, shutil, tempfile
with tempfile.TemporaryDirectory() as folder:
    source = pathlib.Path(folder, "a")
    source.write_text("x")
    shutil.copy2(source, source.with_name("b"))
    os.mkfifo(os.path.join(folder, "pipe"))
""",
}


@pytest.fixture(scope="module")
def worked():
    notebook = run_cells(*WORKS.values(), timeout=60)
    return dict(zip(WORKS, notebook.cells, strict=True))


@pytest.mark.parametrize("name", WORKS)
def test_honest_work_is_not_touched(name, worked):
    assert errors(worked[name]) == [], [o.get("evalue") for o in worked[name].outputs]


SOCKETS = """
import os, socket
box = os.path.dirname(os.path.dirname(os.getcwd()))
refused = made = 0
for folder in (os.path.join(box, "ipc"), os.getcwd()):
    for number in range(30_000):
        try:
            with socket.socket(socket.AF_UNIX) as one:
                one.bind(os.path.join(folder, f"s{number}"))
            made += 1
        except OSError:
            refused += 1
            break
print(refused, made, os.path.exists(os.path.join(box, "ipc")))
"""


@pytest.mark.parametrize("without", [set(), {"landlock"}], ids=["all", "namespaces alone"])
def test_the_files_of_sockets_end_with_the_space_of_the_box(without):
    refused, made, seen = printed(run_in_box(SOCKETS, without=without)).split()
    assert (refused, seen) == ("2", "False")
    assert 0 < int(made) < 20_480


def test_landlock_alone_keeps_sockets_out_of_the_graders_folder():
    code = SOCKETS.replace(", os.getcwd()):", ",):")
    without = {"private_root", "pid_namespace", "network_namespace", "unprivileged_user"}
    assert printed(run_in_box(code, without=without)).split()[:2] == ["1", "0"]


BUFFER = """
import socket
left, right = socket.socketpair()
before = [left.getsockopt(socket.SOL_SOCKET, which) for which in (7, 8)]
for which in (7, 8):
    left.setsockopt(socket.SOL_SOCKET, which, 4 * before[0])
left.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
print(before == [left.getsockopt(socket.SOL_SOCKET, which) for which in (7, 8)])
"""


@pytest.mark.parametrize(("without", "stays"), [(set(), "True"), ({"syscall_filter"}, "False")])
def test_the_buffer_of_a_socket_stays_as_it_comes(without, stays):
    assert printed(run_in_box(BUFFER, without=without)).strip() == stays


KEYRING = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(libc.syscall(ctypes.c_long({number}), ctypes.c_long(0), ctypes.c_long(-3), ctypes.c_long(0)))
"""


def test_each_submission_has_a_keyring_of_its_own():
    """Without the filter, which would refuse to say which keyring it is."""
    code = KEYRING.format(number=number("keyctl"))

    def keyring(*without):
        return int(printed(run_in_box(code, without={"syscall_filter", *without})))

    first, second = keyring(), keyring()
    assert first > 0 and second > 0 and first != second


def test_the_filter_is_in_every_thread_and_child():
    code = """
import os, subprocess, threading
def mode():
    status = open(f"/proc/self/task/{threading.get_native_id()}/status").read()
    return status.split("Seccomp:")[1].split()[0]
found = [mode()]
thread = threading.Thread(target=lambda: found.append(mode()))
thread.start()
thread.join()
for task in os.listdir("/proc/self/task"):
    try:
        found.append(open(f"/proc/self/task/{task}/status").read().split("Seccomp:")[1].split()[0])
    except OSError:  # a thread that has just ended
        pass
found += subprocess.check_output(["grep", "Seccomp:", "/proc/self/status"], text=True).split()[1:]
print(set(found))
"""
    assert printed(run_in_box(code)) == "{'2'}\n"


def test_without_the_library_it_is_a_missing_protection(monkeypatch):
    monkeypatch.setitem(sys.modules, "seccompy", None)
    syscalls.build.cache_clear()
    try:
        assert syscalls.build() is None
        assert not sandbox._filter_syscalls()
    finally:
        syscalls.build.cache_clear()
    assert "syscall_filter" in sandbox.MISSING
    assert "syscall_filter" in run_in_box("pass", without={"syscall_filter"}, full=True)


def test_names_are_allowed_or_refused_and_not_both():
    assert not set(syscalls.ALLOWED) & set(syscalls.REFUSED)


def decided(program, number, arguments=(), arch=0):
    """Run a filter as the kernel would, bpf(4): what it returns for a call with these arguments."""
    arguments = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", number, arch, 0, *arguments)
    steps = list(struct.iter_unpack("<HBBI", program))
    held = at = 0
    while True:
        code, if_so, if_not, k = steps[at]
        at += 1
        kind, how = code & 0x07, code & 0xF0
        if code == 0x20:  # load a word of the call
            held = struct.unpack_from("<I", data, k)[0]
        elif code == 0x54:  # and
            held &= k
        elif kind == 0x05 and how == 0x00:  # jump
            at += k
        elif kind == 0x05:
            met = {0x10: held == k, 0x20: held > k, 0x30: held >= k, 0x40: held & k != 0}[how]
            at += if_so if met else if_not
        elif kind == 0x06:
            return k
        else:
            raise AssertionError(f"an instruction that no filter of ours has: {code:#x}")


NEW_USER, THREAD = 0x10000000, 0x003D0F00
PERMITTED, MISSING, FORBIDDEN = 0x7FFF0000, 0x50000 | errno.ENOSYS, 0x50000 | errno.EPERM
#: A call with its arguments, and what becomes of it on every machine.
DECISIONS = [
    ("openat", (), PERMITTED), ("mmap", (), PERMITTED), ("futex", (), PERMITTED),
    ("clone", (THREAD,), PERMITTED), ("clone", (NEW_USER,), FORBIDDEN), ("clone3", (), MISSING),
    ("unshare", (), FORBIDDEN), ("keyctl", (), FORBIDDEN), ("ptrace", (), FORBIDDEN),
    ("memfd_create", (), FORBIDDEN), ("io_uring_setup", (), MISSING), ("shmget", (), FORBIDDEN),
    ("socket", (socket.AF_UNIX, socket.SOCK_STREAM), PERMITTED),
    ("socket", (socket.AF_INET, socket.SOCK_STREAM), PERMITTED),
    ("socket", (socket.AF_INET, socket.SOCK_RAW, 1), FORBIDDEN),
    ("socket", (40, socket.SOCK_STREAM), FORBIDDEN), ("socket", (38, 5), FORBIDDEN),
    ("mknodat", (0, 0, stat.S_IFIFO), PERMITTED), ("mknodat", (0, 0, stat.S_IFCHR), FORBIDDEN),
]  # fmt: skip


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_rules_hold_on_each_machine_that_the_library_knows(machine, monkeypatch):
    """Without that machine: the program is assembled for it, and run as a kernel runs it."""
    seccompy = pytest.importorskip("seccompy")
    monkeypatch.setattr(seccompy.syscalls.platform, "machine", lambda: machine)
    monkeypatch.setattr(seccompy, "supported", lambda: True)
    syscalls.build.cache_clear()
    try:
        program = bytes(syscalls.build().program)
        arch = seccompy.audit_arch()
        for name, arguments, wanted in DECISIONS:
            found = decided(program, seccompy.syscall_nr(name), arguments, arch)
            assert found == wanted, (machine, name, arguments, hex(found))
        # The same numbers mean other calls elsewhere.
        elsewhere = decided(program, seccompy.syscall_nr("openat"), (), arch ^ 1)
        assert elsewhere != PERMITTED
    finally:
        syscalls.build.cache_clear()
