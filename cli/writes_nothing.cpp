#include "cli/writes_nothing.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <spdlog/fmt/fmt.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <exception>
#include <thread>
#include <vector>

namespace rivulet::cli {
namespace {

#if defined(__x86_64__)
constexpr std::uint32_t machine = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr std::uint32_t machine = AUDIT_ARCH_AARCH64;
#else
#error "name this machine's AUDIT_ARCH, see seccomp(2)"
#endif

/// Calls beyond are of x86-64's other ABI, under numbers of their own.
constexpr std::uint32_t numbers_end = 0x40000000;

constexpr std::uint32_t writing_flags = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND;

/// Opens a file by flags in this argument.
struct OpeningCall {
  std::uint32_t number;
  std::uint32_t flags_argument;
};

constexpr OpeningCall opening_calls[] = {
#ifdef SYS_open
    {SYS_open, 1},
#endif
    {SYS_openat, 2},
    {SYS_open_by_handle_at, 2},
};

/// What changes files by their names, and what gets around the filter: other programs, other processes'
/// memory, calls that the kernel carries out elsewhere, and the network.
constexpr std::uint32_t refused_calls[] = {
#ifdef SYS_creat
    SYS_creat,        SYS_unlink,       SYS_rmdir,    SYS_mkdir,     SYS_rename,    SYS_link,
    SYS_symlink,      SYS_mknod,        SYS_chmod,    SYS_chown,     SYS_lchown,    SYS_utime,
    SYS_utimes,       SYS_futimesat,
#endif
#ifdef SYS_renameat
    SYS_renameat,
#endif
    SYS_renameat2,    SYS_unlinkat,     SYS_mkdirat,  SYS_linkat,    SYS_symlinkat, SYS_mknodat,
    SYS_fchmodat,     SYS_fchmod,       SYS_fchownat, SYS_fchown,    SYS_utimensat, SYS_truncate,
    SYS_ftruncate,    SYS_fallocate,    SYS_setxattr, SYS_lsetxattr, SYS_fsetxattr, SYS_removexattr,
    SYS_lremovexattr, SYS_fremovexattr, SYS_execve,   SYS_execveat,  SYS_ptrace,    SYS_process_vm_writev,
    SYS_mount,        SYS_umount2,      SYS_socket,   SYS_bpf,
};

/// Refused as if the kernel were older, which C libraries know how to do without: their flags lie in memory
/// that a filter cannot look at, or their work is done by others.
constexpr std::uint32_t missing_calls[] = {
#ifdef SYS_openat2
    SYS_openat2,
#endif
#ifdef SYS_io_uring_setup
    SYS_io_uring_setup,
#endif
#ifdef SYS_fchmodat2
    SYS_fchmodat2,
#endif
};

using Filter = std::vector<sock_filter>;

sock_filter load(std::size_t offset) {
  return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(offset));
}

sock_filter answer(std::uint32_t action) { return BPF_STMT(BPF_RET | BPF_K, action); }

/// Where the accumulator is `value`, the next instructions, else those after `skipped` ones.
sock_filter if_equal(std::uint32_t value, std::uint8_t skipped) {
  return BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skipped);
}

/// The lower half of an argument on machines that are little-endian, as both above are: flags are ints.
std::size_t offset_of_argument(std::uint32_t argument) {
  return offsetof(seccomp_data, args) + sizeof(std::uint64_t) * argument;
}

Filter make_filter() {
  constexpr std::uint32_t not_permitted = SECCOMP_RET_ERRNO | EPERM;
  Filter filter = {load(offsetof(seccomp_data, arch)),
                   BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, machine, 1, 0),
                   answer(not_permitted),
                   load(offsetof(seccomp_data, nr)),
                   BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, numbers_end, 0, 1),
                   answer(not_permitted)};
  for (const OpeningCall& call : opening_calls) {
    filter.push_back(if_equal(call.number, 4));
    filter.push_back(load(offset_of_argument(call.flags_argument)));
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, writing_flags, 0, 1));
    filter.push_back(answer(not_permitted));
    filter.push_back(answer(SECCOMP_RET_ALLOW));
  }
  for (const std::uint32_t call : refused_calls) {
    filter.push_back(if_equal(call, 1));
    filter.push_back(answer(not_permitted));
  }
  for (const std::uint32_t call : missing_calls) {
    filter.push_back(if_equal(call, 1));
    filter.push_back(answer(SECCOMP_RET_ERRNO | ENOSYS));
  }
  filter.push_back(answer(SECCOMP_RET_ALLOW));
  return filter;
}

/// For this thread and those that it starts, for good.
Status give_up_writing() {
  Filter filter = make_filter();
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
      ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0)
    return {};
  return fail(Errc::unsupported,
              fmt::format("the kernel refuses a seccomp filter ({}), without which a network could write to "
                          "files: use a kernel with CONFIG_SECCOMP_FILTER, or a container that permits it",
                          std::strerror(errno)));
}

/// What is open for writing, though nothing should be, does not grow either.
class NoGrowth {
 public:
  NoGrowth() {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit none{0, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &none);
    before_action_ = ::signal(SIGXFSZ, SIG_IGN);  // Else the attempt would end the process without a word.
  }
  NoGrowth(const NoGrowth&) = delete;
  NoGrowth& operator=(const NoGrowth&) = delete;
  ~NoGrowth() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, before_action_);
  }

 private:
  rlimit before_{};
  void (*before_action_)(int) = nullptr;
};

}  // namespace

Status run_without_writing(const std::function<void()>& work) {
  const NoGrowth no_growth;
  Status status;
  std::exception_ptr thrown;
  std::thread thread([&] {
    status = give_up_writing();
    if (!status) return;
    try {
      work();
    } catch (...) {  // It is the caller's.
      thrown = std::current_exception();
    }
  });
  thread.join();
  if (thrown) std::rethrow_exception(thrown);
  return status;
}

}  // namespace rivulet::cli
