//! The cage of a process that reads what strangers write: no rights, few system calls, almost no files.
//!
//! Whatever takes over such a process can speak on the sockets it has and read what it has read; it cannot start programs,
//! enter namespaces, look into other processes or open files that are not its own.

use std::path::PathBuf;

use landlock::{ABI, Access, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, path_beneath_rules};

use crate::error::{Doing, Error, Result};
use crate::process::become_user;
use crate::seccomp::{Call, Filter};

/// `clone` with these makes a thread; without them a process, or somebody in other namespaces.
const THREAD: u32 = (libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND).cast_unsigned();

/// Calls that a program of tokio, its allocator and its threads make, and nothing else of the sort.
const ALLOWED: &[i64] = &[
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_clone3,
    libc::SYS_close,
    libc::SYS_connect,
    libc::SYS_dup,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getpeername,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_geteuid,
    libc::SYS_getuid,
    libc::SYS_listen,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_memfd_create,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_prlimit64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    libc::SYS_splice,
    libc::SYS_statx,
    libc::SYS_tgkill,
    libc::SYS_uname,
    libc::SYS_write,
    libc::SYS_writev,
];

/// The same calls under older names.
#[cfg(target_arch = "x86_64")]
const ALLOWED_OLD: &[i64] = &[libc::SYS_epoll_wait, libc::SYS_poll, libc::SYS_readlink, libc::SYS_open, libc::SYS_stat];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_OLD: &[i64] = &[];

/// Calls that nobody makes by mistake.
const DEADLY: &[i64] = &[
    libc::SYS_bpf,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_kexec_load,
    libc::SYS_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_setns,
    libc::SYS_unshare,
];

/// What is left to a process in its cage.
#[derive(Debug, Clone, Default)]
pub struct Sandbox {
    /// Files and folders that can be read; those that do not exist are left out.
    pub readable: Vec<PathBuf>,
}

/// Gives up whatever rights this process has: another user unless it is one already, no capabilities, none to be gained, and
/// nobody but root can look into it.
pub fn drop_rights(uid: u32, gid: u32) -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        become_user(uid, gid)?;
    }
    drop_capabilities()?;
    nix::sys::prctl::set_no_new_privs().doing(|| "forbid the gain of rights")?;
    nix::sys::prctl::set_dumpable(false).doing(|| "keep others from looking into this process")
}

/// Another user's process may still have been given some.
fn drop_capabilities() -> Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let none = [0u32; 6];
    // SAFETY: the header names the version whose data are the six words of `none`; the kernel only reads both.
    let done = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
    if done == 0 { Ok(()) } else { Err(Error::last("drop capabilities")) }
}

impl Sandbox {
    /// Enters the cage, for good. Before the first thread is started, so that all of them are inside.
    pub fn enter(&self) -> Result<()> {
        self.restrict_files()?;
        for filter in filters()? {
            filter.apply().doing(|| "restrict system calls")?;
        }
        Ok(())
    }

    /// A kernel without Landlock restricts no files; permissions remain.
    fn restrict_files(&self) -> Result<()> {
        let doing = || "restrict files";
        let abi = ABI::V5;
        let restrict = || {
            Ruleset::default()
                .handle_access(AccessFs::from_all(abi))?
                .create()?
                .add_rules(path_beneath_rules(&self.readable, AccessFs::from_read(abi) & !AccessFs::Execute))?
                .restrict_self()
        };
        restrict().map(drop).map_err(std::io::Error::other).doing(doing)
    }
}

/// In the order in which they are put in force.
fn filters() -> Result<[Filter; 3]> {
    Ok([
        Filter::deadly(&DEADLY.iter().copied().map(Call::any).collect::<Vec<_>>())?,
        // Its arguments lie in memory, where no filter sees them; callers fall back to `clone`.
        Filter::refusing(&[Call::any(libc::SYS_clone3)], libc::ENOSYS)?,
        Filter::allowing(&allowed())?,
    ])
}

fn allowed() -> Vec<Call> {
    let mut calls: Vec<Call> = ALLOWED.iter().chain(ALLOWED_OLD).copied().map(Call::any).collect();
    calls.push(Call::any(libc::SYS_clone).with_bits(0, THREAD, THREAD));
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
    calls.extend(families.map(|family| Call::any(libc::SYS_socket).with(0, family.cast_unsigned())));
    calls.push(Call::any(libc::SYS_socketpair).with(0, libc::AF_UNIX.cast_unsigned()));
    // Non-blocking, how much there is to read, and what kind of namespace a descriptor is.
    let requests = [libc::FIONBIO as u32, libc::FIONREAD as u32, 0xb703];
    calls.extend(requests.map(|request| Call::any(libc::SYS_ioctl).with(1, request)));
    // Names of threads and of memory.
    let options = [libc::PR_SET_NAME.cast_unsigned(), 0x5356_4d41];
    calls.extend(options.map(|option| Call::any(libc::SYS_prctl).with(0, option)));
    calls
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::Signal;
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    /// Forks, enters the cage, makes the call; how that ended.
    fn attempt(call: impl FnOnce() -> i32) -> WaitStatus {
        // SAFETY: the child only makes system calls and ends without running anything of the test runner's.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let entered = drop_rights(65_534, 65_534).and_then(|()| Sandbox::default().enter());
                let code = if entered.is_ok() { call() } else { 100 };
                // SAFETY: ends this process and nothing else.
                unsafe { libc::_exit(code) }
            }
            ForkResult::Parent { child } => waitpid(child, None).unwrap(),
        }
    }

    /// What a call returned, as an exit code: 0, or the error's number.
    fn errno(result: libc::c_long) -> i32 {
        if result < 0 { nix::errno::Errno::last_raw() } else { 0 }
    }

    fn code(status: WaitStatus) -> i32 {
        match status {
            WaitStatus::Exited(_, code) => code,
            other => panic!("it ended otherwise: {other:?}"),
        }
    }

    #[rstest::rstest]
    #[case::setns(libc::SYS_setns)]
    #[case::execve(libc::SYS_execve)]
    #[case::unshare(libc::SYS_unshare)]
    #[case::ptrace(libc::SYS_ptrace)]
    #[case::mount(libc::SYS_mount)]
    #[case::bpf(libc::SYS_bpf)]
    fn whoever_makes_a_deadly_call_dies(#[case] number: i64) {
        // SAFETY: the filter kills before the kernel looks at the arguments.
        let status = attempt(|| errno(unsafe { libc::syscall(number, 0, 0, 0, 0, 0) }));
        assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGSYS, _)), "{status:?}");
    }

    #[test]
    fn other_calls_are_refused_and_needed_ones_work() {
        // SAFETY: plain numbers and constant strings.
        unsafe {
            assert_eq!(code(attempt(|| errno(libc::fork().into()))), libc::EPERM);
            assert_eq!(code(attempt(|| errno(libc::kill(1, 0).into()))), libc::EPERM);
            let netlink = || errno(libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, 0).into());
            assert_eq!(code(attempt(netlink)), libc::EPERM);
            let raw = || errno(libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0).into());
            assert_eq!(code(attempt(raw)), libc::EPERM);
            assert_eq!(
                code(attempt(|| errno(libc::open(c"/etc/passwd".as_ptr(), libc::O_RDONLY).into()))),
                libc::EACCES
            );
            assert_eq!(code(attempt(|| errno(libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0).into()))), 0);
            assert_eq!(code(attempt(|| i32::from(std::thread::spawn(|| ()).join().is_err()))), 0);
        }
    }

    #[test]
    fn at_most_eighty_calls_are_left() {
        let numbers: std::collections::HashSet<String> =
            allowed().iter().map(|call| format!("{call:?}").split(',').next().unwrap().to_owned()).collect();
        assert!(numbers.len() <= 80, "{}", numbers.len());
    }
}
