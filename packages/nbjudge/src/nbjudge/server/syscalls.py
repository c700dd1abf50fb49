"""Which system calls a submission may make: a list of what is allowed, kept by the kernel.

What Python, NumPy, PyTorch, pandas, Matplotlib and SQLite need is named here; a call that is not
named does not exist for the submission, whatever a later kernel adds. The libraries then take
their older way (`ENOSYS`); calls that a program should be told it may not make get `EPERM`.

Sources: seccomp(2), syscalls(2), the default profile of Docker (moby/profiles), clone(2).
"""

import errno
import functools
import socket
import stat
import sys
from typing import Any

_FILES = """
access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat
faccessat2 fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync
fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstatfs fsync ftruncate futimesat getcwd
getdents getdents64 getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl
lchown lgetxattr link linkat listxattr llistxattr lremovexattr lseek lsetxattr lstat mkdir mkdirat
newfstatat open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read
readahead readlink readlinkat readv removexattr rename renameat renameat2 rmdir sendfile setxattr
splice stat statfs statx symlink symlinkat sync sync_file_range syncfs tee truncate umask unlink
unlinkat utime utimensat utimes write writev
"""
_MEMORY = """
brk get_mempolicy madvise mincore mlock mlock2 mlockall mmap mprotect mremap msync munlock
munlockall munmap pkey_alloc pkey_free pkey_mprotect
"""
_PROCESSES = """
alarm arch_prctl capget capset execve execveat exit exit_group fork futex futex_requeue futex_wait
futex_waitv futex_wake get_robust_list get_thread_area getcpu getegid geteuid getgid getgroups
getitimer getpgid getpgrp getpid getppid getpriority getresgid getresuid getrlimit getrusage getsid
gettid getuid ioprio_get kill membarrier nanosleep pause pidfd_open pidfd_send_signal prctl
restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
rt_sigreturn
rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min
sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield set_robust_list
set_thread_area set_tid_address setfsgid setfsuid setgid setgroups setitimer setpgid setpriority
setregid setresgid setresuid setreuid setsid setuid sigaltstack tgkill time times tkill
uname vfork wait4 waitid
"""
_WAITING = """
clock_getres clock_gettime clock_nanosleep epoll_create epoll_create1 epoll_ctl epoll_ctl_old
epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 getrandom gettimeofday poll
ppoll pselect6 select signalfd signalfd4 sysinfo timer_create timer_delete timer_getoverrun
timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime
"""
_SOCKETS = """
accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg
sendmmsg sendmsg sendto shutdown
"""
ALLOWED = tuple(f"{_FILES}{_MEMORY}{_PROCESSES}{_WAITING}{_SOCKETS}".split())

_REFUSED = """
acct add_key adjtimex bpf chroot clock_adjtime clock_settime delete_module fanotify_init
finit_module fsconfig fsmount fsopen fspick init_module ioperm iopl kcmp kexec_file_load kexec_load
keyctl lookup_dcookie memfd_create memfd_secret migrate_pages modify_ldt mount mount_setattr
move_mount move_pages mq_open msgget name_to_handle_at open_by_handle_at open_tree perf_event_open
personality pidfd_getfd pivot_root process_madvise process_vm_readv process_vm_writev ptrace
quotactl quotactl_fd reboot request_key seccomp semget setdomainname sethostname setns settimeofday
shmat shmget swapoff swapon syslog umount2 unshare userfaultfd vhangup
"""
#: Refused by name: a program that tries one of these reads that it may not.
REFUSED = tuple(_REFUSED.split())

# cgroup, uts, ipc, user, pid, net, mount: what `clone` may not make anew (CLONE_NEW*).
_NEW_NAMESPACES = 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000
_NEW_NAMESPACES |= 0x40000000 | 0x00020000
_KIND = 0o170000  # of a file, in its mode
_TYPE = 0xF  # of a socket's type, without the flags that go with it
_FAMILIES: list[tuple[int, int, int]] = [
    (family, kind, protocol)
    for family in (socket.AF_INET, socket.AF_INET6)
    for kind, own in (
        (socket.SOCK_STREAM, socket.IPPROTO_TCP),
        (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    )
    for protocol in (0, own)
]
# What the interfaces are: the C library asks so, and ZeroMQ aborts where it may not.
_FAMILIES.append((16, socket.SOCK_RAW, 0))  # AF_NETLINK, NETLINK_ROUTE
_OPEN_FILES = 7  # RLIMIT_NOFILE
# What sets the size of a socket's buffers; the last two are for who may go beyond the bound.
_BUFFER_SIZES = (socket.SO_SNDBUF, socket.SO_RCVBUF, 32, 33)


@functools.cache
def build() -> Any | None:
    """Return the filter, which a forked child loads, or None where this machine can have none.

    Assembled once, before the forks: each child loads its own copy.
    """
    if sys.platform != "linux":
        return None
    try:
        import seccompy
        from seccompy import Action, ArgCmp, CmpOp

        if not seccompy.supported():
            return None
        rules = seccompy.Filter(default=int(Action.ERRNO) | errno.ENOSYS)
    except (ImportError, OSError, RuntimeError):  # RuntimeError: a machine that it does not know
        return None

    def exists(name: str) -> bool:
        try:
            seccompy.syscall_nr(name)
        except ValueError:  # on this machine, or for this version of the library
            return False
        return True

    for name in filter(exists, ALLOWED):
        rules.allow(name)
    for name in filter(exists, REFUSED):
        rules.errno(name, errno.EPERM)
    # `clone3` has its flags in memory, where no filter can read them: the C library then uses
    # `clone`, which has them in a register.
    rules.allow("clone", args=[ArgCmp(0, CmpOp.MASKED_EQ, 0, mask=_NEW_NAMESPACES)])
    rules.errno("clone", errno.EPERM)
    for name in ("socket", "socketpair"):
        rules.allow(name, args=[ArgCmp(0, CmpOp.EQ, socket.AF_UNIX)])
    for family, kind, protocol in _FAMILIES:
        rules.allow(
            "socket",
            args=[
                ArgCmp(0, CmpOp.EQ, family),
                ArgCmp(1, CmpOp.MASKED_EQ, kind, mask=_TYPE),
                ArgCmp(2, CmpOp.EQ, protocol),
            ],
        )
    # Buffers stay as they come, so that sockets can be counted for memory. It is said to be done:
    # the operating system, too, takes such a size for a wish.
    for option in _BUFFER_SIZES:
        values = [ArgCmp(1, CmpOp.EQ, socket.SOL_SOCKET), ArgCmp(2, CmpOp.EQ, option)]
        rules.errno("setsockopt", 0, args=values)
    rules.allow("setsockopt")
    # With a few files less nothing answers a test any more: that would cost more than its own cell.
    for name, which in (("setrlimit", 0), ("prlimit64", 1)):
        if exists(name):
            sets = [ArgCmp(2, CmpOp.NE, 0)] if name == "prlimit64" else []
            rules.errno(name, errno.EPERM, args=[ArgCmp(which, CmpOp.EQ, _OPEN_FILES), *sets])
            rules.allow(name)
    # A node of any other kind is a device, or a socket's file without a socket.
    for name, mode in (("mknod", 1), ("mknodat", 2)):
        if exists(name):
            rules.allow(name, args=[ArgCmp(mode, CmpOp.MASKED_EQ, stat.S_IFIFO, mask=_KIND)])
            rules.errno(name, errno.EPERM)
    for name in ("socket", "socketpair"):
        rules.errno(name, errno.EPERM)
    _ = rules.program  # assembled now
    return rules
