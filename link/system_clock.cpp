#include "link/system_clock.h"

namespace rivulet {

Now system_now() {
  return {std::chrono::duration_cast<MonotonicTime>(std::chrono::steady_clock::now().time_since_epoch()),
          std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now())};
}

}  // namespace rivulet
