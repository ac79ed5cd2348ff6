#pragma once

#include <cstdint>
#include <optional>

namespace rivulet {

/// The most memory that this process held at once since reset(), as the kernel counts it. What it needs is
/// opened when it is made: where it is used nothing may be opened for writing any more.
class PeakMemory {
 public:
  PeakMemory();
  PeakMemory(const PeakMemory&) = delete;
  PeakMemory& operator=(const PeakMemory&) = delete;
  ~PeakMemory();

  /// From here on the peak is that since now. @return the bytes held now; nothing where the system does not
  /// allow it, and the peak is then the highest ever.
  [[nodiscard]] std::optional<std::uint64_t> reset() const;
  [[nodiscard]] static std::uint64_t bytes();

 private:
  int file_;
};

}  // namespace rivulet
