#pragma once

#include <signal.h>
#include <sys/resource.h>

namespace rivulet::cli {

/// While it lives, no byte can be written to a file: a user's network is read and tried under it.
class WritesNothing {
 public:
  WritesNothing() {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit none{0, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &none);
    before_action_ = ::signal(SIGXFSZ, SIG_IGN);  // Else the attempt would end the process without a word.
  }
  WritesNothing(const WritesNothing&) = delete;
  WritesNothing& operator=(const WritesNothing&) = delete;
  ~WritesNothing() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, before_action_);
  }

 private:
  rlimit before_{};
  void (*before_action_)(int) = nullptr;
};

}  // namespace rivulet::cli
