"""What a submission can do to the machine: attacks, each from a real kernel.

Every attack prints BREACH when it succeeds. Each is also run where its protections are left out,
and must succeed there: so a test that holds for another reason than the sandbox is noticed.
All of it is bounded: listeners and victims are the test's own, sizes are small.
"""

import contextlib
import functools
import json
import os
import socket
import subprocess
import time
from dataclasses import dataclass

import pytest
from nbjudge.run.provisioner import SandboxMissing, can_fork
from nbjudge.server import sandbox
from nbjudge.server.forkserver import ForkServer

from tests.submission_cells import errors, printed, reason, run_cells

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_fork(), reason="kernels cannot be forked on this platform"),
]

MB = 1 << 20
NAMESPACES = {"pid_namespace", "network_namespace", "private_root"}
LIMITS = {"memory_limit": 1024 * MB, "disk_limit": 64 * MB}


@pytest.fixture(scope="module")
def offered():
    """The protections that this machine can give: the others cannot be tested on it."""
    seen = run_in_box("pass", full=True)
    return set(sandbox.MISSING) - seen


@dataclass
class Place:
    """A course with a submission in it, a home, and things of the test's own to attack."""

    course: object
    home: object
    submission: object
    tcp: int
    udp: int
    unix: str
    abstract: str
    victim: subprocess.Popen


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("place")
    for folder in (root, *list(root.parents)[:-2]):
        # Permissions of the temporary folder must not be what holds an attack off.
        with contextlib.suppress(PermissionError):
            os.chmod(folder, 0o777 if folder == root else 0o755)
    course, home = root / "course", root / "home"
    submission = course / "autograded" / "me" / "ps1"
    for path, text in {
        course / "source" / "ps1" / "ps1.ipynb": "the solution",
        course / "gradebook.db": "the grades",
        course / "submitted" / "other" / "ps1" / "ps1.ipynb": "another submission",
        home / ".ssh" / "id": "the key",
        submission / "ps1.ipynb": "the hidden tests",
        submission / "data.txt": "data of the submission",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o666)
        path.parent.chmod(0o777)
    (submission / "link.txt").symlink_to(course / "gradebook.db")
    with contextlib.ExitStack() as stack:
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(str(root / "socket"))
        os.chmod(root / "socket", 0o777)
        unix.listen()
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        name = f"llm-memory-test-{os.getpid()}"
        abstract.bind("\0" + name)
        abstract.listen()
        victim = subprocess.Popen(["sleep", "600"], env={"SECRET": "in the environment"})
        yield Place(
            course, home, submission, tcp.getsockname()[1], udp.getsockname()[1],
            str(root / "socket"), name, victim,
        )  # fmt: skip
        victim.kill()
        victim.wait()


def run_in_box(code, place=None, without=(), full=False, **limits):
    """Run `code` in a kernel without the protections `without`; returns its cell.

    With full=True, returns the protections that were missing instead.
    """
    found = []
    launch = ForkServer.launch

    def launch_and_note(self, *arguments):
        process = launch(self, *arguments)
        found.append(set(process.missing))
        return process

    config = {"SandboxProvisioner": {**LIMITS, **limits, "without": set(without)}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ForkServer, "launch", launch_and_note)
        notebook = run_cells(code, folder=place and place.submission, config=config, timeout=60)
    return found[0] if full else notebook.cells[0]


READ = """
try:
    print("BREACH", open({path!r}).read())
except OSError as error:
    print("held", error)
"""
WRITE = """
try:
    with open({path!r}, "a") as file:
        file.write("x")
    print("BREACH")
except OSError as error:
    print("held", error)
"""
CONNECT = """
import socket
s = socket.socket(socket.{family}, socket.SOCK_STREAM)
s.settimeout(5)
try:
    s.connect({address!r})
    print("BREACH")
except OSError as error:
    print("held", error)
"""
SEND = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try:
    s.sendto(b"BREACH", ("127.0.0.1", {port}))
    print("BREACH")
except OSError as error:
    print("held", error)
"""
SIGNAL = """
import os, signal
try:
    os.kill({pid}, 0)
    print("BREACH")
except OSError as error:
    print("held", error)
"""
FILL = """
import os
try:
    for i in range(16):
        with open(os.path.join({folder!r}, f"fill-{{i}}"), "wb") as file:
            file.write(bytes(16 << 20))
    print("BREACH")
except OSError as error:
    print("held", error)
"""
FORKS = """
import os, signal, time
children = []
try:
    for i in range(200):
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
            os._exit(0)
        children.append(pid)
    print("BREACH")
except OSError as error:
    print("held", error)
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""
MEMORY = """
held = []
for i in range(24):
    held.append(b"x" * (256 << 20))
    if i == 5:
        print("BREACH")
        break
"""

#: What is left out in each run. One layer alone holds most attacks.
PROFILES = {
    "everything": set(),
    "landlock alone": NAMESPACES | {"unprivileged_user", "syscall_filter"},
    "namespaces alone": {"landlock", "syscall_filter"},
    "nothing": NAMESPACES | {"landlock", "unprivileged_user", "syscall_filter"},
}
#: Attacks that Landlock does not know of.
NOT_BY_LANDLOCK = {"udp", "unix socket", "fill the disk", "fork bomb"}


def attacks(place, tmp_path, sandboxed):
    """Return the code of each attack; outside the sandbox, two aim at what is not copied there."""
    course, victim = place.course, place.victim.pid
    files = {
        "source": course / "source" / "ps1" / "ps1.ipynb",
        "gradebook": course / "gradebook.db",
        "other submission": course / "submitted" / "other" / "ps1" / "ps1.ipynb",
        "home": place.home / ".ssh" / "id",
    }
    link = "link.txt" if sandboxed else place.submission / "link.txt"
    return {
        **{f"read {name}": READ.format(path=str(path)) for name, path in files.items()},
        **{f"write {name}": WRITE.format(path=str(path)) for name, path in files.items()},
        "read hidden tests": READ.format(path=str(place.submission / "ps1.ipynb")),
        "see a process": READ.format(path=f"/proc/{victim}/cmdline"),
        "follow a link": READ.format(path=str(link)),
        "make a file": WRITE.format(path=str(course / "source" / "new")),
        "tcp": CONNECT.format(family="AF_INET", address=("127.0.0.1", place.tcp)),
        "udp": SEND.format(port=place.udp),
        "unix socket": CONNECT.format(family="AF_UNIX", address=place.unix),
        "abstract socket": CONNECT.format(family="AF_UNIX", address="\0" + place.abstract),
        "signal": SIGNAL.format(pid=victim),
        "fill the disk": FILL.format(folder="." if sandboxed else str(tmp_path)),
        "fork bomb": FORKS,
    }


ATTACKS = [
    *("read source", "read gradebook", "read other submission", "read home"),
    *("write source", "write gradebook", "write other submission", "write home", "make a file"),
    *("read hidden tests", "see a process", "follow a link", "signal", "fill the disk"),
    *("tcp", "udp", "unix socket", "abstract socket", "fork bomb"),
]


PAIRS = [
    (profile, name)
    for profile in PROFILES
    for name in ATTACKS
    if profile != "landlock alone" or name not in NOT_BY_LANDLOCK
]


@pytest.fixture(scope="module")
def outcomes(place, offered, tmp_path_factory):
    """Return what gives the outcome of each attack under a profile: one kernel for all of them."""

    @functools.cache
    def under(profile):
        needed = {
            "everything": {"landlock", *NAMESPACES},
            "landlock alone": {"landlock"},
            "namespaces alone": NAMESPACES,
            "nothing": set(),
        }[profile]
        if not needed <= offered:
            pytest.skip(f"this machine does not offer {', '.join(sorted(needed - offered))}")
        sandboxed = profile != "nothing"
        limits = {} if sandboxed else {"disk_limit": 1024 * MB, "process_limit": 100_000}
        codes = {
            name: code
            for name, code in attacks(place, tmp_path_factory.mktemp("fill"), sandboxed).items()
            if (profile, name) in PAIRS
        }
        settings = {**LIMITS, **limits, "without": PROFILES[profile]}
        notebook = run_cells(
            *codes.values(),
            folder=place.submission,
            config={"SandboxProvisioner": settings},
            timeout=60,
        )
        return dict(zip(codes, map(printed, notebook.cells), strict=True))

    return under


@pytest.mark.parametrize(("profile", "name"), PAIRS)
def test_an_attack_is_held_by_each_layer_and_succeeds_without(profile, name, outcomes):
    wanted = "BREACH" if profile == "nothing" else "held"
    said = outcomes(profile)[name]
    assert said.startswith(wanted), said


def test_the_submission_finds_its_own_files_and_can_write(place):
    code = """
import os, tempfile
print(open("data.txt").read())
open("new.txt", "w").write("mine")
os.rename("new.txt", "moved.txt")
with tempfile.TemporaryDirectory() as folder:
    os.mkdir(folder + "/inner")
print(sorted(name for name in os.listdir(".")))
"""
    said = printed(run_in_box(code, place))
    assert said == "data of the submission\n['data.txt', 'moved.txt']\n"
    assert not (place.submission / "moved.txt").exists()


def test_memory_is_bounded(place):
    cell = run_in_box(MEMORY, place)
    assert errors(cell) == ["MemoryError"]
    assert reason(cell) == "memory"


def test_memory_of_many_processes_is_bounded_together(place):
    code = """
import os, time
for i in range(4):
    if os.fork() == 0:
        held = b"x" * (400 << 20)
        time.sleep(30)
        os._exit(0)
time.sleep(30)
print("BREACH")
"""
    cell = run_in_box(code, place)
    assert "BREACH" not in printed(cell)
    assert reason(cell) == "memory"


def test_what_lies_in_sockets_counts_as_memory(place):
    """It is in no process: the operating system holds it until somebody reads it."""
    code = """
import os, socket, time
for i in range(10):
    if os.fork() == 0:
        held = [socket.socketpair() for _ in range({pairs})]
        time.sleep({seconds})
        os._exit(0)
time.sleep({seconds})
print("not stopped")
"""
    many = run_in_box(code.format(pairs=300, seconds=30), place)
    assert (reason(many), printed(many)) == ("memory", "")
    assert printed(run_in_box(code.format(pairs=20, seconds=1), place)) == "not stopped\n"


def test_memory_is_not_bounded_without_the_limit(place):
    assert printed(run_in_box(MEMORY, place, memory_limit=8192 * MB)).startswith("BREACH")


def test_files_are_full_with_a_reason(place):
    cell = run_in_box('open("f", "wb").write(bytes(128 << 20))', place)
    assert errors(cell) == ["OSError"]
    assert reason(cell) == "disk"


@pytest.mark.parametrize("without", [set(), NAMESPACES], ids=["namespace", "hunted"])
def test_a_detached_child_ends_with_the_kernel(without, place):
    marker = f"detached-{os.getpid()}-{len(without)}"
    code = f"""
import os, subprocess, sys, time
child = subprocess.Popen(
    [sys.executable, "-S", "-c", "import time; time.sleep(60)", {marker!r}],
    start_new_session=True,
)
time.sleep(0.5)
print(child.poll())
"""
    assert printed(run_in_box(code, place, without)) == "None\n"
    deadline = time.monotonic() + 10
    while running(marker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not running(marker)


def running(marker):
    """Whether a process has `marker` as an argument."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as line:
            if marker.encode() in line.read().split(b"\0"):
                return True
    return False


def test_the_fork_server_cannot_be_asked(place):
    """Nothing that the child inherits is a socket pair, and no process of the grader is in view."""
    code = """
import os, socket
found = []
for fd in map(int, os.listdir("/proc/self/fd")):
    try:
        s = socket.socket(fileno=os.dup(fd))
    except OSError:
        continue
    if s.family == socket.AF_UNIX and s.type == socket.SOCK_SEQPACKET:
        s.send(b'{"judge": true}')
        found.append(fd)
print(found, sorted(p for p in os.listdir("/proc") if p.isdigit()))
"""
    assert printed(run_in_box(code, place)) == "[] ['1', '2']\n"


def test_nothing_of_the_graders_environment_is_seen(place, monkeypatch):
    monkeypatch.setenv("A_TOKEN_OF_THE_GRADER", "secret")
    ForkServer.instance().close()  # the next kernel's server is started with the token around
    code = "import os\nprint(os.environ.get('A_TOKEN_OF_THE_GRADER'), os.environ['HOME'])"
    said = printed(run_in_box(code, place)).split()
    assert said[0] == "None"
    assert said[1].endswith("/space/home")


@pytest.mark.parametrize("without", [set(), {"unprivileged_user"}], ids=["user", "superuser"])
def test_no_privilege_is_left(without, place):
    code = """
import os
status = dict(line.split(":\\t") for line in open("/proc/self/status").read().splitlines())
print(status["CapEff"], status["CapPrm"], status["CapBnd"], status["NoNewPrivs"])
print(os.getuid() != 0)
"""
    none = "0" * 16
    powers, user = printed(run_in_box(code, place, without)).splitlines()
    assert powers == f"{none} {none} {none} 1"
    assert user == "True" or without or os.getuid() != 0


def test_a_missing_protection_is_said_once(place, caplog):
    from nbjudge.run.provisioner import SandboxProvisioner

    SandboxProvisioner.missing_here.clear()
    for _ in range(2):
        run_in_box("pass", place, {"network_namespace"})
    said = [r.getMessage() for r in caplog.records if "network_namespace" in r.getMessage()]
    assert len(said) == 1
    assert sandbox.MISSING["network_namespace"] in said[0]


def test_require_sandbox_refuses(place):
    with pytest.raises(SandboxMissing, match="network_namespace"):
        run_in_box("pass", place, {"network_namespace"}, require_sandbox=True)


def test_a_course_inside_the_installation_is_noticed(place):
    inside = os.path.dirname(json.__file__)
    where = Place(*([None] * 2), inside, *([None] * 5))
    code = "print('ran')"
    assert "course_hidden" in run_in_box(code, where, full=True, disk_limit=1 * MB)
