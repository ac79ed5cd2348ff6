#include "sim/world/device.h"

namespace rivulet::sim {

Result<std::shared_ptr<const node::Activation>> Device::prepare(const node::effect::Activate& task,
                                                                const node::Activation* active,
                                                                const BlobStore& blobs) {
  auto ready = node::prepare_activation(task, active, {}, blobs, engine());
  if (!ready) return std::unexpected(ready.error());
  return std::make_shared<const node::Activation>(std::move(*ready));
}

}  // namespace rivulet::sim
