"""What a submission's kernel may do: namespaces, a private root, Landlock, system calls, limits.

Everything here runs in a freshly forked, single-threaded process, before any of the
learner's code and before any thread starts (`enter`). Each protection is tried on its own;
those that the platform refuses are returned by name, and `MISSING` says in words what
each absence means. Nothing here is a check that a learner could talk to: the kernel enforces it.

Sources: namespaces(7), user_namespaces(7), pivot_root(2), landlock(7), setrlimit(2), keyctl(2).
"""

import contextlib
import ctypes
import errno
import functools
import importlib.util
import mmap
import os
import platform
import shutil
import signal
import socket
import stat
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nbjudge import trees
from nbjudge.server import syscalls
from nbjudge.wire import course

#: What is not protected where a protection is missing, for the instructor.
MISSING = {
    "fork": "submissions run as ordinary kernels, with all of your own rights",
    "pid_namespace": "a submission sees other processes; what it detaches is hunted, not contained",
    "network_namespace": "a submission may send UDP, and reach what Landlock does not cover",
    "private_root": "a submission may connect to Unix sockets in the file system",
    "disk_quota": "a submission may fill the disk with many files",
    "landlock": "nothing but file permissions stops a submission from reading and writing files",
    "syscall_filter": "a submission may make any system call, and hold memory that no limit counts",
    "session_keyring": "submissions share the keys in the kernel's keyring",
    "unprivileged_user": "submissions run as the superuser, without its capabilities",
    "process_limit": "a submission may start any number of processes",
    "course_hidden": "the course lies inside a folder that kernels must be able to read",
}

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUTS = 0x04000000
_CLONE_NEWIPC = 0x08000000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWPID = 0x20000000
_CLONE_NEWNET = 0x40000000
_NAMESPACES = _CLONE_NEWNS | _CLONE_NEWUTS | _CLONE_NEWIPC | _CLONE_NEWPID | _CLONE_NEWNET

_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 32, 4096, 16384, 1 << 18
_MS_RELATIME, _ST_RELATIME = 1 << 21, 4096
_ST_KEPT = 2 | 4 | 8 | 1024 | 2048  # nosuid, nodev, noexec, noatime, nodiratime: same bits as MS_*
_MNT_DETACH = 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}

_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "ppc64le": 271, "s390x": 280}
_JOIN_SESSION_KEYRING = 1

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER = 1, 4, 24, 36
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4

#: First of the user numbers for submissions, far from those that are given to people.
_UID_BASE = 0x6C6C0000

_BACKLOG = 100  # as ZeroMQ's own

_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_SYSTEM = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/bin", "/usr/bin", "/usr/local/lib"),
    *("/usr/share/fonts", "/usr/share/zoneinfo", "/usr/share/locale", "/etc/fonts"),
    *("/etc/ld.so.cache", "/etc/localtime", "/etc/nsswitch.conf", "/etc/alternatives"),
)


@dataclass(frozen=True)
class Limits:
    """Bounds for one kernel and all that it starts."""

    memory_bytes: int = 2 << 30
    disk_bytes: int = 512 << 20
    processes: int = 64
    cpu_seconds: int = 900
    open_files: int = 1024

    def to_dict(self) -> dict[str, int]:
        """As plain data, for the fork server."""
        return asdict(self)


@dataclass(frozen=True)
class Box:
    """The folder of one kernel: `ipc` for sockets, `space` to write in, `root` to mount on.

    `ipc` is the grader's: the kernel gets its sockets as descriptors, and can make none there
    (one of another language has to: `binds`).
    """

    path: str
    submission: str | None = None  # its files, notebooks aside, are copied to `work`
    binds: bool = False  # whether the kernel makes its sockets itself, in `ipc`

    @property
    def ipc(self) -> str:
        """Folder of the kernel's sockets, which the kernel itself cannot see."""
        return os.path.join(self.path, "ipc")

    @property
    def space(self) -> str:
        """The bounded space in which the kernel may write."""
        return os.path.join(self.path, "space")

    @property
    def work(self) -> str:
        """The kernel's working folder, with the submission's files."""
        return os.path.join(self.space, "work")

    @property
    def home(self) -> str:
        """The kernel's home, apart from the submission's files."""
        return os.path.join(self.space, "home")

    @property
    def connection_file(self) -> str:
        """Where a kernel that is a program of its own finds its connection."""
        return os.path.join(self.home, "connection.json")

    @property
    def root(self) -> str:
        """Where the private root is put together."""
        return os.path.join(self.path, "root")

    def make(self) -> None:
        """Create the folders; every user may walk through, none may list."""
        os.chmod(self.path, 0o711)
        for path in (self.ipc, self.space, self.root):
            os.mkdir(path, 0o700)

    def listen(self, connection: dict[str, Any]) -> dict[str, socket.socket]:
        """Open the sockets of a kernel with this connection, before it is shut in; by port's name.

        A kernel that bound them itself would need a folder on the disk, outside its bounded
        space, in which it could go on making sockets.
        """
        opened = {}
        for name in (key for key in sorted(connection) if key.endswith("_port")):
            opened[name] = socket.socket(socket.AF_UNIX)
            opened[name].bind(f"{connection['ip']}-{connection[name]}")
            opened[name].listen(_BACKLOG)
        return opened


def _packages() -> list[Path]:
    """Return the folders of the packages that kernels import from beside the environment."""
    found = [Path(__file__).resolve().parents[1]]
    for name in course.here().shared:
        spec = importlib.util.find_spec(name)
        if spec is not None:
            found += [Path(folder).resolve() for folder in spec.submodule_search_locations or []]
    return found


@functools.cache  # the kernel asks again, in a root where less exists
def readable_paths() -> list[str]:
    """What Python needs to read, and nothing more: the installation, the package, libraries.

    Folders are named as narrowly as an installation allows (`lib`, not the prefix), because
    a course may stand beside them.
    """
    wanted = [*_SYSTEM, *map(str, _packages())]
    for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}:
        wanted += [os.path.join(prefix, name) for name in ("lib", "lib64", "bin", "share", "etc")]
        wanted.append(os.path.join(prefix, "pyvenv.cfg"))
    wanted += [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    # An entry beside the environment (an editable install puts a checkout on the path) may hold
    # solutions: of those the packages that kernels import are enough.
    prefixes = {Path(os.path.realpath(p)) for p in (sys.prefix, sys.base_prefix)}
    for entry in sys.path:
        real = Path(os.path.realpath(entry))
        if entry and any(real.is_relative_to(prefix) for prefix in prefixes):
            wanted.append(entry)
    kept: list[str] = []
    for path in sorted({os.path.abspath(p) for p in wanted if os.path.exists(p)}):
        if not any(path == k or path.startswith(k + os.sep) for k in kept):
            kept.append(path)
    return kept


# -- system calls that Python does not offer ------------------------------------------------

_libc: Any = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    encode = [None if s is None else os.fsencode(s) for s in (source, target, kind)]
    _check(_libc.mount(*encode, ctypes.c_ulong(flags), data.encode()), f"mount {target}")


def _prctl(option: int, *args: int) -> None:
    values = [ctypes.c_ulong(a) for a in (*args, 0, 0, 0, 0)[:4]]
    _check(_libc.prctl(option, *values), f"prctl {option}")


def die_with_parent() -> None:
    """Let this process be killed when the thread that forked it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def become_subreaper() -> None:
    """Have orphans below this process become its children."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


# -- the steps, in the order in which `forkserver` takes them -------------------------------


def unshare_namespaces(without: Iterable[str] = ()) -> set[str]:
    """Give the processes forked from here namespaces of their own; returns what is missing.

    Called in a throw-away process: `CLONE_NEWPID` holds for children only. Without the right
    to do it directly, a user namespace is tried, which keeps the user's own number.
    """
    missing = set(without)
    flags = _CLONE_NEWIPC | _CLONE_NEWUTS
    for name, flag in (
        ("pid_namespace", _CLONE_NEWPID),
        ("network_namespace", _CLONE_NEWNET),
        ("private_root", _CLONE_NEWNS),
    ):
        flags |= 0 if name in missing else flag
    uid, gid = os.geteuid(), os.getegid()
    if _libc.unshare(flags) != 0:
        if _libc.unshare(_CLONE_NEWUSER | flags) != 0:
            missing |= {"pid_namespace", "network_namespace", "private_root"}
        else:
            Path("/proc/self/setgroups").write_text("deny", encoding="utf-8")
            Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="utf-8")
            Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="utf-8")
    if "private_root" in missing:
        missing.add("disk_quota")
    return missing


def enter(box: Box, limits: Limits, missing: Iterable[str], user: int) -> set[str]:
    """Shut this process, and all that it will fork, into `box`.

    missing: protections that `unshare_namespaces` could not get; user: a number that no other
    living kernel uses, for a user of its own where this process may change users.
    Returns the names of all protections that are missing (keys of `MISSING`).
    """
    missing = set(missing)
    readable = readable_paths()
    # Measured first: none of it can be read from inside.
    mapped = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * mmap.PAGESIZE
    tasks = _own_tasks()
    # When memory runs out all the same, the kernel is to take the submission, not the grader.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="utf-8")
    own_proc = own_shm = False
    space = box.space
    if "private_root" not in missing:
        try:
            own_proc = _build_root(box, readable, limits)
            space = box.root + box.space
            own_shm = True
        except OSError:
            missing |= {"private_root", "disk_quota"}
    for path in (box.work, box.home):
        os.mkdir(space + path.removeprefix(box.space))
    if box.submission:
        real = Path(os.path.realpath(box.submission))
        if any(real.is_relative_to(os.path.realpath(path)) for path in readable):
            missing.add("course_hidden")
        copy_files(box.submission, os.path.join(space, "work"), limits.disk_bytes // 2)
    uid = None
    if os.geteuid() == 0 and "unprivileged_user" not in missing:
        uid = _UID_BASE + user if _others_can_read(readable, "private_root" in missing) else None
    if uid is not None:
        try:
            for path in (box.ipc, space) if box.binds else (space,):
                _give(path, uid)
        except OSError:  # a user namespace without this user
            uid = None
    if "private_root" not in missing:
        _pivot(box.root)
    os.chdir(box.work)
    if _drop_privileges(uid) == 0:
        missing |= {"unprivileged_user", "process_limit"}
    _limit_resources(limits, mapped, 0 if uid is not None else tasks)
    own = [path for path, held in (("/proc", own_proc), ("/dev/shm", own_shm)) if held]
    if "landlock" not in missing and not _landlock(readable, box, own):
        missing.add("landlock")
    if "session_keyring" not in missing and not _join_new_keyring():
        missing.add("session_keyring")
    # Last, as it shuts what the steps before it are made of.
    if "syscall_filter" not in missing and not _filter_syscalls():
        missing.add("syscall_filter")
    return missing


def _build_root(box: Box, readable: list[str], limits: Limits) -> bool:
    """Put a root together that holds `readable`, a few devices and the box; True with a /proc."""
    root = box.root
    if platform.machine() not in _PIVOT_ROOT:
        raise OSError(errno.ENOSYS, f"pivot_root on {platform.machine()}")
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    _mount("tmpfs", root, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755,size=4m")
    for path in readable:
        real = os.path.realpath(path)
        _bind(real, root + real, _MS_RDONLY | _MS_NOSUID | _MS_NODEV)
        if real != path and not os.path.lexists(root + path):
            os.makedirs(os.path.dirname(root + path), exist_ok=True)
            os.symlink(real, root + path)
    for device in _DEVICES:
        _bind(device, root + device, _MS_NOSUID | _MS_NOEXEC)
    shared = root + "/dev/shm"
    os.makedirs(shared)
    _mount("tmpfs", shared, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=1777,size=64m,nr_inodes=1k")
    if box.binds:
        _bind(box.ipc, root + box.ipc, _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    os.makedirs(root + box.space)
    options = f"mode=700,size={limits.disk_bytes},nr_inodes=20k"
    _mount("tmpfs", root + box.space, "tmpfs", _MS_NOSUID | _MS_NODEV, options)
    os.mkdir(root + "/proc")
    try:
        _mount("proc", root + "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    except OSError:  # inside a container: no /proc is safer than the old one
        return False
    return True


def _bind(source: str, target: str, flags: int) -> None:
    if os.path.ismount(target):
        return
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        open(target, "a", encoding="utf-8").close()
    _mount(source, target, None, _MS_BIND | _MS_REC)
    # In a user namespace a mount's own restrictions are locked: leave them on.
    held = os.statvfs(source).f_flag
    flags |= (held & _ST_KEPT) | (_MS_RELATIME if held & _ST_RELATIME else 0)
    _mount(None, target, None, _MS_BIND | _MS_REMOUNT | flags)


def _pivot(root: str) -> None:
    os.chdir(root)
    number = _PIVOT_ROOT[platform.machine()]
    _check(_libc.syscall(ctypes.c_long(number), b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", _MNT_DETACH), "umount of the old root")
    os.chdir("/")


def copy_files(source: str, target: str, most_bytes: int) -> None:
    """Copy a submission's plain files, except notebooks, as far as `most_bytes` go.

    Links, devices and pipes are left out: they are the learner's, and may point anywhere.
    Notebooks are left out because the one in the folder holds the hidden tests.
    """
    left = most_bytes
    for folder, _, names in trees.walk(source):
        inside = os.path.join(target, os.path.relpath(folder, source))
        with contextlib.suppress(OSError):
            os.makedirs(inside, exist_ok=True)
        for name in sorted(names):
            path = os.path.join(folder, name)
            held = os.lstat(path)
            if name.endswith(".ipynb") or not stat.S_ISREG(held.st_mode) or held.st_size > left:
                continue
            left -= held.st_size
            # A name that is too long here, a full disk: the file is left out, the rest goes on.
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                with open(descriptor, "rb") as read, open(os.path.join(inside, name), "wb") as to:
                    shutil.copyfileobj(read, to)


def _others_can_read(readable: list[str], through_parents: bool) -> bool:
    """Whether a user without rights could still import Python's modules."""
    for path in [*readable, os.__file__, sys.executable]:
        real = Path(os.path.realpath(path))
        parents = real.parents if through_parents else ()
        needed = stat.S_IROTH | (stat.S_IXOTH if real.is_dir() else 0)
        if real.stat().st_mode & needed != needed:
            return False
        if any(not p.stat().st_mode & stat.S_IXOTH for p in parents):
            return False
    return True


def _give(path: str, uid: int) -> None:
    os.chown(path, uid, uid)
    for folder, folders, names in trees.walk(path):
        for name in (*folders, *names):
            os.chown(os.path.join(folder, name), uid, uid, follow_symlinks=False)


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def _drop_privileges(uid: int | None) -> int:
    """Give up every capability, for good, and become `uid`; returns the user that remains."""
    for capability in range(64):  # beyond the last one that this kernel knows: refused, harmless
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = _CapHeader(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
    _check(_libc.capset(ctypes.byref(header), (ctypes.c_uint32 * 6)()), "capset")
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0)
    return os.geteuid()


def _join_new_keyring() -> bool:
    """Leave the keyring that is inherited from the grader's session, which all would share."""
    number = _KEYCTL.get(platform.machine())
    if number is None:
        return False
    joined = _libc.syscall(ctypes.c_long(number), ctypes.c_long(_JOIN_SESSION_KEYRING), None)
    # Where the call is refused as such (containers do), the submission cannot make it either.
    return joined != -1 or ctypes.get_errno() in (errno.ENOSYS, errno.EPERM)


def _filter_syscalls() -> bool:
    rules = syscalls.build()
    if rules is None:
        return False
    try:
        rules.load()
    except OSError:  # refused by a container
        return False
    return True


def make_dumpable() -> None:
    """Let the process read its own /proc entries again (a change of user takes that away)."""
    _prctl(_PR_SET_DUMPABLE, 1)


def _limit_resources(limits: Limits, mapped: int, tasks: int) -> None:
    import resource  # not on every platform on which this module is imported

    bounds = {
        # The warm libraries are mapped already: what is bounded is what comes on top.
        resource.RLIMIT_AS: mapped + limits.memory_bytes,
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_FSIZE: limits.disk_bytes,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_NPROC: tasks + limits.processes,
        resource.RLIMIT_CORE: 0,
    }
    for which, bound in bounds.items():
        _, hard = resource.getrlimit(which)
        bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(which, (bound, bound))


def _own_tasks() -> int:
    """Threads that this user has now; the limit on processes counts them all."""
    count = 0
    for entry in os.scandir("/proc") if os.path.isdir("/proc") else ():
        try:
            if entry.name.isdigit() and entry.stat().st_uid == os.geteuid():
                count += len(os.listdir(f"/proc/{entry.name}/task"))
        except OSError:
            continue
    return count


def _landlock(readable: list[str], box: Box, own: list[str]) -> bool:
    """Allow reads of `readable`, writes in the box's working folder, and nothing else.

    own: /proc and /dev/shm, where they are the box's own and not the machine's.
    """
    try:
        import landlockpy
        from landlockpy import AccessFS, Ruleset, Scope

        if not landlockpy.supported():
            return False
    except ImportError:
        return False
    read_file = AccessFS.READ_FILE | AccessFS.EXECUTE
    read = read_file | AccessFS.READ_DIR
    everything = AccessFS((1 << 17) - 1) & ~(AccessFS.MAKE_CHAR | AccessFS.MAKE_BLOCK)
    with Ruleset(scoped=Scope.ABSTRACT_UNIX_SOCKET | Scope.SIGNAL) as rules:
        for path in readable:
            if os.path.exists(path):
                rules.allow_path(path, read if os.path.isdir(path) else read_file)
        for device in _DEVICES:
            if os.path.exists(device):
                rules.allow_path(device, AccessFS.READ_FILE | AccessFS.WRITE_FILE)
        for path in own:
            rules.allow_path(path, read if path == "/proc" else everything)
        rules.allow_path(box.space, everything)
        if box.binds:
            # Made there, but not removed: nobody puts a link in a socket's place.
            rules.allow_path(box.ipc, AccessFS.MAKE_SOCK | AccessFS.RESOLVE_UNIX)
        rules.restrict()
    return True
